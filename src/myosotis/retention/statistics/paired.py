"""Paired statistics: what the difference between two models on the same items can support.

What belongs here: the comparison of two arrays of scores, tests and sample sizes (docs/science.md,
section 3), and the sign of forgetting. How an interval is made is in `intervals.py`, what it says
about a budget in `records/verdict.py`; which tasks are compared, in `compare.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # of `scipy.stats`, a second of imports, when it is asked
from numpy.typing import ArrayLike
from scipy import special

from myosotis.retention.statistics.intervals import Clusters, PairedScores, interval
from myosotis.retention.statistics.stratified import Strata

LEVEL = 0.95
POWER = 0.80


@dataclass(frozen=True)
class Paired:
    """The change of one score from the base to the tuned model on the same `n` items.

    `base`, `tuned` are means, `delta` = tuned - base whichever direction is better, `lo` and `hi`
    its interval at `level`, all in the unit of the scores. `se` is the (cluster-robust) standard
    error; where it cannot be estimated, the half width over 1.96. `effective_clusters` of
    equal size would be worth as much as the `clusters` are, (sum n)^2 / sum n^2. `mde` = (1.960 +
    0.842) * se, `p` the two-sided p-value of "no change" by the test that the interval inverts.
    """

    n: int
    clusters: int
    base: float
    tuned: float
    delta: float
    se: float
    lo: float
    hi: float
    mde: float
    p: float
    method: str
    level: float
    higher_is_better: bool
    effective_clusters: float
    binary: bool  # scores are 0 and 1

    @property
    def forgetting(self) -> float:
        """What was lost, positive when the tuned model is worse."""
        return forgetting(self.base, self.tuned, self.higher_is_better)

    @property
    def gain(self) -> tuple[float, float]:
        """The interval turned so that a loss is negative; what `verdict_of` takes."""
        return (self.lo, self.hi) if self.higher_is_better else (-self.hi, -self.lo)


def forgetting(base: float, tuned: float, higher_is_better: bool = True) -> float:
    """How much was lost: positive means the tuned model is worse. The one place of this sign."""
    return base - tuned if higher_is_better else tuned - base


def paired(
    base: ArrayLike,
    tuned: ArrayLike,
    *,
    clusters: Clusters = None,
    weights: ArrayLike | None = None,
    strata: Strata | None = None,
    higher_is_better: bool = True,
    level: float = LEVEL,
    seed: int = 0,
) -> Paired:
    """Compare two models item by item: `base[i]` and `tuned[i]` score the same item i.

    `clusters[i]` names what item i shares with others (a passage, a subject); None stands for an
    item of its own. `weights` turn means into weighted means (bits per byte: the bytes of each
    item). Items that were drawn at different rates have `strata`, and then neither clusters nor
    weights. Raises `DataError` when there is no item, lengths differ or a score is not finite.
    """
    x = PairedScores.of(base, tuned, clusters, weights, strata)
    found = interval(x, level, seed)
    return Paired(
        n=x.items,
        clusters=x.groups,
        base=x.base,
        tuned=x.base + x.delta,
        delta=x.delta,
        se=found.se,
        lo=found.lo,
        hi=found.hi,
        mde=minimum_detectable_effect(found.se),
        p=found.p,
        method=found.method,
        level=level,
        higher_is_better=higher_is_better,
        effective_clusters=x.effective,
        binary=x.binary,
    )


def mean_interval(tasks: Sequence[Paired]) -> tuple[float, float]:
    """[lo, hi] of the mean change over tasks that count alike, each with its interval.

    MOVER (Zou & Donner 2008): each end is as far from the mean as the root of the summed squares of
    the tasks' own distances, over their number. It keeps what a root of summed SE^2 would lose: the
    width of a task without discordant items, and on which side a skewed interval is the longer.
    """
    k, mean = len(tasks), float(np.mean([p.delta for p in tasks]))
    below = float(np.sqrt(sum((p.delta - p.lo) ** 2 for p in tasks))) / k
    above = float(np.sqrt(sum((p.hi - p.delta) ** 2 for p in tasks))) / k
    return mean - below, mean + above


def mean_clusters(tasks: Sequence[Paired]) -> float:
    """Effective clusters behind the mean over tasks: each task's weigh by its share of the variance
    (Satterthwaite's rule), so that a task of few clusters counts by what it makes uncertain."""
    variance = [p.se**2 for p in tasks]
    if not (total := sum(variance)):
        return float(sum(p.effective_clusters for p in tasks))
    parts = zip(variance, tasks, strict=True)
    return total**2 / sum(v**2 / p.effective_clusters for v, p in parts)


def mcnemar_midp(b: int, c: int) -> float:
    """Two-sided mid-p McNemar p-value for b and c discordant items (binomial, 1/2).

    What is as extreme as the items at hand counts half (Lancaster 1961). The exact test stays far
    below its level and contradicts the interval beside it; this one keeps to the level nearly
    everywhere (Fagerland, Lydersen & Laake 2013) and agrees with Tango's interval.
    """
    if not b + c:
        return 1.0
    alike = float(scipy.stats.binom.pmf(min(b, c), b + c, 0.5))
    if b == c:
        return 1 - alike / 2
    return float(2 * scipy.stats.binom.cdf(min(b, c), b + c, 0.5)) - alike


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact McNemar p-value (McNemar 1947; binomial, 1/2): never below its level, and so
    what a sentence of blame rests on."""
    if not b + c:
        return 1.0
    return min(1.0, float(2 * scipy.stats.binom.cdf(min(b, c), b + c, 0.5)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    factors = len(order) - np.arange(len(order))
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p, float)[order] * factors), 1.0)
    out = np.empty(len(order))
    out[order] = adjusted
    return out.tolist()


def minimum_detectable_effect(se: float) -> float:
    """The true change found with 80 % power at two-sided .05: (1.960 + 0.842) * se."""
    return float(special.ndtri(0.5 + LEVEL / 2) + special.ndtri(POWER)) * se
