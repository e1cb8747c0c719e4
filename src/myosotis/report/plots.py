"""The scorecard's drawings: intervals, lines over steps, and the plane of gain and forgetting.

What belongs here: from plain numbers to SVG. Which numbers are drawn is decided in `view.py`.
Up and right are always better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from myosotis.report.svg import Axis, area, drawing, path, span, tag, tick_label, tidy

MOST_POINTS = 300
"""Longer curves are drawn as the means of so many neighbourhoods."""

Format = Callable[[float], str]


@dataclass(frozen=True)
class Bar:
    """A point with its interval, in gain units (right is better); `said` is its tooltip."""

    value: float | None
    lo: float | None
    hi: float | None
    said: str
    mark: str = ""  # class of the mark: a verdict
    epsilon: float | None = None
    diamond: bool = False


def interval_axis(bars: Sequence[Bar], pad: float = 0.06) -> Axis:
    """One axis for bars that are compared: zero and the budgets are always on it."""
    ends: list[float | None] = [0.0]
    for bar in bars:
        ends += [bar.value, bar.lo, bar.hi]
        ends += [-bar.epsilon] if bar.epsilon is not None else []
    lo, hi = span(ends, pad)
    # Never a plot that makes a whisker of a difference look like an abyss, nor one without air.
    return Axis(lo, hi, 1, 99)


def interval_strip(bar: Bar, axis: Axis, height: float = 34) -> Markup:
    """One row of a forest plot."""
    middle = height / 2
    parts: list[Markup] = []
    if bar.epsilon is not None:
        at = axis.x(-bar.epsilon)
        parts.append(tag("rect", x=0, y=0, width=at, height=height, class_="beyond"))
        parts.append(tag("line", x1=at, x2=at, y1=0, y2=height, class_="budget"))
    zero = axis.x(0)
    parts.append(tag("line", x1=zero, x2=zero, y1=0, y2=height, class_="zero"))
    mark: list[Markup] = [tag("title", bar.said)]
    if bar.lo is not None and bar.hi is not None:
        whisker = {"x1": axis.x(bar.lo), "x2": axis.x(bar.hi), "y1": middle, "y2": middle}
        mark.append(tag("line", **whisker, class_="whisker"))
    if bar.value is not None:
        mark.append(_mark(axis.x(bar.value), middle, bar.diamond))
    parts.append(tag("g", *mark, class_=f"mark {bar.mark}".strip()))
    return drawing(*parts, height=height, title=bar.said, class_="strip")


def _mark(x: str, y: float, diamond: bool) -> Markup:
    if not diamond:
        return tag("circle", cx=x, cy=y, r=5.5, class_="dot")
    shape = tag("polygon", points="0,-7.5 7.5,0 0,7.5 -7.5,0", class_="dot")
    return tag("svg", shape, x=x, y=y, overflow="visible")


def interval_scale(axis: Axis, change: Format) -> Markup:
    """The tick labels under a forest plot."""
    ticks = axis.ticks(5)
    parts = [
        tag("text", said, x=axis.x(t), y=14, class_="tick", text_anchor=_anchor(axis, t))
        for t, said in zip(ticks, tidy([change(t) for t in ticks]), strict=True)
    ]
    return tag("svg", *parts, width="100%", height=20, class_="strip-axis", aria_hidden="true")


def _anchor(axis: Axis, value: float) -> str:
    at = axis(value)
    return "start" if at < 4 else "end" if at > 96 else "middle"


@dataclass(frozen=True)
class Series:
    """One line: (x, y) points, and where known their intervals (x, lo, hi)."""

    name: str
    points: Sequence[tuple[float, float]]
    bands: Sequence[tuple[float, float, float]] = ()
    style: str = "main"  # main | quiet
    dots: bool = False


@dataclass(frozen=True)
class Reference:
    """A horizontal line the curve is read against."""

    value: float
    name: str
    style: str = "base"  # base | budget


@dataclass(frozen=True)
class Chart:
    """Lines over a common x. `x_ticks` are drawn; `value` writes a y value."""

    title: str
    series: Sequence[Series]
    value: Format
    x_name: str
    references: Sequence[Reference] = field(default_factory=tuple)
    x_ticks: Sequence[float] = field(default_factory=tuple)
    height: float = 150


def line_chart(chart: Chart) -> Markup:
    """The y labels (fixed width) and the drawing (fluid), side by side."""
    values: list[float | None] = [r.value for r in chart.references]
    for series in chart.series:
        values += [y for _, y in series.points]
        values += [end for _, lo, hi in series.bands for end in (lo, hi)]
    y = Axis(*span(values), chart.height - 6, 6)
    xs = [x for series in chart.series for x, _ in series.points]
    x = Axis(*((min(xs), max(xs)) if xs and min(xs) < max(xs) else span(xs)), 1, 99)
    ticks = y.ticks(4)
    inside = [_rule(y(tick), "grid") for tick in ticks]
    inside += [_rule(y(r.value), r.style, r.name) for r in chart.references]
    for series in chart.series:
        inside += _line(series, x, y, chart)
    for tick in chart.x_ticks or x.ticks(4):
        if x.lo <= tick <= x.hi:
            anchor = _anchor(x, tick)
            said = tick_label(tick, chart.x_ticks or x.ticks(4))
            where = {"x": x.x(tick), "y": chart.height + 15, "text_anchor": anchor}
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
    said = []
    for series in chart.series:
        if series.points:
            (x0, y0), (x1, y1) = series.points[0], series.points[-1]
            said.append(
                f"{series.name}: {chart.value(y0)} at {chart.x_name} {x0:g}, "
                f"{chart.value(y1)} at {chart.x_name} {x1:g}"
            )
    return "; ".join(said)


def _rule(y: float, style: str, name: str = "") -> Markup:
    line = tag("line", x1=0, x2="100%", y1=y, y2=y, class_=style)
    if not name:
        return line
    return line + tag("text", name, x="99%", y=y - 5, class_=f"note {style}", text_anchor="end")


def _line(series: Series, x: Axis, y: Axis, chart: Chart) -> list[Markup]:
    parts: list[Markup] = []
    if len(series.bands) > 1:
        over = [(x(at), y(hi)) for at, _, hi in series.bands]
        under = [(x(at), y(lo)) for at, lo, _ in reversed(series.bands)]
        parts.append(area([*over, *under], chart.height, f"band {series.style}"))
    points = _thinned(series.points)
    if len(points) > 1:
        parts.append(path([(x(a), y(b)) for a, b in points], chart.height, f"line {series.style}"))
    if series.dots or len(points) == 1:
        for at, value in points:
            said = tag("title", f"{series.name}, {chart.x_name} {at:g}: {chart.value(value)}")
            dot = {"cx": x.x(at), "cy": y(value), "r": 4}
            parts.append(tag("circle", said, **dot, class_=f"dot {series.style}"))
    return parts


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over equal neighbourhoods; the first and the last point stay."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = -(-(len(points) - 2) // (MOST_POINTS - 2))
    inner = [points[i : i + size] for i in range(1, len(points) - 1, size)]
    means = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in inner]
    return [points[0], *means, points[-1]]


@dataclass(frozen=True)
class Place:
    """A model in the plane: gain on the task (right) and change of the benchmarks (up)."""

    x: float
    y: float
    name: str
    said: str
    style: str = "tuned"  # base | tuned | dialled
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


def plane(
    places: Sequence[Place],
    *,
    epsilon: float | None,
    x_value: Format,
    y_value: Format,
    joined: Sequence[tuple[float, float]] = (),
    title: str,
    height: float = 340,
) -> Markup:
    """Quality against forgetting: right learned more, up kept more, shaded is over budget.

    `joined` is a path through the plane, e.g. the dial from the base to the full update.
    """
    ends_x = [e for p in places for e in (p.x, *(p.x_interval or ()))]
    ends_y: list[float | None] = [e for p in places for e in (p.y, *(p.y_interval or ()))]
    ends_y += [-epsilon] if epsilon is not None else []
    x, y = Axis(*span([0.0, *ends_x], 0.12), 0, 100), Axis(*span([0.0, *ends_y], 0.15), height, 0)
    parts: list[Markup] = []
    if epsilon is not None:
        limit = y(-epsilon)
        parts.append(
            tag("rect", x=0, y=limit, width="100%", height=height - limit, class_="beyond")
        )
    ticks_x, ticks_y = x.ticks(5), y.ticks(5)
    parts += [_rule(y(t), "grid") for t in ticks_y]
    parts += [tag("line", x1=x.x(t), x2=x.x(t), y1=0, y2=height, class_="grid") for t in ticks_x]
    parts.append(_rule(y(0), "zero"))
    parts.append(tag("line", x1=x.x(0), x2=x.x(0), y1=0, y2=height, class_="zero"))
    if epsilon is not None:
        parts.append(_rule(y(-epsilon), "budget", "budget"))
    if len(joined) > 1:
        parts.append(path([(x(a), y(b)) for a, b in joined], height, "line dial"))
    for place in sorted(places, key=lambda p: p.style == "tuned"):
        parts += _place(place, x, y)
    for t, said in zip(ticks_x, tidy([x_value(t) for t in ticks_x]), strict=True):
        where = {"x": x.x(t), "y": height + 16, "text_anchor": _anchor(x, t)}
        parts.append(tag("text", said, **where, class_="tick"))
    labels = [
        tag("text", said, x=46, y=y(t) + 4, class_="tick", text_anchor="end")
        for t, said in zip(ticks_y, tidy([y_value(t) for t in ticks_y]), strict=True)
        if 8 < y(t) < height - 4
    ]
    gutter = tag("svg", *labels, width=52, height=height + 22, class_="gutter", aria_hidden="true")
    spoken = f"{title}. " + "; ".join(place.said for place in places)
    return gutter + drawing(*parts, height=height + 22, title=spoken)


def _place(place: Place, x: Axis, y: Axis) -> list[Markup]:
    across, up = x.x(place.x), y(place.y)
    mark: list[Markup] = [tag("title", place.said)]
    if place.x_interval is not None:
        lo, hi = (x.x(end) for end in place.x_interval)
        mark.append(tag("line", x1=lo, x2=hi, y1=up, y2=up, class_="whisker"))
    if place.y_interval is not None:
        lo_y, hi_y = (y(end) for end in place.y_interval)
        mark.append(tag("line", x1=across, x2=across, y1=lo_y, y2=hi_y, class_="whisker"))
    radius = {"tuned": 8, "base": 6}.get(place.style, 4.5)
    mark.append(tag("circle", cx=across, cy=up, r=radius, class_="dot"))
    if place.name:
        right = x(place.x) > 86
        # A nested svg, because text cannot be moved by pixels from a percentage otherwise.
        below = place.style == "dialled"
        words = tag(
            "text",
            place.name,
            x=0 if below else -13 if right else 13,
            y=20 if below else -11,
            text_anchor="middle" if below else "end" if right else "start",
            class_="name",
        )
        mark.append(tag("svg", words, x=across, y=up, overflow="visible"))
    return [tag("g", *mark, class_=f"place {place.style}")]
