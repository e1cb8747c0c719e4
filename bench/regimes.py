"""Do intervals hold where they once did not? Simulated, on the hard regimes.

    python bench/regimes.py
    python bench/regimes.py --draws 10000

Each row is a regime in which an interval said "retained" of a loss exactly at the budget too often,
or missed the truth: a few items that lose much, one large cluster among small ones, clusters that
are unlike. "Plain" is what is often read there, and was here: Student's t, a cluster-robust error
with G - 1 degrees of freedom, the score interval alone. 2.5 % is promised for either side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import common
import numpy as np
from scipy import special

from myosotis.retention.statistics.intervals import PairedScores, interval, tango

Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
LARGE = (160, 10, 10, 10, 10)


def few_lose_much(items: int) -> Draw:
    """5 % of the items lose, exponentially much; .05 on average."""

    def draw(dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        d = -dice.exponential(size=items) * (dice.random(items) < 0.05)
        return d, np.arange(items)

    return draw


def one_large(shared: float) -> Draw:
    """Clusters of 160, 10, 10, 10 and 10 items, their differences correlated by `shared`."""
    cluster = np.repeat(np.arange(len(LARGE)), LARGE)

    def draw(dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        own = dice.standard_normal(len(cluster))
        together = dice.standard_normal(len(LARGE))[cluster]
        return np.sqrt(shared) * together + np.sqrt(1 - shared) * own, cluster

    return draw


def unlike(clusters: int, size: int, share: float, rate: float, *, uneven: bool = False) -> Draw:
    """0/1 items: a share of the clusters loses `rate` of theirs; 2 % change either way besides."""

    def draw(dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        sizes = 1 + dice.poisson(dice.exponential(size - 1, clusters)) if uneven else size
        cluster = np.repeat(np.arange(clusters), sizes)
        loses = np.where(dice.random(clusters) < share, rate, 0.02)[cluster]
        u = dice.random(len(cluster))
        return np.where(u < loses, -1.0, np.where(u > 0.98, 1.0, 0.0)), cluster

    return draw


def alike(clusters: int, size: int) -> Draw:
    """0/1 items of which 5 % gain and 7 % lose, whatever the cluster."""

    def draw(dice: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        u = dice.random(clusters * size)
        d = np.where(u < 0.05, 1.0, np.where(u < 0.12, -1.0, 0.0))
        return d, np.repeat(np.arange(clusters), size)

    return draw


REGIMES: dict[str, tuple[Draw, float]] = {
    "5 % of 299 items lose much": (few_lose_much(299), -0.05),
    "5 % of 300 items lose much": (few_lose_much(300), -0.05),
    "5 % of 2,000 items lose much": (few_lose_much(2000), -0.05),
    "5 % of 3,000 items lose much": (few_lose_much(3000), -0.05),
    "clusters 160/10/10/10/10": (one_large(0.0), 0.0),
    "the same, correlated by .3": (one_large(0.3), 0.0),
    "57 × 10, 10 % of subjects lose half": (unlike(57, 10, 0.1, 0.5), -0.048),
    "the same, of uneven sizes": (unlike(57, 10, 0.1, 0.5, uneven=True), -0.048),
    "57 × 10, 20 % of subjects lose 30 %": (unlike(57, 10, 0.2, 0.3), -0.056),
    "57 × 10, subjects alike": (alike(57, 10), -0.02),
}


def plain(x: PairedScores, level: float = 0.95) -> tuple[float, float]:
    """The plain interval: G - 1 degrees of freedom, no bootstrap."""
    groups = x.groups
    residual = x.sums - x.delta * x.weights
    se = np.sqrt(groups / (groups - 1) * (residual**2).sum()) / x.weights.sum()
    t = special.stdtrit(groups - 1, 0.5 + level / 2)
    if not x.binary:
        return x.delta - t * se, x.delta + t * se
    n, gained, lost = len(x.d), (x.d > 0).sum(), (x.d < 0).sum()
    independent = (gained + lost - n * x.delta**2) / (n * (n - 1))
    design = max(1.0, se**2 / independent) * (t / special.ndtri(0.5 + level / 2)) ** 2
    return tango(gained / design, lost / design, n / design, level)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = []
    for name, (draw, truth) in REGIMES.items():
        dice = np.random.default_rng(given.seed)
        seen = np.zeros((given.draws, 2, 2))
        for i in range(given.draws):
            d, cluster = draw(dice)
            x = (
                PairedScores.of(d < 0, d > 0, cluster, None)
                if np.isin(d, (-1, 0, 1)).all()
                else (PairedScores.of(np.zeros(len(d)), d, cluster, None))
            )
            now = interval(x, 0.95, 0)
            seen[i] = plain(x), (now.lo, now.hi)
        above, below = (seen[..., 0] > truth).mean(0), (seen[..., 1] < truth).mean(0)
        width = np.diff(seen, axis=-1).mean(axis=(0, 2))
        shares = [f"{a:.1%} · {b:.1%}" for a, b in zip(above, below, strict=True)]
        rows.append([name, *shares, f"{width[1] / width[0]:.2f}"])
    common.show(
        f"Above · below the truth in {given.draws} draws: false “retained” · false “forgotten”",
        ["regime", "plain", "ours", "width"],
        rows,
    )


if __name__ == "__main__":
    main()
