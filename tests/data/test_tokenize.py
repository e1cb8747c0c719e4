"""What does not fit is dropped or cut as asked, and always counted."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example, Message
from myosotis.data.tokenize import encode


@pytest.fixture
def template(tokenizer: PreTrainedTokenizerFast) -> ChatRenderer:
    return ChatRenderer(tokenizer, "none")


def example(prompt: str, answer: str, where: str = "f:1") -> Example:
    return Example((Message("user", prompt), Message("assistant", answer)), where)


# Digits are one token each, and an end of sequence follows: 4 + 3 + 1 = 8 tokens.
EIGHT = example("1234", "567")


def test_what_fits_is_whole(template: ChatRenderer) -> None:
    encoded = encode([EIGHT], template, max_length=8)
    assert len(encoded.trees[0]) == 8 and encoded.trees[0].scored == 4
    assert encoded.lengths == [(4, 4)] and encoded.warnings("train") == []
    assert encoded.counts() == {
        "given": 1,
        "kept": 1,
        "dropped": 0,
        "truncated": 0,
        "tokens": 8,
        "scored_tokens": 4,
    }


def test_what_is_too_long_is_dropped_and_told(template: ChatRenderer) -> None:
    encoded = encode([EIGHT, example("1", "2", "f:2")], template, max_length=7)
    assert [e.where for e in encoded.examples] == ["f:2"]
    assert encoded.dropped == ["f:1"] and encoded.lengths == [(4, 4), (1, 2)]
    assert encoded.warnings("train") == [
        "1 of 2 train examples dropped (longer than 7 tokens): f:1"
    ]


def test_truncation_cuts_the_end_of_the_answer(template: ChatRenderer) -> None:
    """The end-of-turn token goes with it: the model does not learn to stop in mid-sentence."""
    encoded = encode([EIGHT], template, max_length=6, overlong="truncate")
    assert template.decode(encoded.trees[0].ids.tolist(), control=True) == "123456"
    assert encoded.trees[0].scored == 2
    assert encoded.warnings("test") == [
        "1 of 1 test examples truncated to 6 tokens, the end of the answer cut: f:1"
    ]


@pytest.mark.parametrize("limit", [2, 4])
def test_a_prompt_is_never_cut(template: ChatRenderer, limit: int) -> None:
    encoded = encode([EIGHT], template, max_length=limit, overlong="truncate")
    assert encoded.trees == [] and encoded.prompt_too_long == 1
    assert "1 of them in the prompt alone" in encoded.warnings("train")[0]


def test_progress_counts_every_example(template: ChatRenderer) -> None:
    done: list[Any] = []
    encode([EIGHT] * 70, template, max_length=8, advance=done.append)
    assert sum(done) == 70
