"""The audit: its numbers, and that text out of the data cannot act on the terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from myosotis.data import audit, audit_view
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule
from myosotis.data.example import Dataset
from myosotis.data.sft import Example, Message
from tests.data.conftest import byte_level

CHAT = ChatRenderer(byte_level())
PLAIN = ChatRenderer(byte_level(), "none")


def pair(prompt: str, answer: str, where: str) -> Example:
    return Example((Message("user", prompt), Message("assistant", answer)), where)


def report(template: ChatRenderer = PLAIN, max_length: int = 64, **parts: list[Example]) -> Any:
    dataset = Dataset("mine", parts["train"], parts.get("validation", []), parts.get("test", []))
    return audit.inspect(ExampleModule(dataset, template, batch_size=2, max_length=max_length))


def drawn(found: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(audit_view.show(found))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_lengths_and_budget() -> None:
    """Digits are a token each: (2, 1 + end) and (4, 3 + end), 4 and 8 tokens, 2 and 4 scored."""
    found = report(train=[pair("12", "3", "f:1"), pair("1234", "567", "f:2")])
    lengths = found["parts"]["train"]["lengths"]
    assert lengths["prompt"] == {"p50": 3, "p95": 3, "max": 4}
    assert lengths["answer"]["max"] == 4 and lengths["total"]["max"] == 8
    bins = lengths["histogram"]
    assert (bins[0]["from"], bins[-1]["to"]) == (4, 8) and sum(b["count"] for b in bins) == 2
    assert found["budget"] == {
        "batch_size": 2,
        "steps_per_epoch": 1,
        "tokens_per_epoch": 12,
        "scored_tokens_per_epoch": 6,
        "scored_share": 0.5,
        "tokens_per_step": 12,
    }
    assert found["warnings"] == []
    json.dumps(found)
    text = drawn(found)
    assert "No duplicates, no leakage" in text and "12⟦3<|im_end|>⟧" in text


def test_duplicates_and_leakage() -> None:
    train = [pair("a", "b", "f:1"), pair("c", "d", "f:2"), pair("a", "b", "f:3")]
    held_out = [pair("a", "other", "g:1"), pair("c", "d", "g:2"), pair("e", "f", "g:3")]
    found = report(train=train, test=held_out)
    assert found["duplicates"] == {"groups": 1, "surplus": 1, "where": [["f:1", "f:3"]]}
    assert found["leakage"]["test"] == {
        "prompts": 2,
        "pairs": 1,
        "where": [["g:1", "f:1"], ["g:2", "f:2"]],
    }
    assert found["leakage"]["validation"]["prompts"] == 0
    text = " ".join(drawn(found).split())
    assert "training examples that repeat another exactly: 1, such as f:1, f:3" in text
    assert "test prompts that are also trained on: 2 (1 with the same answer)" in text


def test_what_does_not_fit_is_shown() -> None:
    found = report(max_length=6, train=[pair("12", "3", "f:1"), pair("1234", "567", "f:2")])
    assert found["parts"]["train"]["dropped"] == 1
    assert "1 of 2 train examples dropped (longer than 6 tokens): f:2" in found["warnings"]


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_tokens_put_together_are_the_text(prompt: str, answer: str) -> None:
    """Characters of several tokens are not broken into replacement characters."""
    pieces = list(audit.tokens(CHAT.render(pair(prompt, answer, "")), CHAT))
    assert "".join(text for text, scored, _ in pieces if scored) == answer + "<|im_end|>"
    assert prompt in "".join(text for text, _, _ in pieces)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a↵\nb"),
        ("\t", "⇥"),
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("\u202eabc", "⟨U+202E⟩abc"),
        ("\u200b\r", "⟨U+200B⟩⟨U+000D⟩"),
        ("é🌼 [bold]", "é🌼 [bold]"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert audit_view.visible(text) == shown


def test_text_of_the_data_is_neither_markup_nor_an_escape() -> None:
    hostile = "[red]x[/red] [/] \x1b]0;title\x07 [link=http://x]y[/link]"
    text = drawn(report(max_length=400, train=[pair(hostile, hostile, "[b]f[/b]:1")]))
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]x[/red] [/] ⟨U+001B⟩]0;title⟨U+0007⟩" in text and "[b]f[/b]:1" in text


def test_a_truncated_example_is_shown_as_the_model_sees_it() -> None:
    dataset = Dataset("mine", [pair("12", "345", "f:1")], [], [])
    module = ExampleModule(dataset, PLAIN, batch_size=1, max_length=4, overlong="truncate")
    assert "12⟦34⟧" in drawn(audit.inspect(module))


def test_long_examples_are_shown_in_part() -> None:
    found = report(max_length=2000, train=[pair("1" * 900, "2" * 90, "f:1")])
    assert "… 591 tokens …" in drawn(found)  # 900 + 90 + 1 - 400


def test_a_data_set_without_held_out_parts() -> None:
    found = report(train=[pair("a", "b", "f:1")])
    assert found["parts"]["test"]["lengths"] == {}
    assert "mine" in drawn(found)


def test_both_sides_of_a_pair_are_shown() -> None:
    rows = [replace(pair(f"q{k}", "aa", f"f:{k}"), rejected="b") for k in range(3)]
    dataset = Dataset("pairs", rows, rows[:1], rows[:1], {"identical": ["f:9"]})
    module = ExampleModule(dataset, PLAIN, batch_size=2, max_length=64)
    found = audit.inspect(module, samples=1)
    assert [side["where"] for side in found["samples"]] == ["f:0, chosen", "f:0, rejected"]
    scored = ["".join(t for t, s, c in side["tokens"] if s and not c) for side in found["samples"]]
    assert scored == ["aa", "b"]
    assert any(
        "because both answers are the same: 1, such as f:9" in line for line in found["warnings"]
    )
