"""BM25 by hand, and which solved examples a question gets."""

from __future__ import annotations

import math

import pytest

from myosotis.data.retrieve import BM25, retrieve
from myosotis.data.sft import Example, Message


def test_scores_by_hand() -> None:
    """Three texts of 2, 2 and 5 words, 3 on average. "cat" is in two of them: idf = ln(1 + 1.5/2.5)
    = 0.4700. The first: 1 · 2.2 / (1 + 1.2·(0.25 + 0.75·2/3)) = 2.2/1.9; the third has it twice,
    2 · 2.2 / (2 + 1.2·(0.25 + 0.75·5/3)) = 4.4/3.8: as much."""
    index = BM25(["a cat", "a dog", "Cat, cat! and a bird"])
    idf = math.log(1.6)
    assert index.scores("cat").tolist() == pytest.approx([idf * 2.2 / 1.9, 0.0, idf * 4.4 / 3.8])
    assert index.scores("the cat CAT")[0] == pytest.approx(2 * idf * 2.2 / 1.9)
    assert index.best("dog", 2) == [1, 0], "among equals the first"


def ask(question: str, answer: str) -> Example:
    return Example((Message("user", question), Message("assistant", answer)), "here")


def test_a_question_gets_those_most_like_it() -> None:
    solved = [ask("capital of France", "Paris"), ask("sum of two", "4"), ask("sum of six", "12")]
    (first, second) = retrieve([ask("the sum of six?", "?"), ask("capital", "?")], solved, 2)
    assert [one.completion for one in first] == ["12", "4"]
    assert second[0].completion == "Paris"
    assert retrieve([ask("x", "y")], solved, 0) == []
