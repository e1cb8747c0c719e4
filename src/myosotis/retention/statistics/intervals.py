"""Intervals of a paired difference that keep their coverage: small samples, clusters, rare changes.

What belongs here: from scores to a method, its interval and its p-value. What follows from an
interval is in `paired.py`, which is what callers use.

Which interval is used (`Paired.method` says):

=================  ============================================================================
``score``          0/1 scores: Tango's score interval (1998) for a difference of paired
                   proportions. At zero it is McNemar's asymptotic test, whose type-I error
                   Fagerland, Lydersen & Laake (2013) found at most 5.4 % at a nominal 5 %; it
                   keeps its coverage with few discordant items, and with none it is about
                   +-z^2/n (the rule of three), where mean +- 1.96 SE would be a point.
``score-cluster``  0/1 scores in clusters: the same on counts divided by the design effect (Rao &
                   Scott 1992), which is the cluster-robust variance over the independent one,
                   never below 1, with Student's t for the clusters' degrees of freedom. Each bound
                   is the farther of this and the next one: where clusters are unlike (one subject
                   is lost, the others not), the mean is skewed, which counts alone do not show.
``score-cluster``  also scores of 0, 1/2 and 1 (a tie, or the toss of a coin to compare with): each
                   is two answers of 0 or 1 that belong together, 1/2 a right and a wrong one.
``stratified``     items drawn at different rates from strata (`stratified.py`): 0/1 scores by the
                   score interval on effective counts, others by Student's t.
``bootstrap-t``    other scores, from 10 clusters on (an item without a cluster is one of its own):
                   clusters are resampled and the difference is studentised with its
                   cluster-robust SE (Efron & Tibshirani 1993, ch. 12). Each bound is the farther
                   of this and Student's t: resampling knows skew, t is the safer where few items
                   moved at all, and alone each fell to 85-90 % coverage on the other's ground. More
                   than 2,000 clusters are put together, at random, to 2,000.
``t``              other scores, below 10 clusters: too few to resample.
``unseen``         no variation to estimate an SE from (every difference is equal, or there is a
                   single cluster): a share z^2/(n+z^2) of unseen items could differ by as much
                   as the scores span.
=================  ============================================================================

The cluster-robust SE is CR2, Student's t has the degrees of freedom of Bell & McCaffrey (2002):
with clusters of 160, 10, 10, 10 and 10 items they are 1.4, not 4. What is left of a verdict from so
few clusters is a matter of `records/verdict.py`, which wants 8 effective ones.

Simulated coverage and type-I error of each: tests/retention/statistics/test_intervals.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from myosotis.retention.statistics.bootstrap import Tail, bootstrap_t
from myosotis.retention.statistics.stratified import Strata, effective_items, stratified
from myosotis.utils.errors import DataError

Floats = NDArray[np.float64]
Clusters = Sequence[object] | NDArray[np.generic] | None

FEWEST_CLUSTERS = 10
"""From so many clusters on the bootstrap is used; below, Student's t."""


class Interval(NamedTuple):
    """[lo, hi] of the mean difference, its SE, and the p-value of "no change"."""

    method: str
    se: float
    lo: float
    hi: float
    p: float


