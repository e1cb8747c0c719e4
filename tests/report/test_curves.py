"""The drawings of a run's curves: which numbers go into which."""

from __future__ import annotations

from myosotis.records.schema import CurvePoint, RunRecord
from myosotis.report.curves import curves, more_curves


def test_the_loss_of_each_source_is_drawn_beside_its_held_out_loss(record: RunRecord) -> None:
    for step in (1, 2, 3):
        record.curves.append(CurvePoint(step, "train/loss/chats.jsonl", 3.0 - step / 4))
        record.curves.append(CurvePoint(step, "val/loss/chats.jsonl", 3.5 - step / 4))
        record.curves.append(CurvePoint(step, "train/loss/b/c.csv", 1.0))
    panels = curves(record)
    assert [one["title"] for one in panels[:3]] == [
        "Loss",
        "Loss on b/c.csv",
        "Loss on chats.jsonl",
    ]
    assert panels[2]["note"] == "held-out 2.75 · training 2.25"
    assert [key["name"] for key in panels[1]["keys"]] == ["training"]
    assert not [one for one in more_curves(record) if "loss/" in one["title"]]
