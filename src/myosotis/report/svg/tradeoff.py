"""The plane of gain and forgetting: right learned more, up kept more.

What belongs here: from places to SVG. Which models are placed is decided in `report/curves.py` (one
run) and `report/sweep_page.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from myosotis.report.svg.charts import Format
from myosotis.report.svg.marks import Axis, anchor, drawing, path, rule, span, tag, tidy

_RADIUS = {
    "tuned": 8,
    "chosen": 8,
    "base": 6,
    "front": 6.5,
    "tied": 5.5,
    "dialled": 4.5,
    "behind": 4,
}
"""Pixels, by style; the larger are drawn over the smaller."""


@dataclass(frozen=True)
class Place:
    """A model in the plane: gain on the task (right) and change of the benchmarks (up)."""

    x: float
    y: float
    name: str
    said: str
    style: str = "tuned"  # base | tuned | dialled; of many: chosen | front | tied | behind
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
    parts += [rule(y(t), "grid") for t in ticks_y]
    parts += [tag("line", x1=x.x(t), x2=x.x(t), y1=0, y2=height, class_="grid") for t in ticks_x]
    parts.append(rule(y(0), "zero"))
    parts.append(tag("line", x1=x.x(0), x2=x.x(0), y1=0, y2=height, class_="zero"))
    if epsilon is not None:
        parts.append(rule(y(-epsilon), "budget", "budget", below=True))
    if len(joined) > 1:
        parts.append(path([(x(a), y(b)) for a, b in joined], height, "line dial"))
    for place in sorted(places, key=lambda p: _RADIUS.get(p.style, 0)):
        parts += _place(place, x, y)
    for t, said in zip(ticks_x, tidy([x_value(t) for t in ticks_x]), strict=True):
        where = {"x": x.x(t), "y": height + 16, "text_anchor": anchor(x, t)}
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
    mark.append(tag("circle", cx=across, cy=up, r=_RADIUS.get(place.style, 4.5), class_="dot"))
    if place.name:
        right = x(place.x) > 86 or place.style == "chosen"  # aside of its neighbours
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


def place_key(style: str) -> Markup:
    """The mark of a place in the plane, for a legend."""
    mark = tag("circle", cx=9, cy=9, r=_RADIUS.get(style, 5), class_="dot")
    group = tag("g", mark, class_=f"place {style}")
    return tag("svg", group, width=18, height=18, class_="key-mark", aria_hidden="true")
