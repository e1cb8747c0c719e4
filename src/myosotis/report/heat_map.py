"""Heat maps: what was learned and lost over the rows and the axis of a study.

What belongs here: tables whose cells are coloured. The number and its interval stand in every cell,
so that nothing rests on colour. What a setting cost is in the table of costs (`trials.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from myosotis.report import phrases
from myosotis.report.factors import Pick, axis_name, axis_values
from myosotis.report.grouping import ConfigGroup, Study, holes, written
from myosotis.report.numbers import Numbers
from myosotis.report.phrases import MISSING
from myosotis.report.seeds import Estimate, over_seeds
from myosotis.report.selection import Choice, group_stats

LEVELS = 6
Write = Callable[[Estimate], str]


@dataclass(frozen=True)
class _Map:
    """One map: what it shows, and how. `depth` is 1 where more has more colour, else -1."""

    title: str
    unit: str
    kind: str  # good | bad: the colour, and whether what is not lost has none
    depth: int
    pick: Pick
    value: Write
    interval: Write


def heat_maps(found: Study, choice: Choice, numbers: Numbers) -> list[dict[str, Any]]:
    """What was learned and lost over rows and axis; darker is more.

    Empty where that is no grid: one row, one column, or more holes than cells.
    """
    if len(found.rows) < 2 or len(axis_values(found)) < 2 or holes(found.groups) is None:
        return []
    maps = [
        _Map(
            "Learned", f"change of {phrases.label(numbers.metric)}; darker = more learned", "good",
            1, lambda s: group_stats(s).gain, numbers.gain, numbers.gain_interval,
        ),
        _Map(
            "Mean accuracy", "change, points; darker = larger loss", "bad", -1,
            lambda s: group_stats(s).kept, numbers.loss, numbers.loss_interval,
        ),
    ]  # fmt: skip
    maps += [_of_benchmark(found, *named) for named in _other_benchmarks(found)]
    return [_heat(found, choice, drawn) for drawn in maps]


def _of_benchmark(found: Study, task: str, metric: str, higher: bool) -> _Map:
    known = [e for s in found.measured if (e := _benchmark(s, task))]
    scale = phrases.scale(metric, "", *(v for e in known for v in (e.lo, e.hi)))
    return _Map(
        phrases.task_title(task),
        f"change of {phrases.label(metric)}; darker = larger loss",
        "bad",
        -1 if higher else 1,
        lambda s: _benchmark(s, task),
        lambda e: scale.change(e.value),
        lambda e: phrases.interval(scale, e.lo, e.hi),
    )


def _benchmark(group: ConfigGroup, task: str) -> Estimate | None:
    rows = [row for run in group.runs for row in run.retention if row.task == task]
    return over_seeds([(r.delta, r.lo, r.hi) for r in rows if r.delta is not None])


def _other_benchmarks(found: Study) -> list[tuple[str, str, bool]]:
    """Benchmarks that are no accuracy, such as bits per byte: (task, metric, higher is better)."""
    rows = [row for s in found.measured for run in s.runs for row in run.retention]
    named = {
        r.task: (r.task, r.metric, r.higher_is_better)
        for r in rows
        if not phrases.is_share(r.metric) and r.delta is not None
    }
    return list(named.values())[:2]


def _level(value: float, lo: float, hi: float) -> int:
    """Which of `LEVELS` colours a value has; halves, since the range may be beyond all floats."""
    half = hi / 2 - lo / 2
    share = (min(max(value, lo), hi) / 2 - lo / 2) / half if half > 0 else 0.0
    return min(int(share * LEVELS), LEVELS - 1)


def _heat(found: Study, choice: Choice, drawn: _Map) -> dict[str, Any]:
    xs = axis_values(found)
    at = {(s.row, s.x): s for s in found.groups}
    values = {k: e for k, s in at.items() if s.runs and (e := drawn.pick(s)) is not None}
    depths = [drawn.depth * e.value for e in values.values()]
    lo, hi = (min(depths), max(depths)) if depths else (0.0, 0.0)
    if drawn.kind == "bad":  # what was not lost has no colour
        lo, hi = 0.0, max(hi, 0.0)
    best = None if not depths else max(depths) if drawn.kind == "good" else min(depths)
    rows = []
    for row in found.rows:
        cells = []
        for x in xs:
            group, value = at.get((row, x)), values.get((row, x))
            cell: dict[str, Any] = {"chosen": group is not None and group is choice.group}
            if value is None:
                cell |= {"text": MISSING, "small": _absent(group), "level": "none"}
            else:
                depth = drawn.depth * value.value
                cell |= {
                    "text": drawn.value(value),
                    "small": drawn.interval(value),
                    "level": f"{drawn.kind}{_level(depth, lo, hi)}",
                    "best": depth == best and depths.count(depth) == 1,
                }
            cells.append(cell)
        rows.append({"name": row, "cells": cells})
    return {
        "title": drawn.title,
        "unit": drawn.unit,
        "columns": [written(x, found.axis) for x in xs],
        "axis": axis_name(found),
        "rows": rows,
    }


def _absent(group: ConfigGroup | None) -> str:
    """Why a cell is empty."""
    if group is None:
        return "not run"
    if group.runs:
        return "not measured"
    return "failed" if any(r.status == "FAILED" for r in group.others) else "not finished"
