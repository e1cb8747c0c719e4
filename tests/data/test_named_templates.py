"""Templates by name: what each writes, what ends its turns, and that the answers are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.named_templates import ENDS, choose_template
from myosotis.data.sft import Example, Message
from myosotis.data.template_text import TemplateOptions
from myosotis.utils.errors import ConfigError, DataError
from tests.data.conftest import byte_level
from tests.data.test_chat_template import CALLS, TOOLS, chat, scored, texts

MARKERS = [*dict.fromkeys(ENDS.values()), "<|im_start|>", "<start_of_turn>", "<|user|>"]


def knowing(*markers: str, bos: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer without a template that has these markers as tokens, and `</s>` as its end."""
    tokenizer = byte_level(None, special=("<s>", "</s>", "<pad>"))
    tokenizer.add_tokens([AddedToken(m, special=True) for m in markers], special_tokens=True)
    if bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    return tokenizer


def renderer(name: str, tokenizer: PreTrainedTokenizerFast, **options: Any) -> ChatRenderer:
    chosen = choose_template(tokenizer, name, [])
    return ChatRenderer(chosen.tokenizer, chosen.kind, TemplateOptions(**options))


WRITTEN = {
    "chatml": "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
    "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
    "<|im_start|>assistant\nd<|im_end|>",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\ns<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nd<|eot_id|>",
    "mistral": "[INST] s\n\na [/INST] b</s>[INST] c [/INST] d</s>",
    "gemma": "<start_of_turn>user\ns\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n"
    "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\nd<end_of_turn>",
    "alpaca": "s\n\n### Instruction:\na\n\n### Response:\nb</s>"
    "\n\n### Instruction:\nc\n\n### Response:\nd</s>",
    "phi": "<|system|>\ns<|end|>\n<|user|>\na<|end|>\n<|assistant|>\nb<|end|>\n"
    "<|user|>\nc<|end|>\n<|assistant|>\nd<|end|>",
    "plain": "s\n\nUser: a\n\nAssistant: b</s>\n\nUser: c\n\nAssistant: d</s>",
}


def whole(template: ChatRenderer, example: Example) -> str:
    return "".join(span.text for span in template.spans(example))


@pytest.mark.parametrize("name", sorted(ENDS))
def test_what_each_writes(name: str) -> None:
    """As published for Qwen, Llama 3, Mistral, Gemma, Alpaca and Phi 3."""
    example = Example((Message("system", "s"), *chat("a", "b", "c", "d").messages), "")
    template = renderer(name, knowing(*MARKERS))
    assert whole(template, example) == WRITTEN[name]
    lead = " " if name in ("mistral", "plain") else ""
    assert scored(template, example) == f"{lead}b{ENDS[name]}{lead}d{ENDS[name]}"
    assert template.end_ids() == [template.tokenizer.convert_tokens_to_ids(ENDS[name])]
    assert template.rendered(example).notes == []


def test_the_names_are_the_files() -> None:
    import myosotis.data as package

    folder = Path(str(package.__file__)).parent / "templates"
    assert sorted(ENDS) == sorted(WRITTEN) == sorted(file.stem for file in folder.iterdir())


@pytest.mark.parametrize("name", sorted(ENDS))
def test_a_marker_that_is_only_letters_ends_no_turn(name: str) -> None:
    """The model's end of sequence does, after every answer: generation stops there."""
    chosen = choose_template(knowing(), name, [])
    template = ChatRenderer(chosen.tokenizer)
    lead = " " if name in ("mistral", "plain") else ""
    assert scored(template, chat("a", "b", "c", "d")) == f"{lead}b</s>{lead}d</s>"
    assert template.end_ids() == [template.tokenizer.eos_token_id]
    assert ("</s> ends a turn, not" in chosen.note) == (ENDS[name] != "</s>")


@pytest.mark.parametrize("name", sorted(ENDS))
@pytest.mark.parametrize("bos", [True, False])
def test_the_beginning_of_sequence_stands_once_and_only_where_the_tokenizer_puts_it(
    name: str, bos: bool
) -> None:
    """In training, in what `apply_chat_template` renders for others, and before a benchmark."""
    template = renderer(name, knowing(*MARKERS, bos=bos))
    tokenizer: Any = template.tokenizer
    ids = list(template.render(chat("a", "b")).ids)
    served = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], return_dict=False)
    for one in (ids, served, tokenizer("a question")["input_ids"]):
        assert one.count(tokenizer.bos_token_id) == int(bos)
        assert (one[0] == tokenizer.bos_token_id) == bos


