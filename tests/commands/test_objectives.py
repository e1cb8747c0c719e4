"""What a trial returns to a searching sweeper."""

from __future__ import annotations

from pathlib import Path

from myosotis.cli.hydra_app import _measured
from myosotis.commands.sweep import Trial
from myosotis.records.schema import HalfResult, RunRecord, SuiteVerdict, TaskQuality


def part(tuned: float, delta: float) -> HalfResult:
    return HalfResult(TaskQuality("loglik", tuned=tuned), SuiteVerdict(delta=delta))


def test_a_search_never_sees_the_half_that_is_reported() -> None:
    """Two trials that swap places between the halves: the search prefers the one that the
    selection half does; the table shows all items."""
    whole, selection, report = part(-2.0, -0.01), part(-1.5, 0.02), part(-2.5, -0.04)
    record = RunRecord(
        "a", task=whole.task, suite_verdict=whole.suite,
        halves={"selection": selection, "report": report},
    )  # fmt: skip
    assert _measured(record, "quality") == -1.5
    assert _measured(record, "forgetting") == -0.02
    assert Trial(Path(), record).document()["quality"] == -2.0
    record.halves["report"] = part(9.0, 9.0)
    assert (_measured(record, "quality"), _measured(record, "forgetting")) == (-1.5, -0.02)


def test_without_a_half_all_items_speak() -> None:
    whole = part(-2.0, -0.01)
    record = RunRecord("a", task=whole.task, suite_verdict=whole.suite)
    record.halves = {"selection": HalfResult(None, SuiteVerdict(delta=0.03))}
    assert (_measured(record, "quality"), _measured(record, "forgetting")) == (-2.0, -0.03)
