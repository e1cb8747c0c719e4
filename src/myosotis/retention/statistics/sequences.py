"""What training one task after another does to the others: the matrix R and what is read from it.

`rows[i][j]` are the scores of task j's held-out items after stage i, row 0 being the base before
any training; tasks are in the order of the stages, so that stage i trains task i - 1 of a row. R[i,
j] is their mean. Scores of which lower is better come with their sign turned: in every figure
better is positive, but forgetting, which is positive when something was lost.

Backward and forward transfer: Lopez-Paz & Ranzato 2017, equations 3 and 4, with the base in place
of a random start. Forgetting: Chaudhry et al. 2018, equation 3. Items are paired, tasks count
alike, and their intervals are joined as everywhere (`paired.mean_interval`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from myosotis.retention.statistics.intervals import Clusters
from myosotis.retention.statistics.paired import LEVEL, Paired, mean_interval, paired

Scores = NDArray[np.float64]
Rows = Sequence[Sequence[Scores]]


class Effect(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    lo: float
    hi: float


def backward_transfer(rows: Rows, clusters: Sequence[Clusters]) -> Effect | None:
    """Mean over the earlier tasks i of R[T, i] - R[i, i], T being the last row; None before there
    is an earlier task."""
    last = len(rows) - 1
    return _mean([paired(rows[i][i - 1], rows[last][i - 1], clusters=clusters[i - 1])
                  for i in range(1, last)])  # fmt: skip


def forward_transfer(rows: Rows, clusters: Sequence[Clusters]) -> Effect | None:
    """Mean over the later tasks i of R[i - 1, i] - R[0, i]: what a task had gained from the stages
    before it when its own began."""
    last = len(rows) - 1
    return _mean([paired(rows[0][i - 1], rows[i - 1][i - 1], clusters=clusters[i - 1])
                  for i in range(2, last + 1)])  # fmt: skip


def forgetting(rows: Rows, clusters: Sequence[Clusters]) -> Effect | None:
    """Mean over the earlier tasks i of max over stages t < T of R[t, i] - R[T, i].

    The best of several stages is picked by the scores themselves, so a task's interval is that of
    all its stages together (Bonferroni): the largest of their lower and of their upper ends.
    """
    last = len(rows) - 1
    return _mean([_from_best(rows, i - 1, clusters[i - 1]) for i in range(1, last)])


def _from_best(rows: Rows, task: int, clusters: Clusters) -> Paired:
    last = len(rows) - 1
    level = 1 - (1 - LEVEL) / (last - 1)
    fell = [
        paired(rows[last][task], rows[stage][task], clusters=clusters, level=level)
        for stage in range(1, last)
    ]
    best = max(fell, key=lambda one: one.delta)
    return replace(best, lo=max(one.lo for one in fell), hi=max(one.hi for one in fell))


def _mean(tasks: Sequence[Paired]) -> Effect | None:
    if not tasks:
        return None
    return Effect(sum(one.delta for one in tasks) / len(tasks), *mean_interval(tasks))
