"""The α-dial: how strong an update may be.

θ0 + αΔθ goes from the base (α = 0) to the tuned model (α = 1). Interpolating weights often keeps
most of what was learned and recovers most of what was lost (WiSE-FT, Wortsman et al. 2022). What
belongs here: which strengths to try, and which of them to take. What each of them is worth is
measured elsewhere, on the half of the questions that chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

GRID = (0.25, 0.5, 0.75, 1.0)
RESOLUTION = 1 / 16
"""How far the search goes: gaps beside the chosen strength are halved down to this."""


class Reading(NamedTuple):
    """What one strength showed on the half that chooses."""

    alpha: float
    gain: float  # of task quality over the base, in the metric's unit; positive is better
    inside: bool  # the verdict of the benchmarks is inside the budget


BASE = Reading(0.0, 0.0, True)
"""At α = 0 nothing is learned and nothing is lost."""


def best(readings: Sequence[Reading]) -> Reading | None:
    """The largest gain inside the budget, the weaker one of equals; None if none gains anything."""
    gaining = [r for r in readings if r.alpha > 0 and r.inside and r.gain > 0]
    return max(gaining, key=lambda r: (r.gain, -r.alpha), default=None)


def next_strength(readings: Sequence[Reading], resolution: float = RESOLUTION) -> float | None:
    """Where a better strength may hide: the middle of the wider gap beside the best one so far.

    Towards the next stronger one the verdict changes, or the gain falls. Where the gain falls, its
    peak may also lie on the weaker side; below a change of verdict it is still rising. None when
    the gaps are as narrow as `resolution`, or the strongest of all is the best.
    """
    known = sorted([BASE, *readings])
    place = known.index(best(readings) or BASE)
    weaker, stronger = known[:place][-1:], known[place + 1 :][:1]
    beside = [(r.alpha, known[place].alpha) for r in stronger]
    if stronger and stronger[0].inside:
        beside += [(r.alpha, known[place].alpha) for r in weaker]
    gaps = [(abs(a - b), (a + b) / 2) for a, b in beside if abs(a - b) > resolution]
    return max(gaps)[1] if gaps else None


def explore(
    look: Callable[[float], Reading], strengths: Sequence[float], *, refine: bool
) -> list[Reading]:
    """`look` at each of the strengths and, with `refine`, where a better one may hide."""
    readings = [look(alpha) for alpha in strengths]
    while refine and (alpha := next_strength(readings)) is not None:
        readings.append(look(alpha))
    return sorted(readings)
