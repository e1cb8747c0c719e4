"""A group (a hospital, an author) lies on one side, and is the cluster of the statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.data.example import Dataset, clusters
from myosotis.data.sft import Example, Message
from myosotis.data.sources import files
from myosotis.data.splits import hold_out, named_group
from myosotis.utils.errors import DataError


def write(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def visits(hospitals: int, each: int, key: str = "hospital") -> list[dict[str, Any]]:
    return [
        {"prompt": f"{h} case {i}", "completion": "x", key: h}
        for h in range(hospitals)
        for i in range(each)
    ]


def groups(data: Dataset) -> list[set[str | None]]:
    return [{named_group(e) for e in part} for part in data.parts().values()]


@pytest.mark.parametrize(("key", "words"), [("hospital", {"group_key": "hospital"}), ("group", {})])
def test_no_group_is_on_two_sides(tmp_path: Path, key: str, words: dict[str, Any]) -> None:
    data = files(write(tmp_path, *visits(20, 10, key)), **words)
    learned, validated, tested = groups(data)
    assert learned and validated and tested and None not in learned
    assert not (learned & validated or learned & tested or validated & tested)
    assert data.manifest["held_out_by"] == "group and opening"
    assert data.manifest["files"][0]["unused"] == {}
    assert set(clusters(data.train)) == learned


def test_the_key_may_lie_inside_an_object_whose_rest_is_named(tmp_path: Path) -> None:
    records = [
        {"prompt": f"q{i}", "completion": "x", "meta": {"site": i % 9, "when": 1}, "group": "other"}
        for i in range(36)
    ]
    data = files(write(tmp_path, *records), group_key="meta.site")
    assert sum(map(len, groups(data))) == 9
    assert data.manifest["files"][0]["unused"] == {"meta.when": 36, "group": 36}


def test_a_record_without_the_key_is_refused(tmp_path: Path) -> None:
    records = [*visits(3, 3), {"prompt": "q", "completion": "a", "hospitl": 1}]
    with pytest.raises(DataError, match=r"mine.jsonl:10: no field 'hospital'"):
        files(write(tmp_path, *records), group_key="hospital")
    with pytest.raises(DataError, match="'hospital' is a list; expected the name of a group"):
        files(write(tmp_path, visits(1, 1)[0] | {"hospital": [1]}), group_key="hospital")


def test_too_few_groups_are_told_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.group_key=hospital names 2 groups .* 3 are needed"):
        files(write(tmp_path, *visits(2, 20)), group_key="hospital")


def test_one_prompt_for_all_does_not_put_the_groups_together(tmp_path: Path) -> None:
    records = [
        {"prompt": "Write a line.", "completion": f"line {h} {i}", "hospital": h}
        for h in range(12)
        for i in range(5)
    ]
    data = files(write(tmp_path, *records), group_key="hospital")
    learned, validated, tested = groups(data)
    assert data.manifest["held_out_by"] == "group and pair"
    assert not (learned & validated or learned & tested or validated & tested)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.none() | st.integers(0, 6)),
        min_size=6,
    ),
    st.integers(0, 4),
)
@settings(max_examples=150, deadline=None)
def test_of_any_records_no_group_is_on_both_sides(
    records: list[tuple[str, str, int | None]], seed: int
) -> None:
    examples = [
        Example(
            (Message("user", prompt), Message("assistant", answer)),
            f"f:{i}",
            groups=() if group is None else (str(group),),
        )
        for i, (prompt, answer, group) in enumerate(records)
    ]
    named = {named_group(e) for e in examples} - {None}
    if len(named) < 2:
        return
    stay, taken, by = hold_out(examples, 2, seed)
    assert by.startswith("group") and len(stay) + len(taken) == len(examples) and stay
    sides = [{named_group(e) for e in side} - {None} for side in (stay, taken)]
    assert not sides[0] & sides[1]


def test_a_small_file_holds_out_two_and_two(tmp_path: Path) -> None:
    """A tenth of 24 is two, of which one would test: task quality needs two."""
    data = files(write(tmp_path, *visits(24, 1)))
    assert [len(part) for part in data.parts().values()] == [20, 2, 2]
