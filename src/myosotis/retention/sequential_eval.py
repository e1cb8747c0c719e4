"""Benchmarks while training: asked in growing blocks, until the verdict is settled.

What belongs here: which items are asked in which block, and when it is enough. Each task's items
come in a random order that depends on the suite's seed alone, a like share of every cluster first;
after every block the interval of the mean change is held against the budget. The looks are planned
(`planned`), so the interval is that of a final measurement, at the level that a group-sequential
test gives this look (`retention/statistics/group_sequential.py`). A cheap look goes beyond its
first block only where something in it speaks of a loss (`signs`). The final measurement is
`settle.py`: it asks beyond the suite, and ends with the run's verdict, not the mean's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from myosotis.records.verdict import SETTLED, Verdict, verdict_of
from myosotis.retention.benchmarks.measure import TreeScorer, ask, scored
from myosotis.retention.benchmarks.requests import Answer
from myosotis.retention.benchmarks.scores import Measurement, tasks_in_mean
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.budget import Budget
from myosotis.retention.statistics.group_sequential import boundaries, growing
from myosotis.retention.statistics.multiple_testing import At
from myosotis.retention.statistics.paired import LEVEL, mean_clusters, mean_interval
from myosotis.retention.statistics.pairing import Pair

SIGN = 0.80
"""Level at which a cheap look goes on: one look in ten at a model that lost nothing does."""

CONTINUOUS_METRICS = {"p_gold": True, "bits_per_byte": False}
"""The sensitive scores of a question with choices, and whether more is better: the probability of
the right choice among all, and what its text costs. Each sees losses that the other does not
(bench/evidence.py)."""


@dataclass(frozen=True)
class SequentialResult:
    """What was asked until the verdict was settled, or all of it.

    `base` and `now` are the two models on the items asked; [lo, hi] is the interval of the change
    of the suite's mean, valid at all planned looks together. It is None where no task is
    accuracy-like: nothing can be settled then, and everything is asked. `epsilon` is the budget of
    that mean. `signs` are what speaks of a loss in all that was asked, at 95 %: an alarm, whatever
    the verdict.
    """

    base: Measurement
    now: Measurement
    interval: tuple[float, float] | None
    epsilon: float
    verdict: Verdict
    items: int
    items_of: int
    signs: tuple[str, ...] = ()

    @property
    def saved(self) -> int:
        """Items of the fixed set that needed no asking."""
        return self.items_of - self.items


def until_settled(
    suite: Suite,
    scorer: TreeScorer,
    base: Measurement,
    budget: Budget,
    *,
    floor: int,
    ceiling: int | None = None,
    cheap: bool = False,
    evaluations: int = 1,
    advance: Callable[[int], object] | None = None,
) -> SequentialResult:
    """Ask a model the suite in blocks until "retained" or "forgotten" is settled at the budget.

    `base` is the base's measurement of the whole suite. Of each task at least `floor` items are
    asked, and about `ceiling` at most. With `cheap` it ends after the first block when nothing
    there speaks of a loss. `evaluations` are planned in one training (`Levels`). `advance` counts
    items, `len(suite.items)` at most.
    """
    inside = tasks_in_mean({task.name: base[task.name] for task in suite})
    order = {name: deal(base[name].clusters, name, suite.seed) for name in inside}
    epsilon = budget.epsilon(float(np.mean([base[n].mean for n in inside]))) if inside else 0.0
    answers: dict[tuple[str, str], list[Answer]] = {}
    asked, now = suite, Measurement({})
    interval: tuple[float, float] | None = None
    found = Verdict.INCONCLUSIVE
    looks = planned([len(rows) for rows in order.values()], floor, ceiling)
    for share, levels in zip(looks, Levels.of(looks, evaluations), strict=True):
        wanted = _upto(suite, order, share)
        asked = suite.where(lambda item, wanted=wanted: (item.task, item.id) in wanted)
        new = wanted - answers.keys()
        block = suite.where(lambda item, new=new: (item.task, item.id) in new)
        answers |= ask(block, scorer)
        now = scored(asked, answers)
        same = _same(base, now)
        if advance is not None:
            advance(len(block.items))
        if inside:
            pairs = [Pair.of(name, same[name], now[name]) for name in inside]
            interval, clusters = levels.read([pair.at for pair in pairs])
            counted = sum(len(same[name].items) for name in inside)
            found = verdict_of(*interval, epsilon, counted, clusters)
        if found in SETTLED:
            break
        if cheap and share == looks[0] and not signs(same, now, budget, SIGN):
            break
    items, same = len(asked.items), _same(base, now)
    seen = signs(same, now, budget, LEVEL)
    return SequentialResult(same, now, interval, epsilon, found, items, len(suite.items), seen)


@dataclass(frozen=True)
class Levels:
    """How sure a look must be: of "retained", and of a loss.

    A training that acts on a loss (it ends, or goes back) does so at the first evaluation that
    finds one, so the error of that is shared out over its `evaluations`, equally: the upper bound,
    which a loss is read from, is that of a test at 1 - 0.05 / evaluations. That a model is inside
    the budget is a choice, which the final measurement confirms: its bound is that of one
    evaluation.
    """

    retained: float
    loss: float

    @classmethod
    def of(cls, looks: Sequence[float], evaluations: int = 1) -> list[Levels]:
        """For each of the planned looks of an evaluation."""
        loss = boundaries(looks, spent(evaluations))
        return [*map(cls, boundaries(looks, LEVEL), loss)]

    def read(self, tasks: Sequence[At]) -> tuple[tuple[float, float], float]:
        """The interval of the mean over tasks at this look, and the effective clusters behind
        it."""
        plain = [at(self.retained) for at in tasks]
        lo, hi = mean_interval(plain)
        if self.loss != self.retained:
            _, hi = mean_interval([at(self.loss) for at in tasks])
        return (lo, hi), mean_clusters(plain)


def spent(evaluations: int) -> float:
    """The level at which each of several evaluations may find a loss, all together at 95 %."""
    return 1 - (1 - LEVEL) / max(evaluations, 1)


def signs(base: Measurement, now: Measurement, budget: Budget, level: float) -> tuple[str, ...]:
    """What speaks of a loss: the sensitive scores, of which none decides a verdict.

    The name of a continuous metric: over the tasks that make up the suite's mean it got worse
    beyond chance (both together at `level`, two-sided, Bonferroni; a task without choices counts
    with its own score).
    The name of a task outside that mean: it is not shown to be within its budget, and, where items
    are right or wrong (few of which show nothing), it got worse beyond chance.
    """
    found: list[str] = []
    pairs = [Pair.of(name, base[name], task) for name, task in now.tasks.items()]
    mean = tasks_in_mean(base.tasks)
    inside = [pair for pair in pairs if pair.name in mean]
    for metric, more_is_better in CONTINUOUS_METRICS.items():
        changes = [
            pair.compare_metric(metric, higher_is_better=more_is_better) or pair.at()
            for pair in inside
        ]
        if worse([-p.forgetting for p in changes], [p.se for p in changes], level):
            found.append(metric)
    for pair in pairs:
        if not pair.base.accuracy_like:
            change = pair.at(level)
            epsilon = budget.epsilon(change.base, pair.name)
            within = verdict_of(*change.gain, epsilon) == Verdict.RETAINED
            if not within and (not change.binary or change.gain[1] < 0):
                found.append(pair.name)
    return tuple(found)


def worse(gains: Sequence[float], errors: Sequence[float], level: float) -> bool:
    """Whether the mean of some tasks' gains (a loss is negative) in one continuous metric lies
    below 0 by its interval; `level` is that of all such metrics together."""
    reach = float(special.ndtri(1 - (1 - level) / 2 / len(CONTINUOUS_METRICS)))
    return sum(gains) + reach * math.hypot(*errors) < 0


def _same(base: Measurement, now: Measurement) -> Measurement:
    """The base on the items that were asked."""
    return Measurement({name: base[name].taking(task.items) for name, task in now.tasks.items()})


def planned(items: Sequence[int], floor: int, ceiling: int | None = None) -> list[float]:
    """After which share of every task's items to look: at `floor` items of the smallest task, then
    at growing numbers, the last time at `ceiling` or at all. `items` are the tasks' numbers.

    Without tasks that can settle anything there is one look, at everything.
    """
    fewest = min(items, default=0)
    last = min(fewest, ceiling or fewest)
    return [count / fewest for count in growing(floor, last)] if last else [1.0]


def deal(clusters: Sequence[str | None], task: str, seed: int) -> list[int]:
    """The positions of a task's items in the order in which they are asked.

    Clusters are strata: item j of a cluster of n, in random order, comes at (j + u) / n of the way,
    u uniform and the cluster's own. So a share of the items is as large a share of every cluster,
    and what is asked first differs from the whole by single items, not by clusters. Random, and a
    function of `seed` and the task's name.
    """
    dice = random.Random(f"myosotis order {seed} {task}")
    groups: dict[object, list[int]] = {}
    for position, name in enumerate(clusters):
        groups.setdefault(position if name is None else ("named", name), []).append(position)
    place: dict[int, float] = {}
    for group in groups.values():
        dice.shuffle(group)
        start = dice.random()
        place |= {position: (j + start) / len(group) for j, position in enumerate(group)}
    return sorted(place, key=place.__getitem__)


def _upto(suite: Suite, order: Mapping[str, list[int]], share: float) -> set[tuple[str, str]]:
    """A share of every task's items, those that come first."""
    found: set[tuple[str, str]] = set()
    for task in suite:
        # Of tasks that settle nothing the items stand in the order of their draw, which is random.
        rows = order.get(task.name, range(len(task.items)))
        count = math.ceil(share * len(rows) - 1e-9)
        found |= {(task.name, task.items[row].id) for row in rows[:count]}
    return found
