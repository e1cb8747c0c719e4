"""Settings along what was swept, and the dials of several runs: lines side by side.

What belongs here: curves over a study's axis (the learning rate, where it was swept), and what is
read off them. The same numbers as tables are in `heat_map.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from myosotis.records.schema import DialPoint
from myosotis.report import dial_curve, phrases
from myosotis.report.contrast import told_apart
from myosotis.report.figure import Figure
from myosotis.report.grouping import RATE, ConfigGroup, Study, short, written
from myosotis.report.numbers import Numbers
from myosotis.report.seeds import Estimate, mean_budget, over_seeds
from myosotis.report.selection import Choice, Mark, group_stats, learned
from myosotis.report.svg.charts import Chart, Reference, Series, line_key
from myosotis.report.svg.marks import spaced

STYLES = ("s0", "s1", "s2", "s3", "s4", "s5")
Pick = Callable[[ConfigGroup], Estimate | None]


def axis_values(found: Study) -> list[float]:
    """The values along the axis, by size."""
    return sorted({s.x for s in found.groups if s.x is not None})


def axis_name(found: Study) -> str:
    return "learning rate" if found.axis == RATE else short(found.axis)


def along_axis(found: Study, numbers: Numbers) -> dict[str, Any] | None:
    """Quality and forgetting along the axis, a line a row; where the optimum lies in each."""
    xs = axis_values(found)
    if len(xs) < 2:
        return None
    log = min(xs) > 0 and max(xs) / min(xs) >= 8
    place: Callable[[float], float] = math.log10 if log else float
    rows = found.rows
    styles = {row: STYLES[i] if i < len(STYLES) else "quiet" for i, row in enumerate(rows)}

    def series(pick: Pick) -> list[Series]:
        lines = []
        for row in rows:
            members = [s for s in found.groups if s.row == row and s.x is not None and s.runs]
            known = [(place(s.x or 0.0), e) for s in members if (e := pick(s)) is not None]
            known.sort(key=lambda entry: entry[0])
            bands = [(x, e.lo, e.hi) for x, e in known if e.lo is not None and e.hi is not None]
            points = [(x, e.value) for x, e in known]
            lines.append(Series(row, points, bands, styles[row], dots=True, whiskers=True))
        return [line for line in lines if line.points]

    ticks = spaced(place(x) for x in xs)

    def x_value(at: float) -> str:
        return written(min(xs, key=lambda x: abs(place(x) - at)), found.axis)

    epsilon = mean_budget(group_stats(s).epsilon for s in found.measured)
    budget = [Reference(-epsilon, "budget", "budget")] if epsilon is not None else []
    zero = Reference(0.0, "base")
    panels = []
    for title, unit, pick, write, references in (
        ("Learned", f"change of {phrases.label(numbers.metric)}",
         lambda s: group_stats(s).gain, lambda v: numbers.task.change(numbers.sign * v), [zero]),
        ("Mean accuracy", "change, points", lambda s: group_stats(s).kept,
         numbers.kept.change, [zero, *budget]),
    ):  # fmt: skip
        lines = series(pick)
        if lines:
            name = axis_name(found)
            chart = Chart(title, lines, write, name, references, ticks, 230, x_value, unit)
            figure = Figure.of(f"{name}-{title}", chart)
            panels.append({"title": title, "unit": unit, "note": "", "figure": figure})
    if not panels:
        return None
    optima = [found_at for row in rows if (found_at := _optimum(found, row, numbers))]
    return {
        "name": axis_name(found),
        "panels": panels,
        "keys": [{"name": row, "drawn": line_key(styles[row])} for row in rows],
        "optima": optima,
        "said": _optima_said(found, optima),
    }


def _optimum(found: Study, row: str, numbers: Numbers) -> dict[str, Any] | None:
    """Where a row learned most, and what cannot be told from it."""
    known = [
        (s.x, gain)
        for s in found.groups
        if s.row == row
        and s.x is not None
        and s.runs
        and (gain := learned(s, group_stats(s))) is not None
    ]
    if len(known) < 2:
        return None
    known.sort(key=lambda entry: entry[0])
    best_x, best = max(known, key=lambda entry: entry[1].estimate.value)
    apart = told_apart([(gain, best) for _, gain in known])
    alike = [x for (x, _), told in zip(known, apart, strict=True) if x == best_x or not told]
    return {
        "row": row,
        "best": written(best_x, found.axis),
        "gain": numbers.gain(best.estimate),
        "interval": numbers.gain_interval(best.estimate),
        "alike": ", ".join(written(x, found.axis) for x in alike if x != best_x) or "none",
        "edge": (known[0][0] == best_x and known[1][0] not in alike)
        or (known[-1][0] == best_x and known[-2][0] not in alike),
        "alike_x": set(alike),
        "told": len(alike) < len(known),
    }


def _optima_said(found: Study, optima: Sequence[Mapping[str, Any]]) -> str:
    """Whether the optimum depends on the row, as far as these runs can tell."""
    said = []
    name = axis_name(found)
    if optima and not any(o["told"] for o in optima):
        return f"No {name} is told from another: that takes more seeds of each."
    if len(optima) > 1:
        shared = set[float].intersection(*(o["alike_x"] for o in optima))
        if shared:
            peak = _peak(found, optima, shared)
            said.append(
                f"All {len(optima)} {_rows(found)} {peak}; no evidence that the best {name} "
                f"depends on {_telling(found) or 'the row'}."
            )
        else:
            moves = phrases.listed([f"{o['best']} for {o['row']}" for o in optima])
            said.append(f"The optimum moves: no one {name} serves every row. It is {moves}.")
    edges = [o["row"] for o in optima if o["edge"]]
    if edges:
        at = "every row" if len(edges) == len(optima) and len(edges) > 1 else phrases.listed(edges)
        said.append(
            f"For {at} the best lies at the edge of what was tried: the optimum may be beyond."
        )
    return " ".join(said)


def _peak(found: Study, optima: Sequence[Mapping[str, Any]], shared: Collection[float]) -> str:
    """`peak at lr=1e-3 (not told from it: 3e-4)`; `shared` is not told from any optimum."""
    best = {o["best"] for o in optima}
    at = [written(x, found.axis) for x in sorted(shared)]
    if len(best) > 1:
        return (
            f"peak at, or are not told from their peak at, {short(found.axis)}={phrases.listed(at)}"
        )
    (peak,) = best
    tied = phrases.listed([x for x in at if x != peak])
    return f"peak at {short(found.axis)}={peak}{f' (not told from it: {tied})' if tied else ''}"


def _rows(found: Study) -> str:
    return "ranks" if _telling(found) == "the rank" else "rows"


def _telling(found: Study) -> str:
    """What tells the rows apart, where that is one key; else nothing."""
    values: dict[str, set[str]] = {}
    for group in found.groups:
        for key in group.values.keys() - {found.axis}:
            values.setdefault(key, set()).add(written(group.values[key], key))
    keys = [key for key, seen in values.items() if len(seen) > 1]
    if len(keys) != 1 or len({group.method for group in found.groups}) > 1:
        return ""
    return "the rank" if keys[0] == "update.r" else short(keys[0])


def dials(
    found: Study, choice: Choice, marks: Mapping[int, Mark], numbers: Numbers
) -> dict[str, Any] | None:
    """The updates turned down, a line a setting: the choice first, then from the front outwards."""
    order = {"front": 1, "tied": 2}
    known = [s for s in found.measured if any(run.dial for run in s.runs)]
    known.sort(
        key=lambda s: (s is not choice.group, order.get(marks.get(s.number, ""), 3), s.number)
    )
    drawn = known[: len(STYLES)]
    if not drawn:
        return None
    gains: list[Series] = []
    losses: list[Series] = []
    rows = []
    for style, group in zip(STYLES, drawn, strict=False):
        points = _dial(group, numbers)
        gain = [(a, e.value) for a, e, _ in points if e is not None]
        loss = [(a, e.value) for a, _, e in points if e is not None]
        gains.append(Series(group.label, gain, (), style, dots=True))
        losses.append(Series(group.label, loss, (), style, dots=True))
        rows += [
            {
                "label": group.label,
                "alpha": f"{a:g}",
                "task": numbers.gain(g),
                "task_interval": numbers.gain_interval(g),
                "retention": numbers.loss(k),
                "retention_interval": numbers.loss_interval(k),
                "beside": dial_curve.beside([p for p in _dialled(group) if p.alpha == a]),
            }
            for a, g, k in points
        ]
    ticks = spaced({a for line in gains for a, _ in line.points})
    epsilon = group_stats(drawn[0]).epsilon
    budget = [Reference(-epsilon, "budget", "budget")] if epsilon else []
    zero = Reference(0.0, "base")

    def task(value: float) -> str:
        return numbers.task.change(numbers.sign * value)

    learned = Chart("Learned", gains, task, "α", [zero], ticks, 210)
    kept = Chart("Mean accuracy", losses, numbers.kept.change, "α", [zero, *budget], ticks, 210)
    return {
        "panels": [
            {"title": c.title, "unit": unit, "note": "",
             "figure": Figure.of(f"strength-{c.title}", replace(c, unit=unit))}
            for c, unit in ((learned, f"change of {phrases.label(numbers.metric)}"),
                            (kept, "change, points"))
            if any(line.points for line in c.series)
        ],
        "keys": [
            {"name": s.label, "drawn": line_key(style)}
            for style, s in zip(STYLES, drawn, strict=False)
        ],
        "rows": rows,
        "outside": any(row["beside"] for row in rows),
        "left_out": len(known) - len(drawn),
    }  # fmt: skip


def _dialled(group: ConfigGroup) -> list[DialPoint]:
    return [point for run in group.runs for point in run.dial]


def _dial(
    group: ConfigGroup, numbers: Numbers
) -> list[tuple[float, Estimate | None, Estimate | None]]:
    """(α, gain, kept) over the seeds, with the base at 0 and the update as trained at 1."""
    by_alpha: dict[float, list[DialPoint]] = {}
    for point in _dialled(group):
        by_alpha.setdefault(point.alpha, []).append(point)
    found = {}
    for alpha, points in by_alpha.items():
        gains = []
        for p in points:
            ends = (p.task_lo, p.task_hi) if numbers.sign > 0 else (p.task_hi, p.task_lo)
            value, lo, hi = (phrases.gain(v, numbers.sign > 0) for v in (p.task, *ends))
            if value is not None:
                gains.append((value, lo, hi))
        kept = [(p.retention, p.retention_lo, p.retention_hi) for p in points]
        losses = over_seeds([(v, lo, hi) for v, lo, hi in kept if v is not None])
        found[alpha] = (alpha, over_seeds(gains), losses)
    found.setdefault(0.0, (0.0, Estimate(0.0), Estimate(0.0)))
    whole = group_stats(group)
    found.setdefault(1.0, (1.0, whole.gain, whole.kept))
    return sorted(found.values(), key=lambda entry: entry[0])
