"""Verdicts on several tasks at once, adjusted for each other.

Two questions are asked of every task: is its loss on either side of
the budget, and is there a loss at all? Each is a two-sided test of one value (gain = -epsilon,
gain = 0), and over the tasks each goes through Holm's step-down procedure (Holm 1979) at 5 %: with
k tasks open, all are judged by their interval at level 1 - .05/k; those it settles leave, and the
rest are judged again with the smaller k, until none is settled. The side is read from the
interval. So a verdict still follows from an interval alone, the wider one of that step; where the
plain 95 % interval in the row would say something else, the note says so. The suite's verdict is
one verdict, from its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from scipy import special

from myosotis.records.verdict import MIN_CLUSTERS, MIN_ITEMS, SETTLED, Verdict, verdict_of
from myosotis.retention.statistics.paired import LEVEL, POWER, Paired

MOST_ITEMS = 10_000_000
"""A verdict that takes more items than this is out of reach."""

At = Callable[[float], Paired]
"""From a level to the comparison with its interval at that level."""


DISCORDANT = 0.05
"""Share of items right in one model only that a plan assumes; light tuning shows 0 to 6 %."""

ASSUMED_ITEMS = 50
"""Items that what is assumed of 0/1 scores weighs as much as: of few items the share that changed
is hardly known."""


class ItemsNeeded(NamedTuple):
    """How many items would settle a verdict with 80 % power, for two truths that are both likely
    where it is open: no loss (or twice the budget, as far from it), and the change as measured."""

    fewest: int
    most: int


class Judged(NamedTuple):
    """A verdict, the level of the interval it was read from, and the items that would settle it."""

    verdict: Verdict
    level: float
    needed_items: ItemsNeeded | None


def judge(tasks: Sequence[At], epsilons: Sequence[float], level: float = LEVEL) -> list[Judged]:
    """Each task's verdict against its own budget, in the order given.

    Tasks of fewer than `MIN_ITEMS` items or `MIN_CLUSTERS` effective clusters are inconclusive and
    no burden on the others. `level` is that of all tasks together.
    """
    judged = [i for i, at in enumerate(tasks) if enough(at(level))]

    def against_budget(i: int, p: Paired) -> bool:
        return verdict_of(*p.gain, epsilons[i]) in SETTLED

    budget_step = holm_steps(tasks, judged, against_budget, level)
    change_step = holm_steps(tasks, judged, lambda _, p: p.lo > 0 or p.hi < 0, level)
    found = [Judged(Verdict.INCONCLUSIVE, level, None)] * len(tasks)
    for i in judged:
        p, needed = budget_step[i], None
        said = verdict_of(*p.gain, epsilons[i])
        if said not in SETTLED:
            lost = change_step[i].gain[1] < 0
            said = Verdict.SLIPPED if lost else Verdict.INCONCLUSIVE
            needed = items_to_settle(
                p.n, p.se, epsilons[i] - p.forgetting, epsilons[i], p.level, binary=p.binary
            )
        found[i] = Judged(said, p.level, needed)
    return found


def enough(p: Paired) -> bool:
    """Whether there is enough of it for any verdict."""
    return p.n >= MIN_ITEMS and p.effective_clusters >= MIN_CLUSTERS


def holm_steps(
    tasks: Sequence[At],
    indices: Sequence[int],
    settles: Callable[[int, Paired], bool],
    level: float = LEVEL,
) -> dict[int, Paired]:
    """Holm's step-down by intervals: for each task the comparison it was judged by."""
    found: dict[int, Paired] = {}
    still = list(indices)
    while still:
        each = 1 - (1 - level) / len(still)
        found |= {i: tasks[i](each) for i in still}
        rest = [i for i in still if not settles(i, found[i])]
        if len(rest) == len(still):
            break
        still = rest
    return found


def items_to_settle(
    n: int,
    se: float,
    distance: float,
    epsilon: float,
    level: float = LEVEL,
    *,
    binary: bool = False,
) -> ItemsNeeded | None:
    """Items that would settle a verdict with 80 % power, where `n` showed a standard error of `se`.

    `distance` is how far the change lies from the budget `epsilon`. A single number would rest on
    that distance, which an open verdict knows least of all. The variance of `binary` scores is
    drawn towards `DISCORDANT` by `ASSUMED_ITEMS`. `most` is at most `MOST_ITEMS`; None where also
    `fewest` is more.
    """
    variance = n * se**2
    if binary:
        variance = (n * variance + ASSUMED_ITEMS * DISCORDANT) / (n + ASSUMED_ITEMS)
    z = float(special.ndtri(0.5 + level / 2) + special.ndtri(POWER))

    def at(gap: float) -> float:
        return max(n + 1.0, variance * (z / gap) ** 2) if gap else float("inf")

    few, many = sorted((at(abs(distance)), at(epsilon)))
    if few > MOST_ITEMS:
        return None
    return ItemsNeeded(round(few), round(min(many, MOST_ITEMS)))