turns = st.lists(texts, min_size=2, max_size=6).filter(lambda said: len(said) % 2 == 0)
KNOWING = {
    (name, known): renderer(name, knowing(*MARKERS) if known else knowing())
    for name in ENDS
    for known in (True, False)
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", sorted(ENDS))
@given(turns, st.none() | texts)
@settings(max_examples=25, deadline=None)
def test_what_is_scored_decodes_to_the_answers(
    name: str, known: bool, said: list[str], system: str | None
) -> None:
    """Of random conversations, each followed by its end; and prompts are the start of examples."""
    template = KNOWING[name, known]
    end = ENDS[name] if known else "</s>"
    opening = () if system is None else (Message("system", system),)
    example = Example((*opening, *chat(*said).messages), "f:1")
    answers = said[1::2]
    if name in ("gemma", "llama3"):  # they trim, as published
        answers = [answer.strip() for answer in answers]
    lead = " " if name in ("mistral", "plain") else ""
    path = template.render(example)
    assert scored(template, example) == "".join(f"{lead}{answer}{end}" for answer in answers)
    for i, message in enumerate(example.messages):
        if message.role == "assistant":
            prompt = template.prompt(example.messages[:i])
            assert path.ids[: len(prompt)] == prompt and path.weights[len(prompt)] == 1


# Which template is used.


def test_a_model_without_a_template_gets_one_for_chats_and_none_for_prompts() -> None:
    pairs, chats = [chat("a", "b")], [chat("a", "b"), chat("a", "b", "c", "d")]
    assert choose_template(byte_level(None), "chat", pairs).text == ""
    chosen = choose_template(byte_level(None), "chat", chats)
    assert "data.template=plain: the tokenizer has no chat template" in chosen.note
    assert chosen.tokenizer.chat_template == chosen.text != ""
    assert whole(ChatRenderer(chosen.tokenizer), chats[1]).startswith("User: a\n\nAssistant: b")
    own = choose_template(byte_level(), "chat", chats)
    assert own.text == own.note == "" and own.kind == "chat"
    replaced = choose_template(byte_level(), "phi", chats)
    assert "takes the place of the model's own chat template" in replaced.note
    assert choose_template(byte_level(), "none", chats).kind == "none"


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    template = renderer(str(file), byte_level(None))
    assert whole(template, chat("a", "b")) == "user: a<|im_end|>assistant: b<|im_end|>"
    assert scored(template, chat("a", "b")) == "b<|im_end|>"


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.template=chatlm is not known") as caught:
        choose_template(byte_level(), "chatlm", [])
    assert "chatml" in caught.value.hint
    with pytest.raises(ConfigError, match="there is no file"):
        choose_template(byte_level(), str(tmp_path / "none.jinja"), [])
    bare = byte_level(None)
    bare.eos_token = None
    with pytest.raises(DataError, match="no end of sequence"):
        choose_template(bare, "phi", [])


def test_chatml_writes_tools_calls_and_reasoning() -> None:
    turns = (
        Message("user", "a"),
        Message("assistant", "", calls=CALLS, reasoning="hm"),
        Message("tool", "3"),
        Message("assistant", "b"),
    )
    template = renderer("chatml", knowing(*MARKERS))
    example = Example(turns, "f:1", tools=TOOLS)
    call = '{"name": "add", "arguments": {"a": 2, "b": "one more"}}'
    assert scored(template, example) == (
        f"<think>\nhm\n</think>\n\n<tool_call>\n{call}\n</tool_call><|im_end|>b<|im_end|>"
    )
    assert '<tools>\n{"type": "function"' in whole(template, example)
    with pytest.raises(DataError, match=r"f:1: .* no role tool"):
        renderer("phi", knowing(*MARKERS)).render(example)


# Masks.


def test_masks() -> None:
    four = chat("a", "b", "c", "d")
    marked = {m: renderer("phi", knowing(*MARKERS), mask=m) for m in ("answers", "last", "full")}
    assert scored(marked["answers"], four) == "b<|end|>d<|end|>"
    assert scored(marked["last"], four) == "d<|end|>"
    everything = whole(marked["full"], four)
    assert scored(marked["full"], four) == everything.removeprefix("<|user|>")
    assert scored(marked["full"].of_answers(), four) == "b<|end|>d<|end|>"
    ids = [list(template.render(four).ids) for template in marked.values()]
    assert ids[0] == ids[1] == ids[2]


def test_what_a_record_marks_as_read_is_learned_by_no_mask() -> None:
    first, second, third, fourth = chat("a", "b", "c", "d").messages
    read = Message("assistant", second.content, scored=False)
    example = Example((Message("user", "a", False), read, third, fourth), "f:2")
    full = renderer("phi", knowing(*MARKERS), mask="full")
    assert scored(full, example) == "\n<|user|>\nc<|end|>\n<|assistant|>\nd<|end|>"
    ended = Example((first, second, third, Message("assistant", "d", scored=False)), "f:3")
    with pytest.raises(DataError, match=r"f:3: data.mask=last .* leave nothing"):
        renderer("phi", knowing(*MARKERS), mask="last").render(ended)
    with pytest.raises(ConfigError, match=r"data.mask=all"):
        TemplateOptions(mask="all")  # type: ignore[arg-type]


# A template whose stop token opens the next turn: GLM-4's, shortened.

GLM = (
    "[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def glm() -> ChatRenderer:
    roles = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
    tokenizer = knowing(*roles)
    tokenizer.chat_template = GLM
    return ChatRenderer(tokenizer)


def test_the_token_that_opens_the_next_turn_ends_the_answer() -> None:
    """GLM stops at `<|user|>`, which its template writes before the next question alone; what
    follows a call is `<|observation|>`. Each is learned after every answer, the last one too."""
    template = glm()
    assert scored(template, chat("a", "b")) == "b<|user|>"
    assert scored(template, chat("a", "b", "c", "d")) == "b<|user|>d<|user|>"
    first, second, third, fourth = chat("a", "b", "c", "d").messages
    observed = Example((first, second, Message("observation", "3"), fourth), "")
    assert scored(template, observed) == "b<|observation|>d<|user|>"
    unscored = Example((first, Message("assistant", "b", False), third, fourth), "")
    assert scored(template, unscored) == "d<|user|>"
    assert template.end_ids() == [template.tokenizer.convert_tokens_to_ids("<|user|>")]


@given(turns)
@settings(max_examples=50, deadline=None)
def test_there_too_prompts_are_the_start_of_examples(said: list[str]) -> None:
    template = GLM_RENDERER
    example = chat(*said)
    path = template.render(example)
    assert scored(template, example) == "".join(f"{answer}<|user|>" for answer in said[1::2])
    for i in range(1, len(said), 2):
        prompt = template.prompt(example.messages[:i])
        assert path.ids[: len(prompt)] == prompt


GLM_RENDERER = glm()
