"""`myosotis check`: one step of a run, a line for each thing that must be so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from myosotis.records.schema import RunRecord
from tests.world import build, call, settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("world"))


def checked(world: Path, place: Path, code: int, **changes: Any) -> dict[str, tuple[bool, str]]:
    """The lines by what they are of, from the record that is kept."""
    words = settings(world, place / "it", **{"tracking": "none", **changes})
    out, _ = call(["check", *words], place, code)
    record = RunRecord.load(place / "it")
    assert f"{len(record.checks)} checks" in out
    return {line.name: (line.passed, line.said) for line in record.checks}


def test_a_run_that_can_learn_passes_every_line(world: Path, tmp_path: Path) -> None:
    lines = checked(world, tmp_path, 0)
    assert all(passed for passed, _ in lines.values()) and len(lines) == 11
    assert lines["every training example has something to learn"][1].startswith("30 of 30")
    assert "⟦" in lines["the mask, ⟦scored⟧"][1]
    assert "the same batch" in lines["the loss falls after a step"][1]


def test_what_is_wrong_is_the_line_that_fails(world: Path, tmp_path: Path) -> None:
    """At a rate of 1e-12 nothing moves that 32 bits can tell."""
    lines = checked(world, tmp_path, 1, **{"optimizer.lr": 1e-12})
    failed = [what for what, (passed, _) in lines.items() if not passed]
    assert failed == ["the loss falls after a step"]
    assert "a lower optimizer.lr may be needed" in lines[failed[0]][1]


def test_the_first_batch_of_several_sources_is_tried(world: Path, tmp_path: Path) -> None:
    lines = (world / "mine.jsonl").read_text().splitlines(keepends=True)
    for name, part in {"a": lines[:20], "b": lines[20:]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
    sources = [{"path": str(tmp_path / f"{name}.jsonl"), "weight": 1} for name in "ab"]
    given = json.dumps(sources).replace('"', "")
    lines = checked(world, tmp_path, 0, **{"data.path": "null", "data.sources": given})
    assert all(passed for passed, _ in lines.values())


def test_a_policy_tries_a_round(world: Path, tmp_path: Path) -> None:
    """Of four tokens every answer is short: a reward for that teaches nothing."""
    words = {"method": "grpo", "reward": "length", "objective.group_size": 2}
    words |= {"objective.max_new_tokens": 4, "optimizer.lr": 0.001, "task.metric": "loglik"}
    lines = checked(world, tmp_path, 1, **words)
    failed = [what for what, (passed, _) in lines.items() if not passed]
    assert failed == ["one batch, forward and backward"]
    assert "the same reward" in lines[failed[0]][1] and "the loss falls after a step" not in lines
