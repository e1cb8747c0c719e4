"""Changes of what is no mean over items: a perplexity, a macro-F1.

Both models are measured on the same resample of clusters (Efron & Tibshirani 1993, chapter 13: the
percentile interval); a cluster comes whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000

Aggregate = Callable[[NDArray[np.int64]], float]


class Changed(NamedTuple):
    """tuned - base and its 95 % interval, on `n` items in so many `clusters`."""

    delta: float
    lo: float
    hi: float
    n: int
    clusters: int


def resampled(
    base: Aggregate,
    tuned: Aggregate,
    n: int,
    clusters: Sequence[object] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Changed:
    """The change of a number that each side computes on the places of some of n items.

    `clusters[i]` names what item i shares with others; None stands for an item of its own.
    """
    members: dict[object, list[int]] = {}
    for i in range(n):
        name = clusters[i] if clusters is not None else None
        members.setdefault(("alone", i) if name is None else name, []).append(i)
    groups = [np.array(one) for one in members.values()]
    everything = np.arange(n)
    rng = np.random.default_rng(seed)
    found = np.empty(RESAMPLES)
    alone = len(groups) == n
    for k in range(RESAMPLES):
        drawn = rng.integers(0, len(groups), len(groups))
        some = drawn if alone else np.concatenate([groups[g] for g in drawn])
        found[k] = tuned(some) - base(some)
    delta = tuned(everything) - base(everything)
    lo, hi = np.quantile(found, [0.5 - level / 2, 0.5 + level / 2])
    return Changed(delta, min(float(lo), delta), max(float(hi), delta), n, len(groups))
