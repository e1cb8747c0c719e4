"""Charts: lines over steps or settings.

What belongs here: from plain numbers to SVG. Which numbers are drawn is decided in
`report/curves.py` and its like. Intervals are in `strips.py`, the plane of gain and forgetting in
`tradeoff.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from myosotis.report.svg.marks import (
    Axis,
    anchor,
    area,
    drawing,
    path,
    rule,
    span,
    tag,
    tick_label,
    tidy,
)
from myosotis.report.svg.strips import Format

MOST_POINTS = 300
"""Longer curves are drawn as the means of so many neighbourhoods."""

NAME_HEIGHT = 14
"""Pixels that the name of a line takes above it."""

FEWEST_JOINED = 3
"""Of fewer points, a line between them would show a climb that nobody measured."""


@dataclass(frozen=True)
class Series:
    """One line: (x, y) points, and where known their intervals (x, lo, hi).

    Intervals are drawn as a band, with `whiskers` as a bar at each point: where lines are compared.
    Lines that stand side by side are of style s0, s1 …, each with a dash and a mark of its own.
    """

    name: str
    points: Sequence[tuple[float, float]]
    bands: Sequence[tuple[float, float, float]] = ()
    style: str = "main"  # main | quiet | s0 … s5
    dots: bool = False
    whiskers: bool = False


@dataclass(frozen=True)
class Reference:
    """A horizontal line the curve is read against."""

    value: float
    name: str
    style: str = "base"  # base | budget


@dataclass(frozen=True)
class Chart:
    """Lines over a common x. `x_ticks` are drawn; `value` and `x_value` write a y and an x."""

    title: str
    series: Sequence[Series]
    value: Format
    x_name: str
    references: Sequence[Reference] = field(default_factory=tuple)
    x_ticks: Sequence[float] = field(default_factory=tuple)
    height: float = 150
    x_value: Format | None = None
    unit: str = ""

    def x_said(self, x: float) -> str:
        return f"{x:g}" if self.x_value is None else self.x_value(x)


def line_chart(chart: Chart) -> Markup:
    """The y labels (fixed width) and the drawing (fluid), side by side."""
    values: list[float | None] = [r.value for r in chart.references]
    for series in chart.series:
        values += [y for _, y in series.points]
        values += [end for _, lo, hi in series.bands for end in (lo, hi)]
    y = Axis(*span(values), chart.height - 6, 6)
    xs = [x for series in chart.series for x, _ in series.points]
    marked = any(s.whiskers or len(s.points) < FEWEST_JOINED for s in chart.series)
    air = 5 if marked else 1
    x = Axis(*((min(xs), max(xs)) if xs and min(xs) < max(xs) else span(xs)), air, 100 - air)
    ticks = y.ticks(4)
    inside = [rule(y(tick), "grid") for tick in ticks]
    highest = max((r.value for r in chart.references), default=0.0)
    for r in chart.references:  # names of two that lie close would stand in each other
        close = 0 < y(r.value) - y(highest) < NAME_HEIGHT
        inside.append(rule(y(r.value), r.style, r.name, below=close))
    for series in chart.series:
        inside += _line(series, x, y, chart)
    for tick in chart.x_ticks or x.ticks(4):
        if x.lo <= tick <= x.hi:
            said = tick_label(tick, chart.x_ticks or x.ticks(4))
            said = said if chart.x_value is None else chart.x_value(tick)
            where = {"x": x.x(tick), "y": chart.height + 15, "text_anchor": anchor(x, tick)}
            inside.append(tag("text", said, **where, class_="tick"))
    written = tidy([tick_label(t, ticks) if abs(t) >= 1e6 else chart.value(t) for t in ticks])
    if len(set(written)) < len(written):  # the format is too coarse for this range
        written = [tick_label(t, ticks) for t in ticks]
    labels = [
        tag("text", said, x=46, y=y(t) + 4, class_="tick", text_anchor="end")
        for t, said in zip(ticks, written, strict=True)
    ]
    total = chart.height + 20
    gutter = tag("svg", *labels, width=52, height=total, class_="gutter", aria_hidden="true")
    spoken = f"{chart.title}. {_spoken(chart)}"
    return gutter + drawing(*inside, height=total, title=spoken)


def _spoken(chart: Chart) -> str:
    """The ends of each line; points by themselves are told as one."""
    by_name: dict[str, list[tuple[float, float]]] = {}
    for series in chart.series:
        by_name.setdefault(series.name, []).extend(series.points)
    said = []
    for name, points in by_name.items():
        if points:
            (x0, y0), (x1, y1) = points[0], points[-1]
            said.append(
                f"{name}: {chart.value(y0)} at {chart.x_name} {chart.x_said(x0)}, "
                f"{chart.value(y1)} at {chart.x_name} {chart.x_said(x1)}"
            )
    return "; ".join(said)


def _line(series: Series, x: Axis, y: Axis, chart: Chart) -> list[Markup]:
    parts: list[Markup] = []
    few = len(series.points) < FEWEST_JOINED
    if series.whiskers or few:
        for at, lo, hi in series.bands:
            ends = {"x1": x.x(at), "x2": x.x(at), "y1": y(lo), "y2": y(hi)}
            parts.append(tag("line", **ends, class_=f"whisker {series.style}"))
    elif len(series.bands) > 1:
        over = [(x(at), y(hi)) for at, _, hi in series.bands]
        under = [(x(at), y(lo)) for at, lo, _ in reversed(series.bands)]
        parts.append(area([*over, *under], chart.height, f"band {series.style}"))
    points = _thinned(series.points)
    if not few:
        parts.append(path([(x(a), y(b)) for a, b in points], chart.height, f"line {series.style}"))
    if series.dots or few:
        for at, value in points:
            where = f"{chart.x_name} {chart.x_said(at)}"
            said = tag("title", f"{series.name}, {where}: {chart.value(value)}")
            parts.append(_shape(x.x(at), y(value), series.style, said))
    return parts


_SHAPES = {
    "s1": "-4.2,-4.2 4.2,-4.2 4.2,4.2 -4.2,4.2",
    "s2": "0,-5.4 5,4 -5,4",
    "s3": "0,-5.8 5.8,0 0,5.8 -5.8,0",
    "s4": "0,5.4 5,-4 -5,-4",
    "s5": "-2,-5 2,-5 2,-2 5,-2 5,2 2,2 2,5 -2,5 -2,2 -5,2 -5,-2 -2,-2",
}


def _shape(x: str, y: float, style: str, said: Markup) -> Markup:
    """The mark of a style: lines are told apart without colour, too."""
    if style not in _SHAPES:
        return tag("circle", said, cx=x, cy=y, r=4, class_=f"dot {style}")
    shape = tag("polygon", said, points=_SHAPES[style], class_=f"dot {style}")
    return tag("svg", shape, x=x, y=y, overflow="visible")


def line_key(style: str) -> Markup:
    """A short piece of a line with its mark, for a legend."""
    line = tag("line", x1=0, x2=28, y1=7, y2=7, class_=f"line {style}")
    mark = _shape("14", 7, style, Markup(""))
    return tag("svg", line, mark, width=28, height=14, class_="key-mark", aria_hidden="true")


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over equal neighbourhoods; the first and the last point stay."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = -(-(len(points) - 2) // (MOST_POINTS - 2))
    inner = [points[i : i + size] for i in range(1, len(points) - 1, size)]
    means = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in inner]
    return [points[0], *means, points[-1]]
