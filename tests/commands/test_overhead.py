"""What one run measures beside its training, end to end through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import render_html
from tests.retention.small import hellaswag_rows, write
from tests.world import call, settings

pytestmark = pytest.mark.slow

ITEMS = 60


@pytest.fixture(scope="module")
def watched(world: Path) -> RunRecord:
    """A run whose learning rate is far too high, watched twice while it trains."""
    write(world / "benchmarks" / "hellaswag" / "validation.jsonl", hellaswag_rows(ITEMS))
    out = world / "runs" / "watched"
    changes = {
        "retention.suite": "[hellaswag]",
        "retention.items": ITEMS,
        "retention.every": "4",
        "retention.sequential_floor": 40,
        "retention.data_dir": world / "benchmarks",
        "retention.kl_items": 4,
        "method": "prefix",
        "optimizer.lr": 0.1,
        "task.shots": 0,
    }
    call(["train", *settings(world, out, **changes)], world)
    return RunRecord.load(out)


def test_looks_while_training_stop_when_settled(watched: RunRecord) -> None:
    """Steps 4 and 8; each asks at least 40 items and at most all 60, and says how many."""
    asked = {p.step: p.value for p in watched.curves if p.name == "cost/look_items"}
    saved = {p.step: p.value for p in watched.curves if p.name == "cost/look_items_saved"}
    assert set(asked) == set(saved) == {4, 8}
    assert all((asked[s] or 0) + (saved[s] or 0) == ITEMS for s in (4, 8))
    assert all(40 <= (asked[s] or 0) <= ITEMS for s in (4, 8))
    assert watched.cost["retention_items"] == sum(v or 0 for v in asked.values())
    assert watched.cost["retention_items_saved"] == sum(v or 0 for v in saved.values())
    levels = {p.step: p.value for p in watched.curves if p.name == "retention/hellaswag"}
    lost = {p.step: p.value for p in watched.curves if p.name == "forgetting/hellaswag"}
    for step in (4, 8):
        assert (levels[step] or 0) + (lost[step] or 0) == pytest.approx(levels[0])
    assert watched.retention[0].n == ITEMS  # the final scores keep the fixed set


def test_shift_of_predictions_is_in_record_and_curves(watched: RunRecord) -> None:
    """On the task's answers and on prose; at both looks and at the end."""
    shift = {entry.text: entry for entry in watched.shift}
    assert set(shift) == {"task", "general"}
    for text, entry in shift.items():
        assert entry.kl is not None and entry.lo is not None and entry.hi is not None
        assert entry.kl > 0 and entry.lo <= entry.kl <= entry.hi
        curve = {p.step: p.value for p in watched.curves if p.name == f"forgetting/kl_{text}"}
        assert set(curve) == {4, 8, 12} and curve[12] == pytest.approx(entry.kl)
    assert shift["task"].n == 4


def test_what_a_prefix_does_before_the_first_step_stands_apart(watched: RunRecord) -> None:
    start = watched.at_start
    assert start is not None and start.suite is not None and start.suite.delta is not None
    before = {entry.text: entry.kl for entry in start.shift}
    after = {entry.text: entry.kl for entry in watched.shift}
    assert set(before) == {"task", "general"}
    assert all(0 < (before[text] or 0) < (after[text] or 0) for text in before)


def test_the_scorecard_shows_shift_calibration_and_start(watched: RunRecord) -> None:
    page = render_html([watched])
    assert "How far the predictions moved" in page and "before the first step" in page
    assert "This update does not begin as the base" in page
    (row,) = watched.retention
    assert row.ece_base is not None and 0 <= row.ece_base <= 1
    assert f"{100 * row.ece_base:.1f} % →" in page
