"""What one run measures beside its training, end to end through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.record import RunRecord
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
