"""The plane of gain and forgetting: right learned more, up kept more.

What belongs here: from places to SVG. Which models are placed is decided in `report/curves.py` (one
run) and `report/planes.py` (many).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from myosotis.report.svg.labels import Named, Spot, spots
from myosotis.report.svg.marks import Axis, anchor, drawing, path, rule, span, tag, tidy
from myosotis.report.svg.strips import POLYGONS, Format

RADIUS = {
    "tuned": 8,
    "chosen": 8,
    "base": 6,
    "front": 6.5,
    "tied": 5.5,
    "over": 5.5,
    "dialled": 4.5,
    "prompted": 4.5,
    "behind": 4,
}
"""Pixels, by style; the larger are drawn over the smaller, and named before them."""


CROWDED = 50
"""Places from which whiskers hide what they belong to: only the best keep theirs."""

CROWD = ("tied", "behind", "over")
"""The styles of the others."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Place:
    """A model in the plane: gain on the task (right) and change of the benchmarks (up)."""

    x: float
    y: float
    name: str
    said: str
    style: str = (
        "tuned"  # base | tuned | dialled | prompted; of many: chosen | front | tied | behind | over
    )
    x_interval: Interval | None = None
    y_interval: Interval | None = None


@dataclass(frozen=True)
class Plane:
    """Quality against forgetting: right learned more, up kept more, shaded is over budget.

    `joined` is a path through the plane, e.g. the dial from the base to the full update.
    """

    title: str
    places: Sequence[Place]
    epsilon: float | None
    x_value: Format
    y_value: Format
    x_name: str = ""
    y_name: str = ""
    joined: Sequence[tuple[float, float]] = ()
    height: float = 340

    @property
    def crowded(self) -> bool:
        return len(self.places) > CROWDED

    def whiskers(self, place: Place) -> tuple[Interval | None, Interval | None]:
        """The intervals that are drawn of a place, along x and y."""
        if self.crowded and place.style in CROWD:
            return None, None
        return place.x_interval, place.y_interval

    def spoken(self) -> str:
        """What is read out in place of the drawing."""
        told = [p for p in self.places if not (self.crowded and p.style in CROWD)]
        left = len(self.places) - len(told)
        more = [f"and {left} more"] if left else []
        return f"{self.title}. {'; '.join([*(p.said for p in told), *more])}"

    def axes(self) -> tuple[Axis, Axis]:
        """x in per cent of the width, y in pixels."""
        drawn = [(p, *self.whiskers(p)) for p in self.places]
        ends_x = [e for p, wide, _ in drawn for e in (p.x, *(wide or ()))]
        ends_y = [e for p, _, high in drawn for e in (p.y, *(high or ()))]
        ends_y += [-self.epsilon] if self.epsilon is not None else []
        x = Axis(*span([0.0, *ends_x], 0.12), 0, 100)
        return x, Axis(*span([0.0, *ends_y], 0.15), self.height, 0)


def draw_plane(plane: Plane) -> Markup:
    """The y labels (fixed width) and the drawing (fluid), side by side."""
    height, epsilon = plane.height, plane.epsilon
    x, y = plane.axes()
    parts: list[Markup] = []
    if epsilon is not None:
        limit = y(-epsilon)
        below = {"x": 0, "y": limit, "width": "100%", "height": max(height - limit, 0)}
        parts.append(tag("rect", **below, class_="beyond"))
    ticks_x, ticks_y = x.ticks(5), y.ticks(5)
    parts += [rule(y(t), "grid") for t in ticks_y]
    parts += [tag("line", x1=x.x(t), x2=x.x(t), y1=0, y2=height, class_="grid") for t in ticks_x]
    parts.append(rule(y(0), "zero"))
    parts.append(tag("line", x1=x.x(0), x2=x.x(0), y1=0, y2=height, class_="zero"))
    if epsilon is not None:
        parts.append(rule(y(-epsilon), "budget", "budget", below=True))
    if len(plane.joined) > 1:
        points = [(x(a), y(b)) for a, b in plane.joined]
        parts.append(path(points, height, "line dial"))
    order = sorted(plane.places, key=lambda p: RADIUS.get(p.style, 0))
    placed = label_spots(plane)
    for place in order:
        parts += _place(place, x, y, placed[id(place)], *plane.whiskers(place))
    for t, said in zip(ticks_x, tidy([plane.x_value(t) for t in ticks_x]), strict=True):
        where = {"x": x.x(t), "y": height + 16, "text_anchor": anchor(x, t)}
        parts.append(tag("text", said, **where, class_="tick"))
    labels = [
        tag("text", said, x=46, y=y(t) + 4, class_="tick", text_anchor="end")
        for t, said in zip(ticks_y, tidy([plane.y_value(t) for t in ticks_y]), strict=True)
        if 8 < y(t) < height - 4
    ]
    gutter = tag("svg", *labels, width=52, height=height + 22, class_="gutter", aria_hidden="true")
    return gutter + drawing(*parts, height=height + 22, title=plane.spoken())


def label_spots(plane: Plane) -> dict[int, Spot | None]:
    """Where the name of each place stands, by the place's id: the most important are named first,
    and one without room has its tooltip alone."""
    x, y = plane.axes()
    order = sorted(plane.places, key=lambda p: -RADIUS.get(p.style, 0))
    marks = [
        Named(min(max(x(p.x), 0), 100) / 100, y(p.y), RADIUS.get(p.style, 4.5), p.name[:24])
        for p in order
    ]
    taken = []
    if plane.epsilon is not None:
        taken.append(Named(0.99, y(-plane.epsilon) + 13, 0, "budget"))
    found = spots(marks, plane.height, taken)
    return {id(place): spot for place, spot in zip(order, found, strict=True)}


def _place(
    place: Place,
    x: Axis,
    y: Axis,
    spot: Spot | None,
    wide: Interval | None,
    high: Interval | None,
) -> list[Markup]:
    across, up = x.x(place.x), y(place.y)
    mark: list[Markup] = [tag("title", place.said)]
    if wide is not None:
        lo, hi = (x.x(end) for end in wide)
        mark.append(tag("line", x1=lo, x2=hi, y1=up, y2=up, class_="whisker"))
    if high is not None:
        lo_y, hi_y = (y(end) for end in high)
        mark.append(tag("line", x1=across, x2=across, y1=lo_y, y2=hi_y, class_="whisker"))
    mark.append(_dot(across, up, place.style))
    if spot is not None:
        # A nested svg, because text cannot be moved by pixels from a percentage otherwise.
        where = {"x": spot.dx, "y": spot.dy, "text_anchor": spot.anchor}
        words = tag("text", place.name[:24], **where, class_="name")
        mark.append(tag("svg", words, x=across, y=up, overflow="visible"))
    return [tag("g", *mark, class_=f"place {place.style}")]


def _dot(x: str, y: float, style: str) -> Markup:
    """A circle; of what is over budget a cross, as everywhere."""
    if style != "over":
        return tag("circle", cx=x, cy=y, r=RADIUS.get(style, 4.5), class_="dot")
    points = " ".join(f"{a:g},{b:g}" for a, b in POLYGONS["forgotten"])
    shape = tag("polygon", points=points, class_="dot")
    return tag("svg", shape, x=x, y=y, overflow="visible")


def place_key(style: str) -> Markup:
    """The mark of a place in the plane, for a legend."""
    group = tag("g", _dot("9", 9, style), class_=f"place {style}")
    return tag("svg", group, width=18, height=18, class_="key-mark", aria_hidden="true")
