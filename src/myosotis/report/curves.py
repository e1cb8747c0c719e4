"""The scorecard's larger drawings of one run: plane, curves over training, dial.

What belongs here: which numbers of a record go into which drawing, and what is said beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from myosotis.records.schema import CurvePoint, DialChoice, DialPoint, RunRecord
from myosotis.report import dial_curve, phrases, policy, prompted
from myosotis.report.figure import Figure
from myosotis.report.narrator import begin
from myosotis.report.preference import CURVES
from myosotis.report.svg.charts import Chart, Reference, Series
from myosotis.report.svg.marks import spaced
from myosotis.report.svg.tradeoff import Place, Plane

Points = list[tuple[float, float]]


def place_of(record: RunRecord, name: str) -> Place | None:
    """The tuned model in the plane; None where either axis was not measured."""
    task, suite = record.task, record.suite_verdict
    if task is None or suite is None or task.delta is None or suite.delta is None:
        return None
    s, kept = phrases.task_scale(task), phrases.suite_scale(suite)
    better = task.higher_is_better
    ends = (task.lo, task.hi) if better else (task.hi, task.lo)
    lo, hi = (phrases.gain(end, better) for end in ends)
    return Place(
        x=phrases.gain(task.delta, better) or 0.0,
        y=suite.delta,
        name=name,
        said=f"{name}: task {s.change(task.delta)}, benchmarks {kept.change(suite.delta)} points",
        x_interval=(lo, hi) if lo is not None and hi is not None else None,
        y_interval=(suite.lo, suite.hi) if suite.lo is not None and suite.hi is not None else None,
    )


def plane_of_run(record: RunRecord) -> dict[str, Any] | None:
    """Base, tuned model and the dial between them. The dial has items of its own (the selection
    half), on which the whole update is a point, too: its line ends there, not at the tuned model.
    """
    tuned = place_of(record, "tuned")
    task, suite = record.task, record.suite_verdict
    if tuned is None or task is None or suite is None:
        return None
    places = [Place(0.0, 0.0, "base", "base: the origin", "base"), tuned]
    points = [
        (point.alpha, phrases.gain(point.task, task.higher_is_better) or 0.0, point.retention)
        for point in sorted(record.dial, key=lambda p: p.alpha)
        if point.task is not None and point.retention is not None and point.alpha != 0
        if dial_curve.metric(record) == task.metric
    ]
    s, sign = phrases.task_scale(task), 1 if task.higher_is_better else -1
    places += prompted.places_of([record], lambda v: s.change(None if v is None else sign * v))
    for alpha, x, y in points:
        said = f"update scaled to strength α = {alpha:g}"
        places.append(Place(x, y, f"{alpha:g}", said, "dialled"))
    path = sorted([(0.0, 0.0, 0.0), *points])
    return plane_view(places, record, [(x, y) for _, x, y in path] if points else [])


def plane_view(
    places: Sequence[Place], record: RunRecord, joined: Sequence[tuple[float, float]] = ()
) -> dict[str, Any]:
    """The plane in the units of `record`'s task and suite."""
    task, suite = record.task, record.suite_verdict
    assert task is not None and suite is not None
    widest = max((abs(p.x) for p in places), default=1.0)
    s = phrases.scale(task.metric, task.unit, -widest / 5, widest / 5)
    tallest = max((abs(p.y) for p in places), default=0.05)
    kept = phrases.scale("acc", "", -max(tallest, 0.05), max(tallest, 0.05))
    sign = 1 if task.higher_is_better else -1
    unit = f"{phrases.label(task.metric)}, {s.of}" if s.of else phrases.label(task.metric)
    plane = Plane(
        "Change of mean accuracy against what was learned",
        places,
        suite.epsilon,
        lambda v: s.change(sign * v),
        kept.change,
        f"task: change of {unit}",
        "benchmarks: change of mean accuracy, points",
        joined,
    )
    return {
        "figure": Figure.of("plane", plane),
        "x_unit": unit,
        "epsilon": phrases.suite_scale(suite).amount(suite.epsilon),
        "dialled": bool(joined),
    }


