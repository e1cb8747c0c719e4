"""Benchmark items that stand in the training data, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.commands.screening import Screening
from myosotis.data.sft import Example, Message
from myosotis.retention.benchmarks import build
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.contamination import contaminated, text_of, warnings
from tests.data.conftest import byte_level

QUESTIONS = [
    ("Which river runs through the old town of Prague on its way north?", "The Vltava does"),
    ("Who wrote the first published description of the forget-me-not flower?", "Nobody knows it"),
    ("How many bridges cross the narrow lake between the two small villages?", "Three of them do"),
    ("Why does bread that was frozen taste better when it is toasted?", "Its starch changes"),
]
SHORT = ("Two and two?", "Four")


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Four questions of 15 words or so with their answers, and one too short to judge."""
    import json

    lines = [json.dumps({"question": q, "answer": a}) for q, a in [*QUESTIONS, SHORT]]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    return build.build([str(tmp_path / "own.jsonl")], byte_level(), context_length=4000, items=None)


def example(text: str, where: str) -> Example:
    return Example((Message("user", "Tell me."), Message("assistant", text)), where)


def number_of(suite: Suite, question: str) -> str:
    return next(item.id for item in suite.items if question in item.prompt)


def test_the_text_of_an_item_is_its_question_and_right_answer(suite: Suite) -> None:
    texts = {text_of(item) for item in suite.items}
    assert "Question: Two and two?\nAnswer: Four" in texts


def test_an_item_that_was_copied_is_found_whatever_stands_around_it(suite: Suite) -> None:
    """Case, punctuation and line breaks aside: 13 of 18 words lie in runs of eight."""
    question = QUESTIONS[0][0]
    copied = f"Exam. {question.upper().replace(' ', chr(10))} I do not remember."
    (found,) = contaminated(suite, ["nothing", copied], ["f:1", "f:2"])
    item = number_of(suite, question)
    assert (found.n, found.judged) == (5, 4)
    assert dict(found.items) == {item: pytest.approx(13 / 18)} and found.where == {item: "f:2"}
    (said,) = warnings([found])
    assert said.startswith("own: 1 of 4 items (by runs of 8 words) stand in the training data")
    assert f"item {item} in f:2" in said and "retention.contaminated=exclude" in said


def test_a_quotation_of_a_few_words_is_not_enough(suite: Suite) -> None:
    """8 of 18 words."""
    quoted = " ".join(QUESTIONS[0][0].split()[:8])
    (found,) = contaminated(suite, [quoted])
    assert not found.items and warnings([found]) == []


def test_what_all_items_share_is_the_form_of_the_benchmark(tmp_path: Path) -> None:
    import json

    form = "Please read the following sentence with care and say whether it is true:"
    rows = [{"prompt": f"{form} {w} {w}x {w}y", "answer": "yes"} for w in "abcdefghijkl"]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    suite = build.build([str(tmp_path / "own.jsonl")], byte_level(), context_length=4000)
    (found,) = contaminated(suite, [f"{form} something else entirely, and more words after it"])
    assert not found.items


def test_screening_leaves_contaminated_items_out_and_keeps_what_was_asked(suite: Suite) -> None:
    copied = example(QUESTIONS[1][0], "f:7")
    first = suite.where(lambda item: item.id in {suite.items[0].id, suite.items[1].id})
    kept = Screening([copied], exclude=False)
    assert kept.screened(suite) is suite and len(kept.rows["own"].items) == 1
    out = Screening([copied], exclude=True)
    asked = {item.id for item in out.screened(first).items}
    later = {item.id for item in out.screened(suite).items}
    assert asked <= later and number_of(suite, QUESTIONS[1][0]) not in later and len(later) == 4
    assert out.rows["own"].n == 5 and out.rows["own"].excluded
    assert "they are left out" in out.warnings()[0]
