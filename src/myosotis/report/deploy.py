"""What a page says of the examples that the model will see (`data.deploy`)."""

from __future__ import annotations

from myosotis.records.schema import RunRecord, TaskQuality
from myosotis.report import phrases


def sentences(record: RunRecord) -> list[str]:
    """Quality in and out of the distribution of the training data; empty without such a sample."""
    found = record.deploy
    if found is None or found.outside is None or record.task is None:
        return []
    told = [
        f"On held-out examples like the training data: {_said(record.task)}.",
        f"On a sample of what the model will see: {_said(found.outside)}.",
    ]
    if found.gap is not None:
        s = phrases.scale(found.outside.metric, found.outside.unit, found.gap_lo, found.gap_hi)
        told.append(
            f"The gain there is {s.change(found.gap)} {s.of} beside the gain here (95 % interval "
            f"{phrases.interval(s, found.gap_lo, found.gap_hi)})."
        )
    if found.worst is not None:
        told.append(
            f"The group that gained least, of {phrases.count(found.groups)}, is "
            f"{found.worst_group}: {_said(found.worst)} (the interval is wider for having been "
            "picked)."
        )
    return told


def _said(row: TaskQuality) -> str:
    s = phrases.task_scale(row)
    around = phrases.interval(s, row.lo, row.hi)
    return (
        f"{phrases.label(row.metric)} {s.value(row.base)} → {s.value(row.tuned)}, change "
        f"{s.change(row.delta)} {s.of} ({around}, n={phrases.count(row.n)})"
    )