def _by_name(curves: Sequence[CurvePoint]) -> dict[str, list[CurvePoint]]:
    found: dict[str, list[CurvePoint]] = {}
    for point in curves:
        if point.value is not None and abs(point.value) < 1e300:
            found.setdefault(point.name, []).append(point)
    return {name: sorted(points, key=lambda p: p.step) for name, points in found.items()}


def _sources(found: Mapping[str, Any]) -> list[str]:
    """What stands behind `loss` in the names of the curves that are of one source."""
    names = [name.split("loss", 1)[1] for name in found if name.startswith(_OF_SOURCES)]
    return sorted(set(names))


def curves(record: RunRecord) -> list[dict[str, Any]]:
    """Loss, of all and of each of several sources, then each benchmark, over the steps of
    training."""
    found = _by_name(record.curves)
    objective = record.group("objective").get("name", "sft")
    unit = "nats per token" if objective == "sft" else f"of {objective}, its own unit"
    drawn = []
    for source in ("", *_sources(found)):
        losses = [  # the later is drawn over the earlier
            _series("training", found.get(f"train/loss{source}", []), "quiet"),
            _series("held-out", found.get(f"val/loss{source}", []), "main", dots=True),
        ]
        losses = [series for series in losses if series.points]
        if losses:
            title = f"Loss on {source[1:]}" if source else "Loss"
            note = " · ".join(f"{s.name} {_plain(s.points[-1][1])}" for s in reversed(losses))
            chart = Chart(title, losses, _plain, "step")
            drawn.append(_panel(title, f"{unit}, lower is better", note, chart, legend=True))
    rows = {row.task: row for row in record.retention}
    for name, points in found.items():
        task = name.removeprefix("retention/")
        if task == name or (len(points) < 2 and task not in rows):
            continue
        row = rows.get(task)
        metric = row.metric if row else "acc" if task == "mean" else ""
        share = phrases.is_share(metric)
        write = _percent if share else _plain
        references = []
        if row is not None and row.base is not None:
            references.append(Reference(row.base, "base"))
            if row.epsilon is not None:
                sign = 1 if row.higher_is_better else -1
                references.append(Reference(row.base - sign * row.epsilon, "budget", "budget"))
        unit = phrases.label(metric) if metric else ""
        unit += ", lower is better" if row and not row.higher_is_better else ""
        title = "mean of the benchmarks" if task == "mean" else phrases.benchmark(task)
        chart = Chart(title, [_series(title, points, "main", dots=True)], write, "step", references)
        drawn.append(_panel(title, unit, write(points[-1].value or 0.0), chart))
    return drawn


_OF_SOURCES = ("train/loss/", "val/loss/")
_SHOWN = {"train/loss", "val/loss", "train/epoch", *CURVES}


def more_curves(record: RunRecord) -> list[dict[str, Any]]:
    """Every other metric that was logged at more than one step."""
    drawn = []
    sampled = policy.of_run(record) is not None
    for name, points in sorted(_by_name(record.curves).items()):
        if (
            name in _SHOWN
            or name.startswith(_OF_SOURCES)
            or (sampled and policy.is_ours(name))
            or name.startswith(("retention/", "cost/"))
            or len(points) < 2
        ):
            continue
        series = _series(name, points, "main", dots=len(points) <= 12)
        chart = Chart(name, [series], phrases.general, "step", height=110)
        drawn.append(_panel(name, "", phrases.general(points[-1].value), chart))
    return drawn


def _series(name: str, points: Sequence[CurvePoint], style: str, *, dots: bool = False) -> Series:
    known = [(float(p.step), p.value) for p in points if p.value is not None]
    bands = [(float(p.step), p.lo, p.hi) for p in points if p.lo is not None and p.hi is not None]
    return Series(name, known, bands, style, dots and len(known) <= 40)


def _panel(
    title: str, unit: str, note: str, chart: Chart, *, legend: bool = False
) -> dict[str, Any]:
    keys = [{"name": s.name, "style": s.style} for s in chart.series] if legend else []
    figure = Figure.of(title, replace(chart, unit=unit))
    return {"title": title, "unit": unit, "note": note, "figure": figure, "keys": keys}


