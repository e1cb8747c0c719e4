"""Benchmarks while training: asked in growing blocks, until the verdict is settled.

What belongs here: which items are asked in which block, and when it is enough. Each task's items
come in a random order that depends on the suite's seed alone; after every block the interval of the
mean change (`retention/statistics/sequential.py`, valid at every look) is held against the budget.
A cheap look goes beyond its first block only where something in it speaks of a loss (`signs`).
Final scores do not come this way: they keep the fixed set, so that runs stay comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from myosotis.records.verdict import Verdict, verdict_of
from myosotis.retention.benchmarks.measure import TreeScorer, ask, scored
from myosotis.retention.benchmarks.requests import Answer
from myosotis.retention.benchmarks.scores import Measurement, tasks_in_mean
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.budget import Budget
from myosotis.retention.statistics.paired import LEVEL
from myosotis.retention.statistics.pairing import Pair
from myosotis.retention.statistics.sequential import ConfidenceSequence, Rounds, rounds

GROWTH = 1.5
"""How many times the items of one look the next look has."""

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
    of the suite's mean, valid at every look. It is None where no task is accuracy-like: nothing can
    be settled then, and everything is asked. `epsilon` is the budget of that mean. `signs` are what
    speaks of a loss in all that was asked, at 95 %: an alarm, whatever the verdict.
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
    advance: Callable[[int], object] | None = None,
) -> SequentialResult:
    """Ask a model the suite in blocks until "retained" or "forgotten" is settled at the budget.

    `base` is the base's measurement of the whole suite. Of each task at least `floor` items are
    asked, and (whole rounds, see `sequential.rounds`) about `ceiling` at most. With `cheap` it ends
    after the first block when nothing there speaks of a loss. `advance` counts items,
    `len(suite.items)` at most.
    """
    inside = tasks_in_mean({task.name: base[task.name] for task in suite})
    like = {name: base[name].clusters for name in inside}
    dealt = rounds(like, suite.seed)
    epsilon = budget.epsilon(float(np.mean([base[n].mean for n in like]))) if like else 0.0
    evidence = ConfidenceSequence(like) if like else None
    answers: dict[tuple[str, str], list[Answer]] = {}
    asked, now, done = suite, Measurement({}), 0
    interval: tuple[float, float] | None = None
    found = Verdict.INCONCLUSIVE
    for end in looks(dealt, floor, ceiling):
        wanted = _upto(suite, dealt, end)
        asked = suite.where(lambda item, wanted=wanted: (item.task, item.id) in wanted)
        new = wanted - answers.keys()
        block = suite.where(lambda item, new=new: (item.task, item.id) in new)
        answers |= ask(block, scorer)
        now = scored(asked, answers)
        if advance is not None:
            advance(len(block.items))
        if evidence is not None:
            for r in range(done, end):
                for name, of_task in dealt.items():
                    evidence.add(name, of_task[r], _differences(base, now, name, of_task[r]))
            interval = evidence.interval()
            counted = sum(len(t.items) for t in asked if t.name in like)
            found = verdict_of(*interval, epsilon, counted)
        if found in (Verdict.RETAINED, Verdict.FORGOTTEN):
            break
        if cheap and not done and not signs(_same(base, now), now, budget, SIGN):
            break
        done = end
    items, same = len(asked.items), _same(base, now)
    seen = signs(same, now, budget, LEVEL)
    return SequentialResult(same, now, interval, epsilon, found, items, len(suite.items), seen)


def signs(base: Measurement, now: Measurement, budget: Budget, level: float) -> tuple[str, ...]:
    """What speaks of a loss: the sensitive scores, of which none decides a verdict.

    The name of a continuous metric: over the tasks that make up the suite's mean it got worse
    beyond chance (both together at `level`, two-sided, Bonferroni; a task without choices counts
    with its own score).
    The name of a task outside that mean: it is not shown to be within its budget.
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
            if verdict_of(*change.gain, epsilon) != Verdict.RETAINED:
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


def looks(dealt: Mapping[str, Rounds], floor: int, ceiling: int | None) -> Iterator[int]:
    """After how many rounds to look: at `floor` items of every task, then at growing numbers.

    Without tasks that can settle anything there is one look, at everything (0 rounds).
    """
    if not dealt:
        yield 0
        return
    sizes = [np.cumsum([len(items) for items in of_task]) for of_task in dealt.values()]
    fewest = np.min(sizes, axis=0)  # items of the smallest task after each round
    last = int(np.searchsorted(fewest, ceiling or math.inf)) + 1
    last = min(last, len(fewest))
    target, before = float(max(floor, 1)), 0
    while before < last:
        end = min(int(np.searchsorted(fewest, target)) + 1, last)
        if end > before:
            yield end
        before, target = end, max(target, float(fewest[end - 1])) * GROWTH


def _upto(suite: Suite, dealt: Mapping[str, Rounds], end: int) -> set[tuple[str, str]]:
    """The items of the first `end` rounds; of tasks that settle nothing, as large a share."""
    found: set[tuple[str, str]] = set()
    total = max((len(of_task) for of_task in dealt.values()), default=0)
    for task in suite:
        if task.name in dealt:
            rows: Sequence[int] = [i for part in dealt[task.name][:end] for i in part]
        else:  # items stand in the order of their draw, which is random
            rows = range(math.ceil(len(task.items) * end / total) if total else len(task.items))
        found |= {(task.name, task.items[row].id) for row in rows}
    return found


def _differences(
    base: Measurement, now: Measurement, task: str, rows: Sequence[int]
) -> list[float]:
    """now - base of the metric, for items by their place in the whole task."""
    before, after = base[task], now[task]
    place = {item: i for i, item in enumerate(after.items)}
    names = [before.items[row] for row in rows]
    return [
        float(after.primary[place[name]] - before.primary[row])
        for name, row in zip(names, rows, strict=True)
    ]
