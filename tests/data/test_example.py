"""What examples share with each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from myosotis.data.example import clusters, effective
from myosotis.data.sft import Example, Message, read_answers


def example(*groups: str) -> Example:
    return Example((Message("user", "q"), Message("assistant", "a")), "here:1", groups=groups)


def test_effective_clusters_by_hand() -> None:
    """Five of 160, 10, 10, 10 and 10: 200² / (25,600 + 400) = 1.54. Examples alone count 1 each."""
    names = ["a"] * 160 + [name for name in "bcde" for _ in range(10)]
    assert effective(names) == pytest.approx(40_000 / 26_000)
    assert effective([None] * 7) == 7
    assert effective([]) == 0


def test_three_packages_are_too_few_so_their_files_are_the_clusters() -> None:
    few = [example(f"p{k % 3}", f"p{k % 3}/{k % 30}.py") for k in range(90)]
    assert clusters(few) == [e.groups[1] for e in few]
    many = [example(f"p{k % 10}", f"p{k % 10}/{k % 30}.py") for k in range(90)]
    assert clusters(many) == [e.groups[0] for e in many]


def test_without_groups_every_example_stands_alone() -> None:
    assert clusters([example(), example()]) == [None, None]
    assert clusters([example("one"), example("one")]) == [None, None], "one cluster tells nothing"
    assert clusters([]) == []


def test_a_record_names_its_group(tmp_path: Path) -> None:
    lines = [
        {"prompt": "q", "completion": "a", "group": "doc 1"},
        {"prompt": "q", "completion": "b"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = read_answers(path)
    assert [e.groups for e in found.examples] == [("doc 1",), ()]
    assert found.unused == {}
