"""Asking until it is settled: the final measurement in planned rounds.

The items of a suite stand in an order (`benchmarks/build.py`), of which each round asks a longer
beginning; it ends when the run is `retained` or `forgotten`, or with the last round that was
planned. Looking several times would make a 95 % interval wrong more often than it says; so each
round has a level of its own, by the boundaries of a group-sequential test
(`statistics/group_sequential.py`), and all rounds together hold at 95 %.

What belongs here: the plan of the rounds, the loop, and how likely a plan is to settle. What asks
the models is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import special

from myosotis.records.verdict import SETTLED, Outlook
from myosotis.retention.benchmarks.scores import Measurement, tasks_in_mean
from myosotis.retention.statistics.group_sequential import boundaries, growing
from myosotis.retention.statistics.multiple_testing import DISCORDANT
from myosotis.retention.statistics.paired import LEVEL
from myosotis.utils.errors import ConfigError

CEILING = 3
"""How many times the items of the first round the last one has, unless `retention.max_items` says
otherwise."""

Found = TypeVar("Found")

PATHS = 20_000
"""Simulated measurements from which the chance of a verdict is read."""


class Round(NamedTuple):
    """Items asked of each benchmark (of a smaller one: all it has) and the level of the interval
    that is read then."""

    items: int
    level: float


@dataclass(frozen=True)
class Rounds:
    """The rounds of a measurement; one at `LEVEL` where nothing is asked until it is settled."""

    planned: tuple[Round, ...]

    @classmethod
    def of(cls, items: int, ceiling: int, populations: Mapping[str, int]) -> Rounds:
        """From `items` of each benchmark to `ceiling`, each round `GROWTH` times the last.

        `populations` are the items that there are of each benchmark in the mean; rounds that would
        add less than a tenth of what is known are left out.
        """
        sizes = [items]
        for size in growing(items, ceiling)[1:]:
            if information(size, populations) >= 1.1 * information(sizes[-1], populations):
                sizes.append(size)
        known = [information(size, populations) for size in sizes]
        levels = boundaries([one / known[-1] for one in known], LEVEL)
        return cls(tuple(map(Round, sizes, levels)))

    @classmethod
    def fixed(cls, items: int) -> Rounds:
        """All at once."""
        return cls((Round(items, LEVEL),))


def information(items: int, populations: Mapping[str, int]) -> float:
    """What `items` of each benchmark tell of the mean over benchmarks, up to a factor: one over the
    sum of 1 / n_t."""
    counts = [min(items, population) for population in populations.values()]
    return 1 / sum(1 / count for count in counts) if counts else float(items)


def ceiling_of(items: int, asked: int | None) -> int:
    """The most items per benchmark: `retention.max_items`, or `CEILING` times `items`.

    Raises `ConfigError` where that is fewer than are asked first.
    """
    if asked is None:
        return CEILING * items
    if asked < items:
        raise ConfigError(
            f"retention.max_items={asked} is fewer than retention.items={items}.",
            f"Raise it to {items} or more, or set retention.settle=false to ask retention.items.",
        )
    return asked


def run_rounds(
    rounds: Rounds,
    judge: Callable[[float], tuple[Found, str]],
    ask: Callable[[int], None],
) -> tuple[Found, int]:
    """What the last round that was needed found, and how many rounds were asked.

    The first round has been asked already. `judge(level)` compares what has been asked so far and
    says what it found and the run's verdict; `ask(items)` asks up to `items` of each benchmark.
    """
    first, *further = rounds.planned
    found, verdict = judge(first.level)
    asked = 1
    for one in further:
        if verdict in (*SETTLED, ""):
            break
        ask(one.items)
        found, verdict = judge(one.level)
        asked += 1
    return found, asked


class Chance(NamedTuple):
    """Of measurements of one true loss: the shares called retained and forgotten, and the items of
    each benchmark that were asked on average."""

    retained: float
    forgotten: float
    items: float


def chance(
    rounds: Rounds, se: float, epsilon: float, loss: float = 0.0, *, seed: int = 0
) -> Chance:
    """How likely a model that lost `loss` is called retained or forgotten at the budget `epsilon`.

    `se` is the standard error of the mean's change after the first round, in the unit of the other
    two. By simulation of normal changes, `PATHS` of them.
    """
    sizes = np.array([one.items for one in rounds.planned], np.float64)
    z_K = special.ndtri(0.5 + np.array([one.level for one in rounds.planned]) / 2)
    per_item = se * math.sqrt(sizes[0])
    steps = np.diff(sizes, prepend=0.0)
    noise = np.random.default_rng(seed).standard_normal((PATHS, len(sizes)))
    mean = (noise * per_item * np.sqrt(steps)).cumsum(axis=1) / sizes - loss
    reach = z_K * per_item / np.sqrt(sizes)
    retained, forgotten = mean - reach > -epsilon, mean + reach < -epsilon
    settled = retained | forgotten
    last = np.where(settled.any(axis=1), settled.argmax(axis=1), len(sizes) - 1)
    row = np.arange(PATHS)
    return Chance(
        float(retained[row, last].mean()),
        float(forgotten[row, last].mean()),
        float(sizes[last].mean()),
    )


def outlook(
    rounds: Rounds,
    epsilon: float,
    populations: Mapping[str, int],
    *,
    variance: float = 1.0,
    discordant: float = DISCORDANT,
) -> Outlook:
    """What may be expected of `rounds` at a budget `epsilon` of the mean over these benchmarks.

    A share `discordant` of the items changes in a model that lost nothing; in one that lost twice
    the budget so many more. `variance` is that of the sampling design over simple sampling's.
    """
    first, *_, last = (*rounds.planned, rounds.planned[-1])
    told = information(first.items, populations) * len(populations) ** 2
    lost = 2 * epsilon
    none = chance(rounds, math.sqrt(variance * discordant / told), epsilon)
    twice = chance(
        rounds, math.sqrt(variance * max(discordant + lost - lost**2, 0) / told), epsilon, lost
    )
    return Outlook(
        items=first.items,
        most=last.items,
        epsilon=epsilon,
        retained=none.retained,
        forgotten=twice.forgotten,
        items_retained=none.items,
        items_forgotten=twice.items,
        discordant=discordant,
    )


def items_there_are(base: Measurement) -> dict[str, int]:
    """Of each benchmark in the mean, how many items it has."""
    return {name: base[name].items_of for name in tasks_in_mean(base.tasks)}


def asked_text(rounds: Sequence[Round]) -> str:
    """How it was asked, as a sentence for the record; empty for a single round of a fixed set."""
    if len(rounds) == 1 and rounds[0].level == LEVEL:
        return ""
    sizes = ", then ".join(str(one.items) for one in rounds)
    return (
        f"Asked in rounds: {sizes} items of each benchmark. The interval is that of "
        f"level {rounds[-1].level:.1%}, which holds over all rounds that were planned."
    )
