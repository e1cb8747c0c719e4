"""Heat maps: quality, forgetting and cost over the rows and the axis of a study.

What belongs here: tables whose cells are coloured. The number stands in every cell, so that nothing
rests on colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def heat_maps(found: Study, choice: Choice, numbers: Numbers) -> list[dict[str, Any]]:
    """What was learned and lost, and cost, over rows and axis; darker is more.

    Empty where that is no grid: one row, one column, or more holes than cells.
    """
    if len(found.rows) < 2 or len(axis_values(found)) < 2 or holes(found.groups) is None:
        return []
    maps = [
        _heat(
            found, choice, "Learned", f"change of {phrases.label(numbers.metric)}",
            "good", lambda s: group_stats(s).gain, numbers.gain, max,
        ),
        _heat(
            found, choice, "General ability",
            "change of mean accuracy, points; darker = larger loss", "bad",
            lambda s: _turned(group_stats(s).kept), lambda e: numbers.loss(_turned(e)), min,
        ),
    ]  # fmt: skip
    for task, metric, higher in _other_benchmarks(found):
        half = [e for s in found.measured if (e := _benchmark(s, task))]
        scale = phrases.scale(metric, "", *(v for e in half for v in (e.lo, e.hi)))
        sign = -1 if higher else 1  # deeper is more lost

        def pick(s: ConfigGroup, task: str = task, sign: int = sign) -> Estimate | None:
            return _turned(_benchmark(s, task)) if sign < 0 else _benchmark(s, task)

        def write(e: Estimate, scale: phrases.Scale = scale, sign: int = sign) -> str:
            return scale.change(sign * e.value)

        said = f"change of {phrases.label(metric)}; darker = larger loss"
        maps.append(_heat(found, choice, phrases.benchmark(task), said, "bad", pick, write, min))
    maps.append(
        _heat(
            found, choice, "Training time", "darker = longer", "plain",
            lambda s: _cost(s, "train_seconds"), lambda e: _duration(e.value), min,
        )
    )  # fmt: skip
    if any(_cost(s, "peak_memory_gb") for s in found.measured):
        maps.append(
            _heat(
                found, choice, "Peak memory", "GB; darker = more", "plain",
                lambda s: _cost(s, "peak_memory_gb"), lambda e: phrases.general(e.value), min,
            )
        )  # fmt: skip
    return maps


def _turned(e: Estimate | None) -> Estimate | None:
    if e is None:
        return None
    ends = (None if end is None else -end for end in (e.hi, e.lo))
    return Estimate(-e.value, *ends, seeds=e.seeds)


def _duration(seconds: float) -> str:
    """In a narrow cell: a line may end behind a unit, not before it."""
    return phrases.duration(seconds).replace(" s", "\u00a0s").replace(" min", "\u00a0min")


def _cost(group: ConfigGroup, key: str) -> Estimate | None:
    known = [v for run in group.runs if (v := run.cost.get(key)) is not None]
    return over_seeds([(v, None, None) for v in known])


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


def _heat(
    found: Study,
    choice: Choice,
    title: str,
    unit: str,
    kind: str,
    pick: Pick,
    write: Write,
    best_is: Callable[[Sequence[float]], float],
) -> dict[str, Any]:
    xs = axis_values(found)
    at = {(s.row, s.x): s for s in found.groups}
    values = {k: e for k, s in at.items() if s.runs and (e := pick(s)) is not None}
    numbers = [e.value for e in values.values()]
    lo, hi = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)
    if kind == "bad":  # what was not lost has no colour
        lo, hi = 0.0, max(hi, 0.0)
    best = best_is(numbers) if numbers else None
    rows = []
    for row in found.rows:
        cells = []
        for x in xs:
            group, value = at.get((row, x)), values.get((row, x))
            cell: dict[str, Any] = {"chosen": group is not None and group is choice.group}
            if value is None:
                cell |= {"text": MISSING, "small": _absent(group), "level": "none"}
            else:
                level = _level(value.value, lo, hi)
                cell |= {
                    "text": write(value),
                    "small": _half(value, write),
                    "level": f"{kind}{level}",
                }
                cell["best"] = value.value == best and numbers.count(value.value) == 1
            cells.append(cell)
        rows.append({"name": row, "cells": cells})
    return {
        "title": title,
        "unit": unit,
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


def _half(value: Estimate, write: Write) -> str:
    """`±` half the interval, in the unit of the cell."""
    if value.lo is None or value.hi is None:
        return ""
    said = write(Estimate(value.hi / 2 - value.lo / 2))
    return f"±{said.lstrip('+−')}"