def interval(x: PairedScores, level: float, seed: int) -> Interval:
    """The interval of `x.delta` at `level` by the method the module docstring names.

    Where no SE can be estimated, the half width over the normal quantile stands in.
    """
    z = float(special.ndtri(0.5 + level / 2))
    if x.strata is not None:
        method, lo, hi, p = _stratified(x, x.strata, level)
    elif x.groups > 1 and x.binary:
        method, lo, hi, p = _score_interval(x, level, seed)
    elif x.varies:
        method, lo, hi, p = _studentised(x, level, seed)
    else:
        method, lo, hi, p = _unseen(x, z)
    return Interval(method, x.se if x.varies else (hi - lo) / 2 / z, lo, hi, p)


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Differences, summed within G clusters. Where scores are halves, an answer is half an item."""

    items: int
    d: Floats  # (n,) tuned - base, of answers
    sums: Floats  # (G,) of weight * difference
    weights: Floats  # (G,) of weights; items where all count alike
    base: float
    delta: float
    se: float  # cluster-robust, see `cluster_se`
    span: float  # how far apart two scores are, or one from zero
    binary: bool  # every score is 0 or 1 and counts alike
    strata: Strata | None = None

    @property
    def groups(self) -> int:
        return len(self.sums)

    @property
    def varies(self) -> bool:
        """Whether the clusters differ enough to estimate an SE from them."""
        return self.groups > 1 and self.se > 1e-12 * self.span

    @property
    def effective(self) -> float:
        """How many clusters of equal size are worth as much: (sum w)^2 / sum w^2."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the SE (Bell & McCaffrey 2002, for independent items).

        (trace A)^2 / trace A^2 for the quadratic form A that the squared SE is in the items; with h
        a cluster's share of the weight and a = h^2 / (1 - h) that is
        1 / (sum h^2 + (sum a)^2 - sum a^2), which is G - 1 for G equal clusters.
        """
        share_G = self.weights / self.weights.sum()
        leverage_G = share_G**2 / (1 - share_G)
        squares = (share_G**2).sum() + leverage_G.sum() ** 2 - (leverage_G**2).sum()
        return float(1 / squares)

    @classmethod
    def of(
        cls,
        base: ArrayLike,
        tuned: ArrayLike,
        clusters: Clusters,
        weights: ArrayLike | None,
        strata: Strata | None = None,
    ) -> PairedScores:
        """`strata` are for items that are no clusters and count alike (`weights` None or ones)."""
        before, after = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
        weight = np.ones(len(before)) if weights is None else np.asarray(weights, np.float64)
        group = _numbered(clusters, len(before))
        if before.ndim != 1 or not before.shape == after.shape == weight.shape == group.shape:
            raise DataError(
                "Scores can only be compared item by item: "
                f"{before.shape} base, {after.shape} tuned, {weight.shape} weights, "
                f"{group.shape} clusters."
            )
        if len(before) == 0:
            raise DataError("There are no items to compare.")
        if bad := int((~np.isfinite(before + after + weight)).sum()):
            raise DataError(f"{bad} of {len(before)} items have a score that is not finite.")
        if weight.min() < 0 or weight.sum() <= 0:
            raise DataError("Item weights must not be negative, and at least one must count.")
        if alike := bool((weight == weight[0]).all()):
            weight = np.ones(len(before))
        if strata is not None:
            return cls._drawn_unequally(before, after, strata)
        items, scores = len(before), np.concatenate([before, after])
        if alike and _has_halves(scores):
            before, after = _both_answers(before), _both_answers(after)
            weight, group = np.repeat(weight, 2), np.repeat(group, 2)
            scores = np.concatenate([before, after])
        d = after - before
        sum_G = np.bincount(group, weight * d).astype(np.float64)
        weight_G = np.bincount(group, weight).astype(np.float64)
        delta = float(sum_G.sum() / weight.sum())
        binary = alike and bool(np.isin(scores, (0.0, 1.0)).all())
        return cls(
            items=items,
            d=d,
            sums=sum_G,
            weights=weight_G,
            base=float((weight * before).sum() / weight.sum()),
            delta=delta,
            se=cluster_se(sum_G, weight_G),
            span=_span(before, after),
            binary=binary,
        )

    @classmethod
    def _drawn_unequally(cls, before: Floats, after: Floats, strata: Strata) -> PairedScores:
        d, weight = after - before, strata.weights()
        change = stratified(d, strata)
        scores = np.concatenate([before, after])
        binary = bool(np.isin(scores, (0.0, 1.0)).all())
        return cls(
            items=len(d),
            d=d,
            sums=weight * d,
            weights=weight,
            base=float((weight * before).mean()),
            delta=change.delta,
            se=change.se,
            span=_span(before, after),
            binary=binary,
            strata=strata,
        )


def _span(before: Floats, after: Floats) -> float:
    """How far apart two scores can be: answers are right or wrong, also where all are the one, or
    are compared with a share that chance would have."""
    scores = np.concatenate([before, after, [0.0]])
    lowest, highest = float(scores.min()), float(scores.max())
    answers = any(np.isin(side, (0.0, 1.0)).all() for side in (before, after))
    return 1.0 if answers and 0 <= lowest <= highest <= 1 else highest - lowest


def _has_halves(scores: Floats) -> bool:
    return bool(np.isin(scores, (0.0, 0.5, 1.0)).all() and (scores == 0.5).any())


def _both_answers(scores: Floats) -> Floats:
    """(n,) of 0, 1/2 and 1 to (2n,) of 0 and 1 with the same mean, two answers an item."""
    return np.stack([scores > 0, scores == 1], axis=1).reshape(-1).astype(np.float64)


def _numbered(clusters: Clusters, n: int) -> NDArray[np.int64]:
    """Clusters as numbers from 0 on; None is a cluster of its own."""
    if clusters is None:
        return np.arange(n)
    if isinstance(clusters, np.ndarray) and clusters.dtype != np.dtype(object):
        return np.unique(clusters, return_inverse=True)[1]
    number: dict[object, int] = {}
    keys = (("alone", i) if name is None else ("named", name) for i, name in enumerate(clusters))
    return np.asarray([number.setdefault(key, len(number)) for key in keys], np.int64)


def cluster_se(sum_G: Floats, weight_G: Floats) -> float:
    """Cluster-robust standard error of sum(sum_G) / sum(weight_G) over G clusters (CR2).

    With h_g a cluster's share of the weight: sqrt(sum_g (sum_g - mean * weight_g)^2 / (1 - h_g)) /
    sum(weight), unbiased where items are independent (Bell & McCaffrey 2002; Pustejovsky & Tipton
    2018); with one item a cluster it is sd / sqrt(n). 0 where one cluster is all, whose SE is
    unknown.
    """
    total = weight_G.sum()
    rest_G = 1 - weight_G / total
    if rest_G.min() < 1e-12:
        return 0.0
    residual_G = sum_G - sum_G.sum() / total * weight_G
    return float(np.sqrt((residual_G**2 / rest_G).sum()) / total)


def _score_interval(x: PairedScores, level: float, seed: int) -> tuple[str, float, float, float]:
    """Method, interval and p-value of 0/1 scores, clustered or not."""
    n, gained, lost = len(x.d), int((x.d > 0).sum()), int((x.d < 0).sum())
    if x.groups == n:
        shrink, method = 1.0, "score"
    else:
        independent = (gained + lost - n * x.delta**2) / (n * (n - 1))  # sd^2 / n
        if independent > 0:
            design = max(1.0, x.se**2 / independent)
        else:  # nothing to estimate it from: a whole cluster might change together
            design = float((x.weights**2).sum() / n)
        quantile = 0.5 + level / 2
        design *= float((special.stdtrit(x.degrees, quantile) / special.ndtri(quantile)) ** 2)
        shrink, method = 1 / design, "score-cluster"
    lo, hi = tango(gained * shrink, lost * shrink, n * shrink, level)
    chi = abs(gained - lost) * np.sqrt(shrink / max(gained + lost, 1))
    p = float(2 * special.ndtr(-chi))
    if x.groups < x.items and x.varies:
        _, low, high, other = _studentised(x, level, seed)
        lo, hi, p = min(lo, low), max(hi, high), max(p, other)
    return method, lo, hi, p


def _stratified(x: PairedScores, strata: Strata, level: float) -> tuple[str, float, float, float]:
    """Method, interval and p-value of items drawn at different rates."""
    change = stratified(x.d, strata)
    if x.binary:
        n = effective_items(change, strata, level)
        lo, hi = tango(change.gained * n, change.lost * n, n, level)
        chi = abs(change.delta) * np.sqrt(n / max(change.gained + change.lost, 1e-300))
        return "stratified", lo, hi, float(2 * special.ndtr(-chi))
    if not x.varies:
        return _unseen(x, float(special.ndtri(0.5 + level / 2)))
    far = float(special.stdtrit(change.df, 0.5 + level / 2)) * x.se
    p = float(2 * special.stdtr(change.df, -abs(x.delta) / x.se))
    return "stratified", max(x.delta - far, -x.span), min(x.delta + far, x.span), p


def _unseen(x: PairedScores, z: float) -> tuple[str, float, float, float]:
    """Method, interval and p-value where nothing varies."""
    far = z * z / (x.groups + z * z) * x.span
    share = min(abs(x.delta) / x.span, 1.0) if x.span else 0.0
    p = 2 * special.ndtr(-np.sqrt(x.groups * share / (1 - share))) if share < 1 else 0.0
    return "unseen", x.delta - far, x.delta + far, float(p)


@lru_cache(maxsize=4096)
def tango(gained: float, lost: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval of (gained - lost) / n for paired 0/1 scores (Tango 1998, eq. 8 and 11).

    `gained` and `lost` of `n` items were right in one of the two only; effective counts need not
    be whole numbers.
    """
    z, estimate = float(special.ndtri(0.5 + level / 2)), (gained - lost) / n

    def statistic(delta: float) -> float:
        b = (2 * n - gained + lost) * delta - gained - lost
        root = math.sqrt(max(b * b + 8 * n * lost * delta * (1 - delta), 0.0))
        variance = n * ((root - b) / (2 * n) + delta * (1 - delta))  # n (2 q + d (1 - d))
        difference = gained - lost - n * delta
        return difference / math.sqrt(variance) if variance > 0 else math.copysign(1e9, difference)

    def bound(end: float) -> float:
        near, far = estimate + end * 1e-12, end * (1 - 1e-12)
        if abs(near) >= 1 or abs(statistic(far)) < z:
            return end
        return float(optimize.brentq(lambda d: abs(statistic(d)) - z, near, far))  # pyright: ignore

    return bound(-1.0), bound(1.0)


