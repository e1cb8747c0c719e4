"""Lost answers asked again, on a whole run: sixty questions that a random model answers rightly by
definition, and a training that shakes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from myosotis.records.schema import RunRecord
from tests.retention.small import right_by_definition
from tests.world import call, settings

SMALL = {
    "task.shots": 0,
    "task.generate": 0,
    "tracking": "none",
    "trainer.max_steps": 8,
    "retention.suite": "[arc_easy]",
    "retention.items": 40,
    "retention.settle": "false",
}


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recover")
    data = right_by_definition(world / "model", place / "data", 60)
    changes: dict[str, Any] = {**SMALL, "retention.data_dir": data, "optimizer.lr": 0.05}
    call(["train", *settings(world, place / "runs/one", **changes)], place)
    return place / "runs/one"


def test_lost_answers_are_asked_again_and_the_update_is_as_it_was(finished: Path) -> None:
    record = RunRecord.load(finished)
    lost = record.retention[0].right_to_wrong
    assert lost, "the training has to shake the model"
    weights = {p: hashlib.sha256(p.read_bytes()).digest() for p in finished.rglob("update/*")}
    out, _ = call(
        ["recover", "last", "--steps", "4", "--shots", "2", "--json"], finished.parents[1]
    )
    found = json.loads(out)
    assert {p: hashlib.sha256(p.read_bytes()).digest() for p in finished.rglob("update/*")} == (
        weights
    )
    told = RunRecord.load(finished)
    assert [(one.way, one.amount, one.lost) for one in told.recovery] == [
        ("examples", 2, lost),
        ("relearning", 4, lost),
    ]
    # The base has everything right when it is asked plainly: no item was never known.
    assert all(one.never == 0 and one.more is None for one in told.recovery)
    assert sum(bool(flip.again) for flip in told.flips) == len(
        {flip.item for flip in told.flips if flip.again}
    )
    again = {one.way: one.again for one in told.recovery}
    for way, count in again.items():
        assert sum(way in flip.again for flip in told.flips) == count, "all flips are in the record"
    assert found["recovery"][0]["base_again"] is not None
    page = (finished / "scorecard.html").read_text()
    assert "Lost, or only mislaid?" in page and ("stays wrong" in page or "right again" in page)


def test_what_was_trained_cannot_be_changed(finished: Path) -> None:
    _, err = call(["recover", "last", "optimizer.lr=1"], finished.parents[1], code=2)
    assert "recover cannot change optimizer.lr=1" in " ".join(err.split())
