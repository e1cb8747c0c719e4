"""Several seeds on the same items: how sure the mean is, with items and seeds crossed.

What belongs here: the two-way analysis of variance of items and seeds, on plain floats, from the
items that lie beside the records; where they do not, `seeds.over_seeds`.

A change is d = mean + item + seed + both (and what is left). Items and seeds are both samples, so
with cluster sums of residuals from each seed's mean (clusters of one item included)

    items   V_A: between the clusters' sums averaged over the k seeds     items / n + both / (n k)
    seeds   V_B: between the seeds' means, over k                         seeds / k + both / (n k)
    both    V_E: what is left within clusters and seeds, over k                       both / (n k)

estimate what stands beside them, and the variance of the mean is V_A + V_B - V_E, at least the
larger of V_A and V_B. Its degrees of freedom are Satterthwaite's (1946), those of V_A Bell &
McCaffrey's; V_E has k - 1 times as many. Adding a run's own interval to the spread of the seeds, as
is done without items, counts V_E twice: a run's own items hold the noise of its seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from myosotis.records.items import TaskItems, benchmark_items
from myosotis.records.schema import RunRecord
from myosotis.report.seeds import Estimate, Part, over_seeds, t_quantile

FEWEST_CHANGED = 5
"""Clusters that must have changed in every run: of fewer an interval knows nothing of the rest, and
that of a run by itself (a score interval) does."""


ItemsOf = Callable[[RunRecord], dict[str, TaskItems]]
"""Reads what lies beside a record: its benchmarks' items, or its held-out examples."""


def over_items_and_seeds(
    runs: Sequence[RunRecord],
    parts: Sequence[Part],
    tasks: Sequence[str],
    half: str = "",
    items_of: ItemsOf = benchmark_items,
) -> Estimate | None:
    """The mean of `parts`, one a run: the change of the mean over `tasks`, on a half of the items
    or on all. From the runs' items where they have them and agree with the parts."""
    plain = over_seeds(parts)
    if plain is None or plain.lo is None or len(parts) < 2 or len(parts) != len(runs):
        return plain
    every = [items_of(run) for run in runs]
    columns = [shared_items([items.get(task) for items in every], half) for task in tasks]
    found = [Task.of(column) for column in columns if column]
    if not found or len(found) < len(tasks) or not _agree(found, parts):
        return plain
    return crossed(found, parts) or plain


def shared_items(columns: Sequence[TaskItems | None], half: str = "") -> list[TaskItems]:
    """One task's items of every run, those that the run with the fewest was asked, on one half or
    on all, with the weights they have in it: of a longer draw the first k are a draw of k. Nothing
    where a run lacks any of them."""
    known = [c.half(half) if half else c for c in columns if c is not None]
    if len(known) < len(columns) or not known:
        return []
    fewest = min(known, key=lambda column: len(column.items))
    if not fewest.items or sum(fewest.weights) <= 0:
        return []
    found = []
    for column in known:
        row = {item: i for i, item in enumerate(column.items)}
        rows = [row[item] for item in fewest.items if item in row]
        if len(rows) < len(fewest.items):
            return []
        found.append(replace(column.at(rows), weights=fewest.weights, clusters=fewest.clusters))
    return found