def _plain(value: float) -> str:
    return phrases.fixed(value, 2)


def _percent(value: float) -> str:
    return f"{phrases.fixed(100 * value, 1)} %"


def dial(record: RunRecord) -> dict[str, Any] | None:
    """What the task gains and what the benchmarks lose as α goes from 0 to the full update."""
    points = sorted(record.dial, key=lambda p: p.alpha)
    if len(points) < 2:
        return None
    choice, last = record.dial_choice or DialChoice(), points[-1]
    if points[0].alpha > 0:  # α = 0 is the base, by definition
        points = [DialPoint(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), *points]
    s = phrases.scale(choice.metric, choice.unit, last.task_lo, last.task_hi)
    kept = phrases.scale("acc", "", last.retention_lo, last.retention_hi)
    ticks = spaced({p.alpha for p in points})
    budget = [Reference(-last.epsilon, "budget", "budget")] if last.epsilon else []
    zero = Reference(0.0, "base")
    learned = _alpha_series("task", points, lambda p: (p.task, p.task_lo, p.task_hi))
    lost = _alpha_series(
        "benchmarks", points, lambda p: (p.retention, p.retention_lo, p.retention_hi)
    )
    panels: list[dict[str, Any]] = []
    if learned.points:
        direction = "up" if choice.higher_is_better else "down"
        chart = Chart("Learned", [learned], s.change, "α", [zero], ticks, 190)
        unit = f"change of {phrases.label(choice.metric)}, {direction} is better"
        panels.append(_panel("Learned", unit, "", chart))
    if lost.points:
        chart = Chart("Mean accuracy", [lost], kept.change, "α", [zero, *budget], ticks, 190)
        panels.append(_panel("Mean accuracy", "change, points", "", chart))
    panels += [_beside(r.task, points, ticks) for r in last.beside if r.delta is not None]
    rows = [
        {
            "alpha": f"{p.alpha:g}",
            "task": s.change(p.task),
            "task_interval": phrases.interval(s, p.task_lo, p.task_hi),
            "retention": kept.change(p.retention),
            "retention_interval": phrases.interval(kept, p.retention_lo, p.retention_hi),
            "verdict": p.verdict,
            "chosen": p.alpha == choice.alpha,
            "beside": dial_curve.beside([p]),
        }
        for p in points
    ]
    return {"panels": panels, "rows": rows, "task_unit": s.of}


def _beside(task: str, points: Sequence[DialPoint], ticks: Sequence[float]) -> dict[str, Any]:
    """A benchmark that is in no mean, in its own unit and direction; `points` begin at the base."""
    known = {p.alpha: row for p in points for row in p.beside if row.task == task}
    last = known[points[-1].alpha]
    s = phrases.row_scale(last)
    sign = 1 if last.higher_is_better else -1

    def change(point: DialPoint) -> tuple[float | None, float | None, float | None]:
        if point.alpha == 0:  # the base, by definition
            return 0.0, 0.0, 0.0
        row = known.get(point.alpha)
        return (row.delta, row.lo, row.hi) if row else (None, None, None)

    line = _alpha_series(task, points, change)
    zero = Reference(0.0, "base")
    budget = [Reference(-sign * last.epsilon, "budget", "budget")] if last.epsilon else []
    direction = "up" if last.higher_is_better else "down"
    name = phrases.benchmark(task)
    chart = Chart(name, [line], s.change, "α", [zero, *budget], ticks, 190)
    return _panel(
        begin(name),
        f"change of {phrases.label(last.metric)}, {direction} is better",
        "",
        chart,
    )


def _alpha_series(
    name: str,
    points: Sequence[DialPoint],
    pick: Callable[[DialPoint], tuple[float | None, float | None, float | None]],
) -> Series:
    known: Points = []
    bands = []
    for point in points:
        value, lo, hi = pick(point)
        if value is not None:
            known.append((point.alpha, value))
        if lo is not None and hi is not None:
            bands.append((point.alpha, lo, hi))
    return Series(name, known, bands, dots=True)
