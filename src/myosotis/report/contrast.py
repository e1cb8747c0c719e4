"""Two settings compared item by item: are they told apart?

What belongs here: the p-value of "these two settings are alike" from the items that both were
asked, and which of several such comparisons tell settings apart. What one setting's items and seeds
say is in `crossed.py`, whose letters are used here.

All runs of a study answer the same items, so what makes an item hard for both settings falls out of
their difference. What is left is crossed as in one setting: with the cluster sums of the runs of A
averaged over its seeds, less those of B,

    items   V_A: between those differences of clusters
    seeds   V_B: V_B of A and V_B of B added
    both    V_E: V_E of A and V_E of B added

and the variance of the difference is V_A + V_B - V_E, at least the larger of V_A and V_B. Seeds of
the same number share the order of the data; they are taken as independent, which is careful.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from myosotis.records.schema import RunRecord
from myosotis.report.crossed import (
    FEWEST_CHANGED,
    ItemsOf,
    Task,
    cluster_variance,
    shared_items,
)
from myosotis.report.seeds import Estimate, difference_p, spread, t_tails

LEVEL = 0.05


@dataclass(frozen=True)
class Measure:
    """One measure of one setting: the estimate over its runs, and the items it is the mean of
    (`tasks` in what `items_of` reads, on one `half` or on all)."""

    estimate: Estimate
    runs: Sequence[RunRecord] = ()
    tasks: Sequence[str] = ()
    items_of: ItemsOf | None = None
    half: str = ""


def told_apart(pairs: Sequence[tuple[Measure, Measure]]) -> list[bool]:
    """Which of several comparisons made together tell two settings apart: Holm's procedure (1979)
    at 5 % over all of them."""
    p = [p_alike(a, b) for a, b in pairs]
    apart = [False] * len(p)
    for before, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[place] * (len(p) - before) >= LEVEL:
            break
        apart[place] = True
    return apart


def p_alike(a: Measure, b: Measure) -> float:
    """Two-sided p-value of "these two settings are alike". Item by item where the items of both lie
    beside their records, from the two intervals (`difference_p`) where not. 1 of a setting with one
    seed: nothing is known of how another seed would do."""
    if min(a.estimate.seeds, b.estimate.seeds) < 2:
        return 1.0
    sides = _sides(a, b)
    p = contrast(*sides) if sides is not None else None
    return difference_p(a.estimate, b.estimate) if p is None else p


def _sides(a: Measure, b: Measure) -> tuple[list[Task], list[Task]] | None:
    """Both settings' tasks on their common items; None where some are not at hand, or the seeds are
    not those of the estimate."""
    seeds = a.estimate.seeds, b.estimate.seeds
    if a.items_of is None or (len(a.runs), len(b.runs)) != seeds or list(a.tasks) != list(b.tasks):
        return None
    sides: tuple[list[Task], list[Task]] = ([], [])
    for task in a.tasks:
        columns = shared_items([a.items_of(run).get(task) for run in (*a.runs, *b.runs)], a.half)
        if not columns:
            return None
        sides[0].append(Task.of(columns[: len(a.runs)]))
        sides[1].append(Task.of(columns[len(a.runs) :]))
    return sides if sides[0] else None


def contrast(a: Sequence[Task], b: Sequence[Task]) -> float | None:
    """The p-value of "the mean over these tasks is alike" in two settings of several seeds each.
    None where hardly an item tells them apart, so that a variance of items means little."""
    differences = [_difference(one, other) for one, other in zip(a, b, strict=True)]
    changed = min(_changed(one, other) for one, other in zip(a, b, strict=True))
    if changed < FEWEST_CHANGED or any(max(task.share_G) > 0.9 for task in a):
        return None
    count = len(a)
    V_A = [
        cluster_variance(d_G, task.share_G) / count**2
        for d_G, task in zip(differences, a, strict=True)
    ]
    V_E = [task.both / count**2 for side in (a, b) for task in side]
    seeds = [_means(side) for side in (a, b)]
    V_B = [spread(means) ** 2 / len(means) for means in seeds]
    variance = max(sum(V_A) + sum(V_B) - sum(V_E), sum(V_A), sum(V_B))
    if not 0 < variance < math.inf:
        return None
    parts = [(v, task.degrees) for v, task in zip(V_A, a, strict=True)]
    parts += [(v, len(means) - 1) for v, means in zip(V_B, seeds, strict=True)]
    parts += [
        (v, task.degrees * (len(task.means) - 1)) for v, task in zip(V_E, (*a, *b), strict=True)
    ]
    degrees = variance**2 / sum(v**2 / df for v, df in parts if df > 0)
    apart = abs(math.fsum(seeds[0]) / len(seeds[0]) - math.fsum(seeds[1]) / len(seeds[1]))
    return t_tails(apart / math.sqrt(variance), max(degrees, 1.0))


def _means(tasks: Sequence[Task]) -> list[float]:
    """Each seed's mean over the tasks."""
    return [
        math.fsum(column) / len(tasks) for column in zip(*(t.means for t in tasks), strict=True)
    ]


def _difference(a: Task, b: Task) -> list[float]:
    """By cluster: the residual sum averaged over the seeds of a, less that of b."""
    return [
        math.fsum(of_a) / len(of_a) - math.fsum(of_b) / len(of_b)
        for of_a, of_b in zip(a.residual_Gk, b.residual_Gk, strict=True)
    ]


def _changed(a: Task, b: Task) -> int:
    """The clusters that tell the settings apart: a residual is a sum less its share of the mean."""
    apart = math.fsum(a.means) / len(a.means) - math.fsum(b.means) / len(b.means)
    pairs = zip(_difference(a, b), a.share_G, strict=True)
    return sum(abs(d + apart * share) > 1e-12 for d, share in pairs)
