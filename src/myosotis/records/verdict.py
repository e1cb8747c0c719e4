"""The four verdicts, the one rule they come from, and which of them a budget accepts.

What belongs here: what an interval says about a budget, wherever that is asked: of a benchmark, of
the suite's mean, over seeds, at a strength of the dial, by the gate. Plain numbers in; where the
interval comes from is in `retention/statistics`, the sentences are in `report/narrator.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

MIN_ITEMS = 30
"""Below this no verdict is given: an interval's coverage rests on too little to settle anything."""

MIN_CLUSTERS = 8
"""Below so many effective clusters, (sum n)^2 / sum n^2, no verdict is given: items that share a
passage or a subject move together, and of fewer it is not known how unlike they are. Items without
a cluster are clusters of their own."""

Accept = Literal["retained", "not_forgotten"]
"""Which verdicts are inside the budget: `retained` alone, or all but `forgotten`."""


class Verdict(StrEnum):
    """What an interval says about a budget; see `verdict_of`."""

    RETAINED = "retained"
    SLIPPED = "slipped"
    FORGOTTEN = "forgotten"
    INCONCLUSIVE = "inconclusive"


SETTLED = (Verdict.RETAINED, Verdict.FORGOTTEN)
OPEN = (Verdict.SLIPPED, Verdict.INCONCLUSIVE)
"""Which side of the budget a loss lies on is shown; or more items would show it."""

VERDICTS: tuple[str, ...] = tuple(Verdict)
"""The words that may stand in a record; the empty one says that there is no verdict."""

SEVERITY: tuple[str, ...] = (
    Verdict.RETAINED,
    Verdict.INCONCLUSIVE,
    Verdict.SLIPPED,
    Verdict.FORGOTTEN,
)


OWN_FILES = (".jsonl", ".json", ".parquet")
"""Endings of benchmark files of one's own."""


def task_name(entry: str) -> str:
    """What a suite and a budget call a task: one of your own by its file name, without ending."""
    return Path(entry).stem if entry.endswith(OWN_FILES) else entry


def verdict_of(
    lo: float,
    hi: float,
    epsilon: float,
    items: int | None = None,
    clusters: float | None = None,
) -> Verdict:
    """What the interval [lo, hi] of the gain (a loss is negative) says about a loss of `epsilon`.

    retained: lo > -epsilon. forgotten: hi < -epsilon. slipped: hi < 0 but neither, a measurable
    loss that may or may not exceed the budget. Otherwise, and always of fewer than `MIN_ITEMS`
    items or `MIN_CLUSTERS` effective clusters, inconclusive; what is not given is enough. Raises
    `ValueError` for a negative
    epsilon or lo > hi.
    """
    if not (lo <= hi and epsilon >= 0):
        raise ValueError(f"not an interval and a budget: [{lo}, {hi}], {epsilon}")
    if items is not None and items < MIN_ITEMS:
        return Verdict.INCONCLUSIVE
    if clusters is not None and clusters < MIN_CLUSTERS:
        return Verdict.INCONCLUSIVE
    if lo > -epsilon:
        return Verdict.RETAINED
    if hi < -epsilon:
        return Verdict.FORGOTTEN
    return Verdict.SLIPPED if hi < 0 else Verdict.INCONCLUSIVE


def inside_budget(verdict: str, accept: str = "retained") -> bool | None:
    """Whether something with this verdict is inside its budget; None while that is open."""
    if verdict == Verdict.FORGOTTEN:
        return False
    if verdict == Verdict.RETAINED or (accept == "not_forgotten" and verdict in VERDICTS):
        return True
    return None


def exit_code(verdict: str, accept: str = "retained") -> int:
    """What `retention.gate=true` leaves with: 0 inside, 3 forgotten, 4 open."""
    return {True: 0, False: 3, None: 4}[inside_budget(verdict, accept)]


def worst(verdicts: Iterable[str]) -> str:
    """The gravest of one or more: forgotten, then slipped, inconclusive, retained."""
    return max(verdicts, key=SEVERITY.index)


def with_tasks(
    mean: str, tasks: Mapping[str, str], own: Collection[str], outside: Collection[str]
) -> tuple[str, list[str]]:
    """The verdict of the whole, from the mean's and those of tasks that count by themselves.

    These are the tasks with a budget of their `own`, and of those `outside` the mean (bits per
    byte) the forgotten ones: no mean speaks for them. The worst counts: forgotten, then slipped,
    then inconclusive. Also returns the tasks that are worse than the mean.
    """
    alone = {
        name: said
        for name, said in tasks.items()
        if name in own or (name in outside and said == Verdict.FORGOTTEN)
    }
    whole = worst([mean, *alone.values()])
    return whole, [task for task, said in alone.items() if worst([mean, said]) != mean]


def over_runs(pooled: str, runs: Iterable[str]) -> str:
    """The verdict over several runs of one setting, from that of their pooled intervals.

    Never better than what most of the runs say, each by itself, and not `retained` while any of
    them is forgotten.
    """
    each = sorted(runs, key=SEVERITY.index)
    majority = each[(len(each) - 1) // 2]  # more than half are as grave, or graver
    floor = Verdict.INCONCLUSIVE if Verdict.FORGOTTEN in each else Verdict.RETAINED
    return worst([pooled, majority, floor])


@dataclass(frozen=True)
class DetectableEffect:
    """What `items` of a task can show, at an assumed standard error, before anything is trained.

    Losses are in the metric's unit (an accuracy is a fraction) and are called so with 80 % power:
    `slipped_from` is the smallest loss told from none, `forgotten_from` the smallest told from the
    budget `epsilon`. `retained_items` would show `retained` for a model that lost nothing. `tasks`
    is how many tasks, each of as many items, are taken together. `discordant` is the share of items
    assumed to be right in one of the two models only.
    """

    task: str
    items: int
    epsilon: float
    slipped_from: float
    forgotten_from: float
    retained_items: int
    tasks: int = 1
    discordant: float = 0.10

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts within reach, `inconclusive` always among them."""
        if self.items < MIN_ITEMS:
            return (Verdict.INCONCLUSIVE,)
        losses = (Verdict.FORGOTTEN, Verdict.SLIPPED, Verdict.INCONCLUSIVE)
        return (Verdict.RETAINED, *losses) if self.retained_items <= self.items else losses


@dataclass(frozen=True)
class Outlook:
    """How likely a measurement in rounds settles the verdict on the mean, before it is made.

    `items` of each benchmark are asked first, `most` at most. `retained` is the chance of that
    verdict for a model that lost nothing, `forgotten` of that for one that lost twice the budget
    `epsilon`; `items_retained` and `items_forgotten` are what is asked of each benchmark on average
    then. `discordant` is the share of items assumed to change where nothing is lost.
    """

    items: int
    most: int
    epsilon: float
    retained: float
    forgotten: float
    items_retained: float
    items_forgotten: float
    discordant: float
