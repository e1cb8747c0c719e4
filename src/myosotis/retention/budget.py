"""The retention budget: how much of a benchmark a run may lose, and what its items can show.

What belongs here: turning the budget (a fraction of the base score) into the metric's own unit,
whether a verdict is inside it, and, before a run, which verdicts a number of items can reach.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import get_args

from scipy import special

from myosotis.records.verdict import (
    Accept,
    DetectableEffect,
    exit_code,
    inside_budget,
    task_name,
    with_tasks,
)
from myosotis.retention.statistics.multiple_testing import DISCORDANT
from myosotis.retention.statistics.paired import LEVEL, POWER
from myosotis.utils.errors import ConfigError

OTHERS = "others"
"""In a mapping from task to budget: the tasks that are not named."""


@dataclass(frozen=True)
class Budget:
    """A loss of `fraction` of the base score is tolerated.

    `accept` says which verdicts count as inside: only `retained`, or all but `forgotten`. A task in
    `tasks` has a fraction of its own, and must be inside it for the whole to be.
    """

    fraction: float = 0.05
    accept: Accept = "retained"
    tasks: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for fraction in (self.fraction, *self.tasks.values()):
            if not 0 <= fraction < 1:
                raise ConfigError(
                    f"retention.budget={fraction} is not a fraction of the base score.",
                    "Give a number from 0 to 1, e.g. 0.05 for 5 %.",
                )
        if self.accept not in get_args(Accept):
            raise ConfigError(
                f"retention.accept={self.accept!r} is unknown.",
                "Use 'retained' (the loss is shown to be within the budget) or 'not_forgotten'.",
            )

    @classmethod
    def of(cls, given: float | Mapping[str, float], accept: Accept) -> Budget:
        """As `retention.budget` gives it: one fraction, or a mapping from task to fraction, in
        which `others` stands for the tasks that are not named. A benchmark of one's own goes by
        its name or by its file, as `retention.suite` names it."""
        if not isinstance(given, Mapping):
            return cls(float(given), accept)
        tasks = {task_name(str(name)): float(fraction) for name, fraction in given.items()}
        return cls(tasks.pop(OTHERS, cls.fraction), accept, tasks)

    def epsilon(self, base: float, task: str = "") -> float:
        """The tolerated loss in the metric's own unit: fraction * |base|."""
        return self.tasks.get(task, self.fraction) * abs(base)

    def epsilon_of_mean(self, base: Mapping[str, float]) -> float:
        """The same of the mean over these tasks: each counts alike, as does its budget."""
        return sum(self.epsilon(score, task) for task, score in base.items()) / len(base)

    def worst(
        self, mean: str, tasks: Mapping[str, str], outside: Collection[str] = ()
    ) -> tuple[str, list[str]]:
        """The verdict of the whole and the tasks that are worse than the mean; see `with_tasks`."""
        return with_tasks(mean, tasks, self.tasks, outside)

    def accepts(self, verdict: str) -> bool:
        """Whether a checkpoint with this verdict is inside the budget."""
        return inside_budget(verdict, self.accept) is True

    def exit_code(self, verdict: str) -> int:
        """What `retention.gate=true` leaves with: 0 inside, 3 forgotten, 4 open."""
        return exit_code(verdict, self.accept)


def chance_corrected(amount: float, base: float, chance: float | None) -> float | None:
    """`amount` as a share of what the base scores above chance; None where it scores no more.

    A budget of 0.02 on a base of 0.45 with four choices is a tenth of what the base knows.
    """
    if chance is None or base <= chance:
        return None
    return amount / (base - chance)


def detectable_effect(
    task: str,
    items: int,
    epsilon: float,
    *,
    discordant: float = DISCORDANT,
    tasks: int = 1,
    pooled: int = 1,
    power: float = POWER,
) -> DetectableEffect:
    """What `items` 0/1 items can show when a share `discordant` of them differs.

    `tasks` verdicts given together are Holm-adjusted; the strictest step is assumed. `items` are of
    `pooled` tasks together. At 5 % discordant items "retained" takes 981 items for a budget of
    2 pp, 436 for 3 pp; at 10 % twice as many.
    """
    level = 1 - (1 - LEVEL) / tasks
    z = float(special.ndtri(0.5 + level / 2) + special.ndtri(power))
    detectable = z * sqrt(discordant / max(items, 1))
    needed = z * z * discordant / max(epsilon, 1e-9) ** 2
    return DetectableEffect(
        task=task,
        items=items,
        epsilon=epsilon,
        slipped_from=detectable,
        forgotten_from=epsilon + detectable,
        retained_items=round(needed),
        tasks=pooled,
        discordant=discordant,
    )
