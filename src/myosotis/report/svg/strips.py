"""Strips: a number with its interval on an axis of gains, a row of a forest plot each.

What belongs here: from plain numbers to SVG, and the marks that tell verdicts apart without colour.
Right is better. Which numbers are drawn is decided in `report/intervals.py` and its like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from myosotis.report.svg.marks import Axis, anchor, drawing, span, tag, tidy

Format = Callable[[float], str]

POLYGONS = {
    "forgotten": (
        (-5.5, -3), (-3, -5.5), (0, -2.5), (3, -5.5), (5.5, -3), (2.5, 0),
        (5.5, 3), (3, 5.5), (0, 2.5), (-3, 5.5), (-5.5, 3), (-2.5, 0),
    ),
    "slipped": ((0, 6), (6, -4.8), (-6, -4.8)),
}  # fmt: skip
"""Outlines around (0, 0) in pixels: a cross and a triangle that points down. What has none of its
own is a circle, a hollow one where nothing is shown."""

SAME_SHAPE = {"worse": "forgotten", "same": "inconclusive", "better": "retained"}


@dataclass(frozen=True)
class Bar:
    """A point with its interval, in gain units (right is better); `said` is its tooltip, "" where
    the same stands beside it.

    `wide` is the interval that the verdict was read from, where it is not `lo` to `hi`.
    """

    value: float | None
    lo: float | None
    hi: float | None
    said: str
    mark: str = ""  # a verdict, or better | worse | same: shape and colour of the mark
    epsilon: float | None = None
    wide: tuple[float, float] | None = None

    def scaled(self, by: float) -> Bar:
        """The same in another unit."""

        def times(value: float | None) -> float | None:
            return None if value is None else value * by

        wide = None if self.wide is None else (self.wide[0] * by, self.wide[1] * by)
        ends = {"lo": times(self.lo), "hi": times(self.hi), "epsilon": times(self.epsilon)}
        return replace(self, value=times(self.value), wide=wide, **ends)

    @property
    def ends(self) -> list[float]:
        """Everything that has to find room on an axis."""
        found = [self.value, self.lo, self.hi, *(self.wide or ())]
        found += [-self.epsilon] if self.epsilon is not None else []
        return [end for end in found if end is not None]


def interval_axis(bars: Sequence[Bar], pad: float = 0.06) -> Axis:
    """One axis for bars that are compared: zero and the budgets are always on it."""
    lo, hi = span([0.0, *(end for bar in bars for end in bar.ends)], pad)
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
    mark: list[Markup] = [tag("title", bar.said)] if bar.said else []
    if bar.wide is not None:
        mark += _capped(axis.x(bar.wide[0]), axis.x(bar.wide[1]), middle)
    if bar.lo is not None and bar.hi is not None:
        whisker = {"x1": axis.x(bar.lo), "x2": axis.x(bar.hi), "y1": middle, "y2": middle}
        mark.append(tag("line", **whisker, class_="whisker"))
    if bar.value is not None:
        mark.append(verdict_mark(axis.x(bar.value), middle, bar.mark))
    parts.append(tag("g", *mark, class_=f"mark {bar.mark}".strip()))
    return drawing(*parts, height=height, title=bar.said, class_="strip")


def _capped(lo: str, hi: str, y: float) -> list[Markup]:
    """A thin line with a short bar at either end."""
    line = tag("line", x1=lo, x2=hi, y1=y, y2=y, class_="adjusted")
    return [
        line,
        *(tag("line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_="adjusted") for x in (lo, hi)),
    ]


def verdict_mark(x: str, y: float, verdict: str) -> Markup:
    """The mark of a verdict: told from the others by its shape alone."""
    verdict = SAME_SHAPE.get(verdict, verdict)
    if (corners := POLYGONS.get(verdict)) is None:
        hollow = " hollow" if verdict == "inconclusive" else ""
        return tag("circle", cx=x, cy=y, r=5, class_=f"dot{hollow}")
    points = " ".join(f"{a:g},{b:g}" for a, b in corners)
    # A nested svg, because a shape cannot be moved by pixels from a percentage otherwise.
    shape = tag("polygon", points=points, class_="dot")
    return tag("svg", shape, x=x, y=y, overflow="visible")


def interval_scale(axis: Axis, change: Format, wanted: int = 5) -> Markup:
    """The tick labels under a forest plot."""
    ticks = axis.ticks(wanted)
    parts = [
        tag("text", said, x=axis.x(t), y=14, class_="tick", text_anchor=anchor(axis, t))
        for t, said in zip(ticks, tidy([change(t) for t in ticks]), strict=True)
    ]
    return tag("svg", *parts, width="100%", height=20, class_="strip-axis", aria_hidden="true")
