"""Prompting and retrieval in the plane: what can be gained without moving a weight.

What belongs here: the baselines of a record as places. They lie on the line of nothing forgotten by
construction: the model that is asked is the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from myosotis.records.schema import RunRecord
from myosotis.report import phrases
from myosotis.report.svg.tradeoff import Place

SHORT = (("like the question", "BM25"), ("solved example", "examples"), ("instruction", "prompt"))
"""What a place is called, by what its baseline's name holds."""


def places_of(records: Sequence[RunRecord], change: Callable[[float | None], str]) -> list[Place]:
    """The baselines of the first record that has any, in the task's metric; `change` writes a gain
    of better positive."""
    for record in records:
        task = record.task
        if task is None:
            continue
        better = task.higher_is_better
        found = [
            Place(
                gain,
                0.0,
                next((short for sign, short in SHORT if sign in one.name), "rule"),
                f"{one.name}: task {change(gain)}, no weight moved",
                "prompted",
                _interval(one.gained_lo, one.gained_hi, better),
            )
            for one in record.baselines
            if one.metric == task.metric and (gain := phrases.gain(one.gained, better)) is not None
        ]
        if found:
            return found
    return []


def _interval(
    lo: float | None, hi: float | None, higher_is_better: bool
) -> tuple[float, float] | None:
    if lo is None or hi is None:
        return None
    return (lo, hi) if higher_is_better else (-hi, -lo)
