"""The bounds of a planned group-sequential test: how sure each look must be, so that all together
are wrong as seldom as one look would be.

What belongs here: from planned looks and an error level to the level of the interval that is read
at each look. What the interval is made of is in `intervals.py`; when is looked and at what, in
`retention/sequential_eval.py` and wherever else a measurement stops early.

The looks are known before the first: a look k has a share t_k of the information (items) of the
last. With the statistic Z_k = S(t_k) / sqrt(t_k), S a Brownian motion where the hypothesis is true,
Wang & Tsiatis (1987) reject where

    |Z_k| >= c * t_k ** (delta - 1/2).

delta = 1/2 is Pocock's test (1977), 0 that of O'Brien & Fleming (1979); 1/4 lies between: looks in
the middle of the way can settle, and the last one loses little against a test with a single look
(z = 2.14 instead of 1.96 for five looks at 5 %). The constant c comes from the recursive
integration of Armitage, McPherson & Rowe (1969), as in Jennison & Turnbull (2000), "Group
Sequential Methods with Applications to Clinical Trials", chapters 2 and 19.

What is promised: for each single value of the true change, the intervals of all looks leave it out
on either side with probability (1 - level) / 2, as far as the statistic is normal. So a verdict at
the first look that settles one is as reliable as that of a test of one look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]

GROWTH = 1.5
"""How many times the items of one look the next one has."""

WANG_TSIATIS = 0.25
"""Between O'Brien & Fleming's shape (0) and Pocock's (1/2)."""

MOST = 1 - 1e-12
"""No look is asked to be surer than this: z = 7.1."""

NODES_PER_SD = 3
"""Gauss-Legendre nodes for a standard deviation of the next step; 24 more at the edges."""


def growing(first: int, last: int) -> list[int]:
    """Items at planned looks: `first`, then `GROWTH` times as many, until `last`."""
    found, size = [], max(first, 1)
    while size < last:
        found.append(size)
        size = math.ceil(size * GROWTH)
    return [*found, last]


def boundaries(times: Sequence[float], level: float, delta: float = WANG_TSIATIS) -> list[float]:
    """The level of the two-sided interval to read at each planned look.

    `times` are the information at each look, growing, in any unit (items asked of a task, shares of
    the last look); `level` is that of all looks together. One look has `level` itself. Raises
    `ValueError` for times that do not grow from above 0, or a level outside (0, 1).
    """
    scaled = np.asarray(times, np.float64) / times[-1] if len(times) else np.empty(0)
    if not len(scaled) or scaled[0] <= 0 or not (np.diff(scaled) > 0).all():
        raise ValueError(f"looks need growing amounts of information above 0, not {list(times)}")
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
    if len(scaled) == 1:
        return [level]
    z_K = constant(tuple(scaled.tolist()), level, delta) * scaled ** (delta - 0.5)
    return np.minimum(special.erf(z_K / np.sqrt(2)), MOST).tolist()  # 2 Phi(z) - 1


@lru_cache(maxsize=256)
def constant(times: tuple[float, ...], level: float, delta: float) -> float:
    """Wang & Tsiatis' c for looks at shares `times` of the information, the last of them 1."""

    def excess(c: float) -> float:
        return never_crosses(np.asarray(times), c * np.asarray(times) ** delta) - level

    # The last look alone leaves out as much as all together at least, and each at the Bonferroni
    # level is enough; bounds are lowest at the last look, or (delta > 1/2) at the first.
    least, each = special.ndtri(0.5 + level / 2), special.ndtri(1 - (1 - level) / 2 / len(times))
    most = each * max(1.0, times[0] ** (0.5 - delta))
    return float(optimize.brentq(excess, 0.999 * least, 1.001 * most, xtol=1e-6))  # pyright: ignore


def never_crosses(times: Floats, bound_K: Floats) -> float:
    """P(|S(t_k)| < bound_k at every look) for a Brownian motion S: Armitage, McPherson & Rowe.

    The density of the paths still inside is carried from look to look on Gauss-Legendre nodes
    within the bounds: g_k(y) = integral of g_(k-1)(x) * phi((y - x) / sd_k) / sd_k dx.
    """
    sd_K = np.sqrt(np.diff(times, prepend=0.0))
    x, mass = np.zeros(1), np.ones(1)  # of paths inside so far, at nodes x
    for k in range(len(times) - 1):
        finest = min(sd_K[k], sd_K[k + 1])
        node, weight = _legendre(24 + int(np.ceil(NODES_PER_SD * 2 * bound_K[k] / finest)))
        y = bound_K[k] * node
        density = np.exp(-0.5 * ((y[:, None] - x) / sd_K[k]) ** 2) @ mass
        mass = bound_K[k] * weight * density / (sd_K[k] * np.sqrt(2 * np.pi))
        x = y
    last, sd = bound_K[-1], sd_K[-1]
    return float(mass @ (special.ndtr((last - x) / sd) - special.ndtr((-last - x) / sd)))


@lru_cache(maxsize=64)
def _legendre(nodes: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(nodes)