@dataclass(frozen=True)
class Task:
    """One task: k seeds' means, and G clusters' shares of the weight and residual sums, k each."""

    means: list[float]
    share_G: list[float]
    residual_Gk: list[list[float]]  # sum of weight * (change - the seed's mean), over the weight
    changed: int  # clusters that changed in the seed where fewest did

    @classmethod
    def of(cls, columns: Sequence[TaskItems]) -> Task:
        first, seeds = columns[0], range(len(columns))
        total = sum(first.weights)
        place: dict[object, int] = {}
        at = [
            place.setdefault(("one", i) if name is None else ("shared", name), len(place))
            for i, name in enumerate(first.clusters)
        ]
        share_G = [0.0] * len(place)
        sum_Gk = [[0.0 for _ in seeds] for _ in place]
        for i, g in enumerate(at):
            weight = first.weights[i] / total
            share_G[g] += weight
            for s in seeds:
                sum_Gk[g][s] += weight * columns[s].changes[i]
        means = [math.fsum(row[s] for row in sum_Gk) for s in seeds]
        residual_Gk = [
            [row[s] - means[s] * share for s in seeds]
            for row, share in zip(sum_Gk, share_G, strict=True)
        ]
        changed = min(sum(row[s] != 0 for row in sum_Gk) for s in seeds)
        return cls(means, share_G, residual_Gk, changed)

    def own_variance(self, seed: int) -> float:
        """The squared cluster-robust error (CR2) of one seed's mean by itself."""
        return self._squares([row[seed] for row in self.residual_Gk])

    @property
    def items(self) -> float:
        """V_A."""
        return self._squares([math.fsum(row) / len(row) for row in self.residual_Gk])

    @property
    def both(self) -> float:
        """V_E."""
        k = len(self.means)
        left = [[r - math.fsum(row) / k for r in row] for row in self.residual_Gk]
        return sum(self._squares([row[s] for row in left]) for s in range(k)) / (k - 1) / k

    def _squares(self, residual_G: Sequence[float]) -> float:
        return cluster_variance(residual_G, self.share_G)

    @property
    def degrees(self) -> float:
        """Of V_A (Bell & McCaffrey 2002); see `retention/statistics/intervals.py`."""
        leverage_G = [h * h / (1 - h) for h in self.share_G]
        squares = sum(h * h for h in self.share_G)
        return 1 / (squares + sum(leverage_G) ** 2 - sum(a * a for a in leverage_G))


def cluster_variance(residual_G: Sequence[float], share_G: Sequence[float]) -> float:
    """The variance of a mean from the residual sums of its clusters, each of which has a share of
    the weight (CR2 of a mean)."""
    return math.fsum(r * r / (1 - h) for r, h in zip(residual_G, share_G, strict=True))


def _agree(tasks: Sequence[Task], parts: Sequence[Part]) -> bool:
    """Whether the mean over the items is what the records say: items may have been drawn unequally,
    or be of another half."""
    return all(
        math.isclose(
            abs(math.fsum(t.means[s] for t in tasks) / len(tasks)), abs(value), abs_tol=1e-9
        )
        for s, (value, _, _) in enumerate(parts)
    )


def crossed(tasks: Sequence[Task], parts: Sequence[Part]) -> Estimate | None:
    """The mean of `parts` with the interval of items crossed with seeds; None where too few items
    changed, or an item is nearly all.

    A run's own interval may be longer than its normal one, and on one side more than on the other
    (few changes, skew). So is this, by the mean ratio of the two.
    """
    if any(t.changed < FEWEST_CHANGED or max(t.share_G) > 0.9 for t in tasks):
        return None
    k, count = len(parts), len(tasks)
    values = [value for value, _, _ in parts]
    mean = math.fsum(values) / k
    V_B = math.fsum((v - mean) ** 2 for v in values) / (k - 1) / k
    V_A = [t.items / count**2 for t in tasks]
    V_E = [t.both / count**2 for t in tasks]
    variance = max(sum(V_A) + V_B - sum(V_E), sum(V_A), V_B)
    if not 0 < variance < math.inf:
        return None
    squares = [V_B**2 / (k - 1)]
    for task, a, e in zip(tasks, V_A, V_E, strict=True):
        squares += [a**2 / task.degrees, e**2 / task.degrees / (k - 1)]
    half = t_quantile(variance**2 / sum(squares)) * math.sqrt(variance)
    below = above = 0.0
    for s, (value, lo, hi) in enumerate(parts):
        normal = 1.96 * math.sqrt(sum(t.own_variance(s) for t in tasks)) / count
        if lo is None or hi is None or not normal:
            return None
        below += max(1.0, (value - lo) / normal) / k
        above += max(1.0, (hi - value) / normal) / k
    return Estimate(mean, mean - below * half, mean + above * half, k)
