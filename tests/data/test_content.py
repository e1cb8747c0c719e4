"""What the texts of a data set hold."""

from __future__ import annotations

import pytest

from myosotis.data import content
from myosotis.data.sft import Example, Message


def pair(prompt: str, answer: str, where: str = "f:1") -> Example:
    return Example((Message("user", prompt), Message("assistant", answer)), where)


LONG = "a sentence of more than twenty words is what most of these answers are made of " * 2


def test_words_are_counted_on_both_sides() -> None:
    found = content.survey([pair("one two", "three"), pair("four", "five six seven")])
    assert (found["words"], found["answer_words"], found["examples"]) == (7, 4, 2)
    assert found["median_answer_words"] == 2


def test_distinct_n_by_hand() -> None:
    """ "a b a b": 2 different words of 4; the pairs ab, ba, ab: 2 of 3."""
    assert content.survey([pair("q", "a b a b")])["distinct"] == [2 / 4, 2 / 3]


def test_openings_are_counted_by_their_first_two_words() -> None:
    rows = [pair("Write a poem", "x"), pair("write a song", "y"), pair("List three", "z")]
    found = content.survey(rows)["openings"]
    assert found == {"different": 2, "first": [["write a", 2], ["list three", 1]]}


@pytest.mark.parametrize(
    ("prompt", "answer", "harm"),
    [
        ("q", " \n", "training answers without a word: 1, such as f:9"),
        (
            "What is the capital of France?",
            "What is the capital of France? It is Paris.",
            "training answers that begin by repeating the question: 1, such as f:9",
        ),
        ("q", "caf\u00c3\u00a9", "UTF-8 that was read as Latin-1"),
        ("q", "it\u00e2\u20ac\u2122s", "UTF-8 that was read as Latin-1"),
        ("q", "lost \ufffd here", "where a decoder lost text"),
        ("q", "fish &amp; chips", "entities of HTML"),
        ("a\x0bb", "x", "control characters"),
    ],
)
def test_what_does_harm_is_named_with_its_place(prompt: str, answer: str, harm: str) -> None:
    found = content.warnings(content.survey([pair("good", "fine"), pair(prompt, answer, "f:9")]))
    assert len(found) == 1 and harm in found[0] and "f:9" in found[0]


def test_clean_text_has_no_warning() -> None:
    texts = ["Ça va? Über Âme – naïve façade", "R&D; AT&T", "A\tb\nc\r\n", "Â"]
    assert content.warnings(content.survey([pair(text, text[::-1]) for text in texts])) == []


def test_a_short_answer_is_absurd_only_among_long_ones() -> None:
    long = [pair(f"q{k}", f"{LONG}{k}", f"f:{k}") for k in range(5)]
    (said,) = content.warnings(content.survey([*long, pair("q", "No.", "f:9")]))
    assert said.startswith("training answers of fewer than 3 words where half have 33 or more: 1")
    labels = [pair(f"q{k}", "yes", f"f:{k}") for k in range(5)]
    assert content.warnings(content.survey(labels)) == []


def test_an_answer_that_stands_everywhere_is_told() -> None:
    same = [pair(f"q{k}", LONG, f"f:{k}") for k in range(10)]
    (said,) = content.warnings(content.survey(same))
    assert said == "one answer stands 10 times among 10 training examples, first in f:0"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The house is near the river and it is old.", "English"),
        ("Das Haus steht nicht auf dem Berg und ist alt.", "German"),
        ("La maison est dans la rue avec les arbres.", "French"),
        ("今天天气很好", "Chinese characters"),
        ("Привет, как дела", "Cyrillic"),
        ("def f(x): return x", "unclear"),
    ],
)
def test_languages_are_told_by_grammar_or_script(text: str, language: str) -> None:
    assert content.language(text) == language
