"""Several runs on one page: who learned most within the budget, and how the others did.

What belongs here: ordering runs against each other. Each run's own story is `view.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from myosotis.record import RunRecord
from myosotis.report import panels, words
from myosotis.report.view import badge


def view(records: Sequence[RunRecord]) -> dict[str, Any]:
    """A sentence, a plane with every run that can be placed, and a row a run."""
    measured = [record for record in records if panels.place_of(record, "") is not None]
    known = [record.task for record in measured if record.task is not None]
    tasks = {(task.metric, task.unit, task.higher_is_better) for task in known}
    comparable = len(tasks) == 1
    best = _best(measured) if comparable else None
    places = []
    for number, record in enumerate(records, 1):
        place = panels.place_of(record, str(number))
        if place is not None:
            places.append(replace(place, style="tuned" if record is best else "dialled"))
    return {
        "headline": _headline(records, best, comparable),
        "plane": panels.plane_view(places, measured[0]) if comparable else None,
        "rows": [_row(number, record, record is best) for number, record in enumerate(records, 1)],
        "best": best is not None,
        "unit": words.task_scale(measured[0].task).of if comparable and measured[0].task else "",
    }


def _gain(record: RunRecord) -> float:
    task = record.task
    assert task is not None
    return words.gain(task.delta, task.higher_is_better) or 0.0


def _best(records: Sequence[RunRecord]) -> RunRecord | None:
    inside = [r for r in records if r.status == "FINISHED" and words.within(r.suite_verdict)]
    return max(inside, key=_gain) if inside else None


def _headline(records: Sequence[RunRecord], best: RunRecord | None, comparable: bool) -> str:
    if not comparable:
        return f"{len(records)} runs, measured on different tasks."
    if best is None:
        return f"None of {len(records)} runs is shown to be within its retention budget."
    name = best.run_name or best.run_id[:12]
    return f"Of {len(records)} runs, {name} learned most within the budget."


def _row(number: int, record: RunRecord, best: bool) -> dict[str, Any]:
    task, suite = record.task, record.suite_verdict
    learned = kept = learned_interval = kept_interval = words.MISSING
    if task is not None and task.delta is not None:
        s = words.task_scale(task)
        learned = s.change(task.delta)
        learned_interval = words.interval(s, task.lo, task.hi)
    if suite is not None and suite.delta is not None:
        s = words.suite_scale(suite)
        kept, kept_interval = s.change(suite.delta), words.interval(s, suite.lo, suite.hi)
    return {
        "number": number,
        "name": record.run_name or record.run_id[:12],
        "best": best,
        "badge": badge(record),
        "learned": learned,
        "learned_interval": learned_interval,
        "kept": kept,
        "kept_interval": kept_interval,
        "trainable": words.large(record.update.trainable),
        "seconds": words.duration(record.cost.get("train_seconds")),
        "error": record.error,
    }
