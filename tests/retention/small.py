"""Small benchmarks, a byte tokenizer and tiny models for the tests of this folder."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from myosotis.retention.benchmarks import build as suites
from myosotis.retention.benchmarks.measure import measure
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer


def byte_tokenizer(chat: bool = False) -> hf.PreTrainedTokenizerFast:
    """One token a byte; `<s>` is both BOS and EOS and is not added by itself."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(letters)}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<s>")
    if chat:
        tokenizer.chat_template = (
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}"
        )
    return tokenizer


def tiny_model(context: int = 512, dtype: torch.dtype = torch.float64) -> Any:
    """A random Llama over bytes."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        pad_token_id=None,
        bos_token_id=256,
        eos_token_id=256,
    )
    return hf.AutoModelForCausalLM.from_config(config).to(dtype).eval()


def tiny_scorer(context: int = 512, dtype: torch.dtype = torch.float64) -> Scorer:
    return Scorer(tiny_model(context, dtype), PackingMode("dense", "a test"), row_tokens=128)


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def hellaswag_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "ind": i,
            "activity_label": "Baking",
            "ctx_a": f"Cook {i} mixes flour.",
            "ctx_b": "she",
            "ctx": "",
            "endings": [f"stirs {i} times.", "leaves.", "sings a long song.", "eats."],
            "label": str(i % 4),
        }
        for i in range(count)
    ]


def arc_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}",
            "question": f"What is {i} plus one?",
            "choices": {"text": [str(i + 1), str(i), "none"], "label": ["A", "B", "C"]},
            "answerKey": "A",
        }
        for i in range(count)
    ]


def benchmark_folder(folder: Path, count: int = 12) -> Path:
    """A `retention.data_dir` with a small file for each kind of task."""
    write(folder / "hellaswag" / "validation.jsonl", hellaswag_rows(count))
    write(folder / "arc_easy" / "validation.jsonl", arc_rows(count))
    texts = [{"text": f"The dog of house {i} likes its bone"} for i in range(count)]
    write(folder / "lambada_openai" / "test.jsonl", texts)
    pages = [{"page": f" = Page {i} = \n" + "A river runs by . " * (1 + 9 * i)} for i in range(4)]
    write(folder / "wikitext" / "test.jsonl", pages)
    return folder


def first(suite: Suite, count: int) -> Suite:
    """The first `count` items of each task: a smaller draw with the same seed."""
    return replace(suite, tasks=tuple(replace(t, items=t.items[:count]) for t in suite.tasks))


def right_by_definition(model: Path, folder: Path, count: int) -> Path:
    """A `retention.data_dir` with `count` questions (arc_easy) that `model` answers rightly.

    A random model answers at chance whatever is done to it; on these it scores 1.0, and a training
    that shakes it forgets. The answers are random letters, so that no habit answers them all.
    """
    path, rows, dice = folder / "arc_easy" / "validation.jsonl", arc_rows(count), random.Random(0)
    for row in rows:
        row["choices"]["text"] = ["".join(dice.choices(ascii_lowercase, k=4)) for _ in "ABC"]
    write(path, rows)
    tokenizer = hf.AutoTokenizer.from_pretrained(model)
    suite = suites.build(
        ["arc_easy"], tokenizer, context_length=512, items=count, locator=DataLocator(folder)
    )
    weights = hf.AutoModelForCausalLM.from_pretrained(model).eval()
    scorer = Scorer(weights, PackingMode("dense", "a test"), row_tokens=512)
    task = measure(suite, scorer)["arc_easy"]
    for item, choice in zip(task.items, task.choice, strict=True):
        rows[int(item.split("-")[0])]["answerKey"] = "ABC"[choice]
    write(path, rows)
    return folder
