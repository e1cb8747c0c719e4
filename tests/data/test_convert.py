"""Graded answers: both grades on every side, and what cannot be told apart is said in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from myosotis.data.convert import viewed
from myosotis.data.datamodule import left_aside
from myosotis.data.example import Dataset
from myosotis.data.sources import files
from myosotis.utils.errors import DataError


@pytest.fixture
def graded(tmp_path: Path) -> Callable[..., Dataset]:
    """`count` graded answers to as many prompts, of which those numbers in `right` are desirable;
    read, split and seen as grades."""

    def make(count: int, right: set[int], data_kind: str = "grades", same: bool = False) -> Dataset:
        lines = [
            {"prompt": "q" if same else f"q{i}", "completion": f"a{i}", "label": i in right}
            for i in range(count)
        ]
        path = tmp_path / "graded.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        return viewed(files(path, reads="grades", name="mine"), data_kind, "kto")

    return make


@pytest.mark.parametrize("right", [{0, 1, 2}, {7, 30, 59}, set(range(3, 60))])
def test_each_part_holds_both_grades_where_there_are_three(
    graded: Callable[..., Dataset], right: set[int]
) -> None:
    """Of the rarer grade one each; a tenth of 60 is held out as before, in halves."""
    data = graded(60, right)
    rarer = len(right) < 30
    for part in data.parts().values():
        assert [e.desirable for e in part].count(rarer) == 1
    assert [len(part) for part in data.parts().values()] == [54, 3, 3]
    (told,) = left_aside(data.manifest)
    assert told.startswith(f"1 of 54 training answers have label {str(rarer).lower()}: too few")


def test_answers_of_one_prompt_stay_together(tmp_path: Path) -> None:
    lines = [
        {"prompt": f"q{i // 2}", "completion": f"a{i}", "label": i in (1, 20, 41, 60)}
        for i in range(80)
    ]
    (tmp_path / "g.jsonl").write_text("\n".join(map(json.dumps, lines)))
    parts = files(tmp_path / "g.jsonl", reads="grades").parts().values()
    prompts = [{e.prompt[0].content for e in part} for part in parts]
    assert not prompts[0] & prompts[1] and not prompts[1] & prompts[2]
    assert all({e.desirable for e in part} == {True, False} for part in parts)


def test_enough_of_both_is_no_warning(graded: Callable[..., Dataset]) -> None:
    assert left_aside(graded(60, set(range(0, 60, 2))).manifest) == []


def test_all_of_one_grade(graded: Callable[..., Dataset]) -> None:
    held_out, told = left_aside(graded(60, set(range(60))).manifest)
    assert held_out.startswith("all 3 answers of the test part have label true")
    assert told == ("0 of 54 training answers have label false: there is nothing to be told apart")
    with pytest.raises(DataError, match=r"mine: none of 54 answers of the train part is one to"):
        graded(60, set())
    with pytest.raises(DataError, match=r"no answer of the train part is one to give"):
        graded(60, set(), "answers")


def test_a_held_out_part_that_is_too_small_is_named_with_the_key(
    graded: Callable[..., Dataset],
) -> None:
    """A tenth of 20 is 2: one answer a half, and none to another prompt to compare it with."""
    with pytest.raises(DataError, match=r"the validation part is too small: it holds 1") as caught:
        graded(20, set(range(10)))
    assert "data.val_path=FILE" in caught.value.hint and "data.val_fraction" in caught.value.hint
    with pytest.raises(DataError, match=r"the train part .* 54 graded answers, all to one prompt"):
        graded(60, set(range(0, 60, 2)), same=True)
