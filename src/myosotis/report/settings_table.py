"""The settings of a study as one figure: a row each, the measures that count side by side.

What belongs here: which rows stand there and in which order, and how each cell is drawn and
written. Every number is of all items; of the choice, those of the fresh items stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from myosotis.records.verdict import VERDICTS, Verdict
from myosotis.report import phrases, trials
from myosotis.report.figure import Figure
from myosotis.report.grouping import ConfigGroup, Study
from myosotis.report.numbers import Numbers
from myosotis.report.planes import Measure, measures
from myosotis.report.seeds import Estimate
from myosotis.report.selection import Choice, GroupStats, Mark, group_stats
from myosotis.report.svg.forest import Cell, Forest
from myosotis.report.svg.marks import Axis
from myosotis.report.svg.strips import Bar, interval_axis, interval_scale, interval_strip

COLUMNS = 4
"""Measures beside what was learned: more would leave none of them room."""


@dataclass(frozen=True)
class _Column:
    """A measure over all rows, on one axis."""

    name: str
    unit: str
    cells: Mapping[int, Cell]
    axis: Axis
    scale: Any


def settings_table(
    found: Study, choice: Choice, marks: Mapping[int, Mark], numbers: Numbers
) -> dict[str, Any] | None:
    """Rows by what they learned, those over budget and those without a result at the end."""
    groups = sorted(found.groups, key=settings_order)
    beside = measures(found, numbers)[:COLUMNS]
    columns = [_learned(found, numbers), *(_kept(found, measure) for measure in beside)]
    columns = [column for column in columns if column is not None]
    if not columns:
        return None
    rows = [_row(group, columns, choice, marks, numbers) for group in groups]
    named = [(g.label, [c.cells.get(g.number) for c in columns]) for g in groups if g.runs]
    forest = Forest("The settings, on all items", [c.name for c in columns], named)
    kinds = [kind for kind in VERDICTS if any(row["kind"] == kind for row in rows)]
    return {
        "columns": [
            {"name": c.name, "unit": c.unit, "axis": interval_scale(c.axis, c.scale, 3)}
            for c in columns
        ],
        "rows": rows,
        "kinds": kinds,
        "fresh": choice.claimed_on == "report",
        "figure": Figure.of("settings", forest),
    }


def settings_order(group: ConfigGroup) -> tuple[int, float, int]:
    """By gain; what is forgotten below the rest, what has no result below that."""
    seen = group_stats(group)
    last = 2 if not group.runs else 1 if seen.verdict == Verdict.FORGOTTEN else 0
    return last, -seen.gain.value if seen.gain is not None else 0.0, group.number


def _learned(found: Study, numbers: Numbers) -> _Column | None:
    known = [(s, e) for s in found.measured if (e := group_stats(s).gain) is not None]
    bars = {s.number: _bar(e, numbers.said(s), _outcome(e)) for s, e in known}
    if not bars:
        return None
    axis = interval_axis(list(bars.values()))
    cells = {
        s.number: Cell(
            bars[s.number], axis, numbers.gain(e), numbers.gain_interval(e), numbers.unit
        )
        for s, e in known
    }
    lower = "" if numbers.sign > 0 else ", lower is better"
    return _Column(
        "Learned",
        f"{numbers.unit}{lower}",
        cells,
        axis,
        lambda v: numbers.task.change(numbers.sign * v),
    )


def _kept(found: Study, measure: Measure) -> _Column | None:
    known = [(s, e) for s in found.measured if (e := measure.of(s)) is not None]
    bars = {}
    for group, e in known:
        said = f"{group.label}: {measure.name.lower()} {measure.change(e.value)}"
        said += f" ({measure.interval(e)})"
        bars[group.number] = _bar(e, said, measure.verdict(group), measure.epsilon(group))
    if not bars:
        return None
    axis = interval_axis(list(bars.values()))
    cells = {
        s.number: Cell(
            bars[s.number], axis, measure.change(e.value), measure.interval(e), measure.unit
        )
        for s, e in known
    }
    return _Column(measure.name, measure.unit, cells, axis, measure.change)


def _bar(found: Estimate, said: str, mark: str, epsilon: float | None = None) -> Bar:
    return Bar(found.value, found.lo, found.hi, said, mark, epsilon)


def _outcome(gain: Estimate) -> str:
    """What the interval says of what was learned."""
    if gain.lo is not None and gain.lo > 0:
        return "better"
    return "worse" if gain.hi is not None and gain.hi < 0 else "same"


def _row(
    group: ConfigGroup,
    columns: Sequence[_Column],
    choice: Choice,
    marks: Mapping[int, Mark],
    numbers: Numbers,
) -> dict[str, Any]:
    seen, chosen = group_stats(group), group is choice.group
    first = (group.runs or group.others)[0]
    fresh = group_stats(group, "report") if chosen and choice.claimed_on == "report" else None
    failed = sum(run.status == "FAILED" for run in group.others)
    state = (seen.verdict or "no verdict") if group.runs else trials.state(first)
    notes = [] if not group.runs else [_standing(group, marks)]
    notes += [f"{failed} failed"] if failed else []
    if seen.verdict != Verdict.FORGOTTEN and (lost := lost_by_a_seed(group)):
        notes.append(f"forgotten: {', '.join(lost)}")
    return {
        "number": group.number,
        "label": group.label,
        "chosen": chosen,
        "over": seen.verdict == Verdict.FORGOTTEN,
        "badge": state,
        "kind": seen.verdict if group.runs else "forgotten",
        "notes": ", ".join(notes),
        "fresh_verdict": fresh.verdict if fresh else "",
        "cells": [_cell(c, group, k, fresh, numbers) for k, c in enumerate(columns)],
    }


def lost_by_a_seed(group: ConfigGroup) -> list[str]:
    """Benchmarks called forgotten with any seed."""
    rows = [row for run in group.runs for row in run.retention]
    return list(dict.fromkeys(row.task for row in rows if row.verdict == Verdict.FORGOTTEN))


def _standing(group: ConfigGroup, marks: Mapping[int, Mark]) -> str:
    """Its seeds, and its place among the others: of one seed no place is claimed, and of what is
    over budget the chip says enough."""
    seeds, mark = len(group.runs), marks.get(group.number, "over")
    if seeds == 1 or mark == "over":
        return "one seed" if seeds == 1 else f"{seeds} seeds"
    return f"{seeds} seeds, {_PLACES[mark]}"


_PLACES = {"front": "best trade-off", "tied": "tied with the best", "behind": "beaten"}


def _cell(
    column: _Column, group: ConfigGroup, place: int, fresh: GroupStats | None, numbers: Numbers
) -> dict[str, Any]:
    if (cell := column.cells.get(group.number)) is None:
        return {"name": column.name, "drawn": "", "change": phrases.MISSING, "interval": "",
                "value": "", "fresh": ""}  # fmt: skip
    return {
        "name": column.name,
        "drawn": interval_strip(replace(cell.bar, said=""), column.axis, 20),
        "change": cell.change,
        "interval": cell.interval,
        "value": f"{cell.bar.value or 0.0:.6g}",
        "fresh": _fresh(place, fresh, numbers) if fresh else "",
    }


def _fresh(place: int, seen: GroupStats, numbers: Numbers) -> str:
    """What the fresh items say of the choice; of tasks beside the mean a half keeps no numbers."""
    if place == 0 and seen.gain is not None:
        return f"{numbers.gain(seen.gain)} ({numbers.gain_interval(seen.gain)})"
    if place == 1 and seen.kept is not None:
        return f"{numbers.loss(seen.kept)} ({numbers.loss_interval(seen.kept)})"
    return ""
