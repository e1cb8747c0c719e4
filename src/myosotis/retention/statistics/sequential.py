"""An interval for the suite's mean change that may be looked at after every block of items.

A fixed-size interval that is looked at again and again is wrong far more often than it says. This
one holds at all looks together: with probability 95 % it never leaves the truth out, however many
looks there are and whenever one stops. It is a confidence sequence by betting (Waudby-Smith &
Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86:1): to refute "the
mean change is at most m" a gambler stakes a share lambda of his capital on every score,

    capital = product of (1 + lambda * (d - m)),

which under that hypothesis is a nonnegative supermartingale, so that it ever reaches 1/alpha has
probability at most alpha (Ville 1939). No normal approximation: d only has to lie in [-1, 1].
Capitals for several constant lambda are averaged (their "diversified Kelly"), so none is tuned.

Several tasks, every task counting alike: a round holds some items of each, and its factors, one a
task with the same lambda, are multiplied. The tasks' draws are independent, so the expected product
is prod_t (1 + lambda * (mean_t - m)) <= (mean over t of 1 + lambda * (mean_t - m))^T <= 1 by the
inequality of the means, whatever the single tasks' changes are.

Clusters (a passage, a subject) are drawn whole, in random order. With S the sum and n the number of
a cluster's differences, and a the task's mean cluster size, a stake is laid on (S - m * n) / a,
whose expectation is zero exactly where the mean change per item is m.

Pure functions of numbers: what is measured when is in `retention/sequential_eval.py`. NumPy and
SciPy only.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy import optimize, special

from myosotis.retention.statistics.intervals import Floats
from myosotis.retention.statistics.paired import LEVEL

STAKES = np.geomspace(0.05, 0.95, 12)
"""Shares of the largest stake that cannot ruin the gambler. The best is about D / (variance + D^2)
for a change D beyond the budget: 0.5 at 10 % discordant items and 5 points."""

Rounds = list[list[int]]
"""For each round the positions of one task's items that belong to it."""


def rounds(clusters: Mapping[str, Sequence[str | None]], seed: int) -> dict[str, Rounds]:
    """Each task's items dealt into as many rounds as the task of fewest clusters allows.

    `clusters[task][i]` names what item i shares with others; None stands for an item of its own.
    The order of the clusters is random, a function of `seed` and the task's name alone; a cluster
    is never divided. (Not by first appearance in a random order of the items: large clusters would
    come early.)
    """
    groups = {task: _shuffled(task, names, seed) for task, names in clusters.items()}
    count = min((len(clustered) for clustered in groups.values()), default=0)
    dealt: dict[str, Rounds] = {}
    for task, clustered in groups.items():
        edges = [round(r * len(clustered) / count) for r in range(count + 1)]
        dealt[task] = [
            [item for group in clustered[start:end] for item in group]
            for start, end in pairwise(edges)
        ]
    return dealt


def _shuffled(task: str, names: Sequence[str | None], seed: int) -> list[list[int]]:
    """The positions of the items of each cluster, the clusters in random order."""
    groups: dict[object, list[int]] = {}
    for position, name in enumerate(names):
        groups.setdefault(position if name is None else name, []).append(position)
    order = list(groups.values())
    random.Random(f"myosotis order {seed} {task}").shuffle(order)
    return order


class ConfidenceSequence:
    """The differences scored so far, round by round, and the interval of their mean over tasks.

    `clusters` are those of all items that might be scored: how large a cluster can be decides how
    much may be staked.
    """

    def __init__(self, clusters: Mapping[str, Sequence[str | None]]) -> None:
        self.clusters = clusters
        sizes = {task: _sizes(names) for task, names in clusters.items()}
        self.typical = {task: float(counts.mean()) for task, counts in sizes.items()}
        self.largest = max(float(counts.max() / counts.mean()) for counts in sizes.values())
        self._sums: list[float] = []  # S / a of each factor
        self._counts: list[float] = []  # n / a of each factor

    def add(self, task: str, items: Sequence[int], differences: Sequence[float] | Floats) -> None:
        """One task's part of a round: the positions of its items, and tuned - base of each.

        A round is complete when every task has added its part; an interval may be read then.
        Raises `ValueError` for a difference outside [-1, 1].
        """
        d = np.asarray(differences, np.float64)
        if not (np.abs(d) <= 1).all():
            raise ValueError(f"{task}: differences of scores between 0 and 1 lie in [-1, 1]")
        names = self.clusters[task]
        drawn = len({i if names[i] is None else names[i] for i in items}) * self.typical[task]
        self._sums.append(float(d.sum()) / drawn)
        self._counts.append(len(d) / drawn)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """[lo, hi] of the mean change, valid at every look at once with probability `level`."""
        sums, counts = np.asarray(self._sums), np.asarray(self._counts)
        threshold = float(np.log(2 / (1 - level)))
        return -self._bound(-sums, counts, threshold), self._bound(sums, counts, threshold)

    def _bound(self, sums: Floats, counts: Floats, threshold: float) -> float:
        """The largest mean that is not refuted from above; 1 where none is."""

        def excess(m: float) -> float:
            return float(log_capital(gains(m, sums, counts, self.largest))) - threshold

        top = 1 - 1e-9
        if not len(sums) or excess(top) < 0:
            return 1.0
        if excess(-top) > 0:
            return -1.0
        return float(optimize.brentq(excess, -top, top, xtol=1e-6))  # pyright: ignore


def _sizes(names: Sequence[str | None]) -> Floats:
    """How many items each cluster has."""
    alone = sum(name is None for name in names)
    shared = np.unique([name for name in names if name is not None], return_counts=True)[1]
    return np.concatenate([np.ones(alone), shared.astype(np.float64)])


def gains(m: float, sums: Floats, counts: Floats, largest: float) -> Floats:
    """What a full stake on "the mean is below m" wins at each factor; at least -1.

    `sums` and `counts` are S and n in units of the typical cluster, of which the largest has
    `largest`. Grows with m: (m * n - S) / (1 - m) has the derivative (n - S) / (1 - m)^2 >= 0, so
    that the means that are not refuted make an interval.
    """
    return (m * counts - sums) / ((1 - m) * largest)


def log_capital(gains: Floats) -> Floats:
    """Log of the capital after factors 1 + stake * gain (last axis), averaged over `STAKES`."""
    staked = np.stack([np.log1p(stake * gains).sum(axis=-1) for stake in STAKES])
    return special.logsumexp(staked, axis=0) - np.log(len(STAKES))
