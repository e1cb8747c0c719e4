"""A small SVG writer: elements, axes and scales for drawings that stretch with the page.

What belongs here: building blocks, without knowing what is drawn. Positions along x are
percentages and along y pixels, so a drawing takes the width of the page while its text and
strokes keep their size. Every text and attribute is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """The element `name`; `class_` and `stroke_width` become `class` and `stroke-width`."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    begin = f"<{name}{''.join(parts)}"
    inside = "".join(escape(child) for child in children)
    closed = children or name in ("svg", "g")
    return Markup(f"{begin}>{inside}</{name}>" if closed else f"{begin}/>")


def _plain(value: object) -> object:
    """Numbers short and the same on every machine."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return value


class Axis:
    """A linear scale from `lo`..`hi` in data to `start`..`end` in the drawing.

    Raises ValueError for an empty or endless range.
    """

    def __init__(self, lo: float, hi: float, start: float = 0, end: float = 100) -> None:
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ValueError(f"not a range: {lo} to {hi}")
        self.lo, self.hi, self.start, self.end = lo, hi, start, end

    def __call__(self, value: float) -> float:
        # In halves: the difference of two finite floats can overflow, that of their halves cannot.
        span = self.hi / 2 - self.lo / 2
        share = (value / 2 - self.lo / 2) / span if span else 0.5
        share = min(max(share, -1.0), 2.0)  # far outside is outside
        return self.start + share * (self.end - self.start)

    def x(self, value: float) -> str:
        """The position as a percentage, kept within the drawing."""
        at = min(max(self(value), self.start), self.end)
        return f"{at:.3f}".rstrip("0").rstrip(".") + "%"

    def ticks(self, wanted: int = 4) -> list[float]:
        """At most about `wanted` round values inside the range."""
        rough = self.hi / wanted - self.lo / wanted
        if not (rough > 0 and math.isfinite(rough)):
            return []
        power = 10.0 ** math.floor(math.log10(rough))
        if power == 0 or not math.isfinite(1 / power):
            return []
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        return [k * step for k in range(first, last + 1)] if last - first < 50 else []


def span(values: Iterable[float | None], pad: float = 0.08) -> tuple[float, float]:
    """The range of the known values with some air; never empty."""
    known = [v for v in values if v is not None and abs(v) < 1e300]
    if not known:
        return -1.0, 1.0
    lo, hi = min(known), max(known)
    air = (hi - lo) * pad or max(abs(hi) * pad, 1e-3)
    return lo - air, hi + air


def spaced(values: Iterable[float]) -> list[float]:
    """Ticks at values of one's own, where their labels have room: from the last one down, those at
    least an eighth of the range apart."""
    found = sorted(values)
    room = (found[-1] - found[0]) / 8 * (1 - 1e-9) if found else 0.0
    kept = found[-1:]
    for value in reversed(found[:-1]):
        if kept[0] - value >= room:
            kept.insert(0, value)
    return kept


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as tell it from its neighbours."""
    gap = min((b - a for a, b in pairwise(ticks)), default=abs(value) or 1)
    digits = min(max(0, -math.floor(math.log10(gap) + 1e-9)), 6) if 0 < gap < math.inf else 2
    if gap and round(gap, digits) != gap and digits < 6:  # steps of 2.5
        digits += 1
    if abs(value) >= 1e6:
        return f"{value:.2g}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def tidy(labels: Sequence[str]) -> list[str]:
    """The labels of one axis without the decimals that are zero in all of them."""
    shorter = list(labels)
    while shorter and all(re.search(r"\.\d*0(\D*)$", said) for said in shorter):
        shorter = [re.sub(r"\.?0(\D*)$", r"\1", said) for said in shorter]
    return shorter


def anchor(axis: Axis, value: float) -> str:
    """How a label is set at `value`, so that it stays within the drawing."""
    at = axis(value)
    return "start" if at < 4 else "end" if at > 96 else "middle"


def rule(y: float, style: str, name: str = "", *, below: bool = False) -> Markup:
    """A horizontal line through the drawing, with its name at the right end above or below it."""
    line = tag("line", x1=0, x2="100%", y1=y, y2=y, class_=style)
    if not name:
        return line
    return line + tag(
        "text",
        name,
        x="99%",
        y=y + 13 if below else y - 5,
        class_=f"note {style}",
        text_anchor="end",
    )


def path(points: Sequence[tuple[float, float]], height: float, class_: str) -> Markup:
    """A line through (percent, pixel) points, stretched along x without bending its stroke."""
    text = " ".join(f"{x:.3f},{y:.2f}" for x, y in points)
    line = tag("polyline", points=text, class_=class_, vector_effect="non-scaling-stroke")
    return stretched(line, height)


def area(points: Sequence[tuple[float, float]], height: float, class_: str) -> Markup:
    """A filled shape through (percent, pixel) points."""
    text = " ".join(f"{x:.3f},{y:.2f}" for x, y in points)
    return stretched(tag("polygon", points=text, class_=class_), height)


def stretched(child: Markup, height: float) -> Markup:
    """`child`, drawn on 100 units by `height` pixels, over the whole width."""
    return tag(
        "svg",
        child,
        width="100%",
        height=height,
        viewBox=f"0 0 100 {height:g}",
        preserveAspectRatio="none",
        overflow="visible",
    )


def drawing(*children: object, height: float, title: str, class_: str = "plot") -> Markup:
    """A fluid drawing; `title` is what a screen reader says in its place, "" that it stands in
    words beside it."""
    return tag(
        "svg",
        *children,
        class_=class_,
        width="100%",
        height=height,
        **({"role": "img", "aria_label": title} if title else {"aria_hidden": "true"}),
    )
