"""The bootstrap-t: how a studentised mean of clusters would vary, and the tails of that.

What belongs here: resampling sums and weights of clusters. Which intervals are made of it, and
when, is in `intervals.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

RESAMPLES = 4999

MOST_CLUSTERS = 2000
"""So many clusters are resampled at most; more are put together."""

FEWEST_BEYOND = 5
"""A quantile beyond which fewer resamples lie is Student's, stretched by what the last one that is
known exceeds his by."""


def bootstrap_t(
    sum_G: Floats, weight_G: Floats, se: float, seed: int, *, all_varying: bool = False
) -> Floats:
    """(RESAMPLES,) studentised differences of resampled clusters from the mean at hand.

    The mean is sum(sum_G) / sum(weight_G), `se` its standard error; that of a resample is as in
    `intervals.cluster_se`, with the shares of weight of the sample at hand. A resample without
    variation says nothing of the scale: it lies as far out as could be, or (`all_varying`) is left
    out.
    """
    mean = sum_G.sum() / weight_G.sum()
    sum_G, weight_G = _folded(sum_G, weight_G, seed)
    residual_G = sum_G - mean * weight_G
    factor_G = 1 / (1 - weight_G / weight_G.sum())
    rows = [residual_G, weight_G]
    rows += [factor_G * r for r in (residual_G**2, residual_G * weight_G, weight_G**2)]
    columns_G5 = np.stack(rows, axis=1)
    drawn_BG = _multiplicities(len(sum_G), seed, RESAMPLES)
    parts = [part.astype(np.float64) @ columns_G5 for part in np.array_split(drawn_BG, 16)]
    r, w, rr, rw, ww = np.concatenate(parts).T
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = r / w
        se_B = np.sqrt(np.maximum(rr - 2 * moved * rw + moved**2 * ww, 0.0)) / w
        varies = se_B > 1e-6 * se
        if all_varying:
            return moved[varies] / se_B[varies]
        return np.nan_to_num(moved / np.where(varies, se_B, 0.0))


class Tail(NamedTuple):
    """The upper tail of sorted resamples; farther out Student's, `stretch` times as far."""

    t_B: Floats
    degrees: float
    stretch: float

    @classmethod
    def of(cls, t_B: Floats, degrees: float) -> Tail:
        """The tail beyond which the largest of `t_B` lie."""
        t_B = np.sort(t_B)
        student = special.stdtrit(degrees, 1 - FEWEST_BEYOND / (len(t_B) + 1))
        return cls(t_B, degrees, max(1.0, float(t_B[-FEWEST_BEYOND] / student)))

    def quantile(self, share: float) -> float:
        """What a `share` lies beyond."""
        if (rank := round(share * (len(self.t_B) + 1))) >= FEWEST_BEYOND:
            return float(self.t_B[-rank])
        return self.stretch * float(special.stdtrit(self.degrees, 1 - share))

    def beyond(self, t: float) -> float:
        """The share at or beyond `t`."""
        if (count := int((self.t_B >= t).sum())) >= FEWEST_BEYOND:
            return (1 + count) / (len(self.t_B) + 1)
        return float(special.stdtr(self.degrees, -t / self.stretch))


def _folded(sum_G: Floats, weight_G: Floats, seed: int) -> tuple[Floats, Floats]:
    """Of more than `MOST_CLUSTERS` clusters, sums and weights put together at random to as many:
    the mean, its SE and its skew stay what they are."""
    if len(sum_G) <= MOST_CLUSTERS:
        return sum_G, weight_G
    place_G = np.random.default_rng(seed).permutation(len(sum_G)) % MOST_CLUSTERS
    return (
        np.bincount(place_G, sum_G).astype(np.float64),
        np.bincount(place_G, weight_G).astype(np.float64),
    )


@lru_cache(maxsize=4)
def _multiplicities(groups: int, seed: int, resamples: int) -> NDArray[np.uint8]:
    """(resamples, groups) how often each cluster is drawn in each resample: 10 MB at most."""
    rng, parts = np.random.default_rng(seed), []
    for rows in np.array_split(np.arange(resamples), 16):
        drawn = rng.integers(groups, size=(len(rows), groups))
        drawn += np.arange(len(rows))[:, None] * groups
        counts = np.bincount(drawn.reshape(-1), minlength=len(rows) * groups)
        parts.append(counts.astype(np.uint8).reshape(len(rows), groups))
    return np.concatenate(parts)
