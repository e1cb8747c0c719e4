"""The mean change of items that were drawn at different rates from strata, and its interval.

What belongs here: stratified sampling (Cochran 1977, chapter 5) of paired scores. With W_h the
share of stratum h in the pool, d_h the mean change and s_h^2 the variance of the changes of its n_h
items,

    delta = sum_h W_h d_h,     SE^2 = sum_h W_h^2 s_h^2 / n_h.

There is no correction for a finite pool: the claim is about the benchmark, of which the pool is a
sample; what that leaves out (the variance between strata over the pool's size) is of the order of
what the correction would take away. A stratum where no item changed has s_h = 0 by luck as often
as not; so every stratum gets `PRIOR` more items that changed as all of them did on average.

0/1 scores get Tango's score interval on the counts that simple sampling would have needed for this
SE (Rao & Scott 1992), others Student's t; both with Satterthwaite's degrees of freedom. Simulated
coverage: tests/retention/statistics/test_stratified.py, bench/settle.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

PRIOR = 1.0
"""Items that stand in each stratum for what was not seen there."""


class Strata(NamedTuple):
    """The stratum of each item, from 0 on, and the share of each stratum in the pool (W_h)."""

    of_item: NDArray[np.int64]
    shares: Floats

    @property
    def present(self) -> NDArray[np.int64]:
        """(H,) items of each stratum."""
        return np.bincount(self.of_item, minlength=len(self.shares))

    def weights(self) -> Floats:
        """(n,) of each item, 1 on average: its stratum's share of the pool over its share of what
        was asked. Strata of which nothing was asked are left out."""
        asked = self.present
        share = np.where(asked > 0, self.shares, 0.0)
        share = share / share.sum()
        weight = share / np.maximum(asked, 1) * len(self.of_item)
        return weight[self.of_item]


class StratifiedChange(NamedTuple):
    """delta and its SE, the degrees of freedom of the SE, and of 0/1 scores the shares of items
    that turned right and wrong."""

    delta: float
    se: float
    df: float
    gained: float
    lost: float


def stratified(d: Floats, strata: Strata) -> StratifiedChange:
    """Of (n,) changes. Raises `ValueError` without items."""
    if not len(d):
        raise ValueError("no items")
    n_H = strata.present.astype(np.float64)
    here = n_H > 0
    share_H = np.where(here, strata.shares, 0.0)
    share_H = share_H / share_H.sum()
    count_H = np.maximum(n_H, 1)
    mean_H = np.bincount(strata.of_item, d, len(n_H)) / count_H
    square_H = np.bincount(strata.of_item, d * d, len(n_H)) / count_H
    delta = float(share_H @ mean_H)
    pooled = float(share_H @ square_H) - delta**2
    variance_H = (n_H * (square_H - mean_H**2) + PRIOR * pooled) / np.maximum(n_H + PRIOR - 1, 1)
    part_H = np.where(here, share_H**2 * variance_H / count_H, 0.0)
    total = float(part_H.sum())
    freedom = float((part_H**2 / np.maximum(n_H + PRIOR - 1, 1)).sum())
    df = total**2 / freedom if freedom > 0 else float(max(len(d) - 1, 1))
    gained = float(share_H @ (np.bincount(strata.of_item, d > 0, len(n_H)) / count_H))
    lost = float(share_H @ (np.bincount(strata.of_item, d < 0, len(n_H)) / count_H))
    return StratifiedChange(delta, total**0.5, df, gained, lost)


def effective_items(change: StratifiedChange, strata: Strata, level: float) -> float:
    """Items of a simple sample whose 0/1 scores would tell as much; a little fewer, for the degrees
    of freedom of the SE at `level`. Where nothing changed, Kish's number (1965): sum(w)^2 over
    sum(w^2) of the items' weights."""
    independent = change.gained + change.lost - change.delta**2
    if independent > 0 and change.se > 0:
        count = independent / change.se**2
    else:
        weights = strata.weights()
        count = float(weights.sum() ** 2 / (weights**2).sum())
    quantile = 0.5 + level / 2
    return count * float(special.ndtri(quantile) / special.stdtrit(change.df, quantile)) ** 2
