"""Names beside marks, placed so that none stands in another or on a mark.

What belongs here: where a name has room. Drawings stretch with the page, so a place must hold at
every width: positions along x are shares of the width, offsets and sizes are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NARROW, WIDE = 280.0, 1300.0
"""Widths of a drawing in pixels, on a telephone and in a wide window."""

LETTER, ABOVE, BELOW = 7.6, 11.0, 3.0
"""Pixels: of a letter in width, and of a line above and below its baseline."""


class Spot(NamedTuple):
    """Where a name stands beside its mark, in pixels, and how it is anchored there."""

    dx: float
    dy: float
    anchor: str


SPOTS = tuple(
    Spot(dx, dy, "end" if dx < 0 else "start" if dx > 0 else "middle")
    for far in (0, 9, 20, 34)
    for dx, dy in (
        (11 + far, -9 - far), (-11 - far, -9 - far), (11 + far, 19 + far), (-11 - far, 19 + far),
        (0, -13 - far), (0, 23 + far), (14 + far, 5), (-14 - far, 5),
    )
)  # fmt: skip

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


class Named(NamedTuple):
    """A mark at `share` of the width and `y` pixels, of a radius in pixels; "" has no name."""

    share: float
    y: float
    radius: float
    name: str


def spots(marks: Sequence[Named], height: float, taken: Sequence[Named] = ()) -> list[Spot | None]:
    """A place for each name, the first first; None where there is no room for it.

    `taken` are names that stand already, with their right end at their `share`.
    """
    found: list[Spot | None] = []
    names: list[tuple[Named, Spot]] = [(mark, Spot(0, 0, "end")) for mark in taken]
    for mark in marks:
        spot = next((s for s in SPOTS if mark.name and _free(mark, s, marks, names, height)), None)
        found.append(spot)
        if spot is not None:
            names.append((mark, spot))
    return found


def box(mark: Named, spot: Spot, width: float) -> Box:
    """What a name takes in a drawing of that width."""
    long = LETTER * len(mark.name)
    left = mark.share * width + spot.dx
    left -= {"start": 0.0, "middle": long / 2, "end": long}[spot.anchor]
    base = mark.y + spot.dy
    return left, base - ABOVE, left + long, base + BELOW


def apart(one: Box, other: Box) -> bool:
    """Whether two boxes do not overlap."""
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def _free(
    mark: Named,
    spot: Spot,
    marks: Sequence[Named],
    names: Sequence[tuple[Named, Spot]],
    height: float,
) -> bool:
    """Whether a name stands inside the drawing, and in no other and on no mark, at any width."""
    left, top, right, bottom = box(mark, spot, NARROW)
    if left < 0 or right > NARROW or top < 0 or bottom > height:
        return False
    mine = (mark.share, box(mark, spot, 0))
    return all(_always_apart(*mine, one.share, box(one, where, 0)) for one, where in names) and all(
        _always_apart(*mine, one.share, _dot(one)) for one in marks
    )


def _always_apart(share: float, mine: Box, other_share: float, other: Box) -> bool:
    """Whether two boxes, given around their marks, do not overlap from `NARROW` to `WIDE`."""
    if mine[3] <= other[1] or other[3] <= mine[1]:
        return True
    between = sorted((share - other_share) * width for width in (NARROW, WIDE))
    # They overlap where other's left - my right < distance of the marks < other's right - my left.
    return between[1] <= other[0] - mine[2] or between[0] >= other[2] - mine[0]


def _dot(mark: Named) -> Box:
    return -mark.radius, mark.y - mark.radius, mark.radius, mark.y + mark.radius
