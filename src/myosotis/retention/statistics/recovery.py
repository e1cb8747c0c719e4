"""How many lost answers come back, against how many come that were never there."""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy import special


class Share(NamedTuple):
    """A share of right answers with its 95 % interval."""

    value: float
    lo: float
    hi: float


def share(right: int, n: int, level: float = 0.95) -> Share | None:
    """`right` of `n`, with Wilson's score interval (1927); None of nothing."""
    if not n:
        return None
    z, p = float(special.ndtri(0.5 + level / 2)), right / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Share(p, max(0.0, middle - half), min(1.0, middle + half))


def more(one: Share, other: Share) -> Share:
    """`one` minus `other`, of different items; Newcombe's hybrid score interval (1998, no. 10)."""
    d = one.value - other.value
    below = math.hypot(one.value - one.lo, other.hi - other.value)
    above = math.hypot(one.hi - one.value, other.value - other.lo)
    return Share(d, d - below, d + above)