def _studentised(x: PairedScores, level: float, seed: int) -> tuple[str, float, float, float]:
    """Method, interval and p-value of other scores: bootstrap-t, or Student's t."""
    t, degrees, tail = x.delta / x.se, x.degrees, 0.5 - level / 2
    high = float(special.stdtrit(degrees, 1 - tail))
    low = -high
    method, p = "t", float(2 * special.stdtr(degrees, -abs(t)))
    if x.groups >= FEWEST_CLUSTERS:
        # Of 0/1 scores the score interval speaks for the resamples in which nothing varies.
        t_B = bootstrap_t(x.sums, x.weights, x.se, seed, all_varying=x.binary)
        above, below = Tail.of(t_B, degrees), Tail.of(-t_B, degrees)
        low, high = min(low, -below.quantile(tail)), max(high, above.quantile(tail))
        method, p = "bootstrap-t", max(p, min(1.0, 2 * min(above.beyond(t), below.beyond(-t))))
    lo, hi = x.delta - high * x.se, x.delta - low * x.se
    far = _farthest(x, level)
    return method, float(max(lo, min(x.delta, -far))), float(min(hi, max(x.delta, far))), p


def _farthest(x: PairedScores, level: float) -> float:
    """How far from 0 the mean change can be: the span times the largest share of clusters that may
    change (Wilson's score bound). Resamples say nothing of clusters that did not: one passage that
    moved by a hair would tell of a change of the whole."""
    changed = int((x.sums != 0).sum())
    z, n = float(special.ndtri(0.5 + level / 2)), x.effective
    share = changed / x.groups
    centre = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return x.span * min(1.0, (centre + reach) / (1 + z * z / n))
