"""How fast the parameters move: parameter groups and the learning-rate schedule.

The schedule is a pure function of the step, so that there is no state to save and resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from myosotis.errors import ConfigError

SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the peak, then `constant`, or down to zero `linear`ly or as a `cosine`.

    `warmup` counts optimiser steps when it is 1 or more, else it is a share of `total_steps`.
    """

    name: str
    warmup: float
    total_steps: int

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ConfigError(
                f"schedule.name={self.name} is unknown", f"one of: {', '.join(SCHEDULES)}"
            )
        if self.warmup < 0:
            raise ConfigError(f"schedule.warmup={self.warmup} is negative")

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at `step` (from 0): in (0, 1]."""
        warmup = self.warmup if self.warmup >= 1 else self.warmup * self.total_steps
        warmup = math.floor(warmup)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.name == "constant":
            return 1.0
        done = (step - warmup) / max(1, self.total_steps - warmup)
        done = min(done, 1.0)
        if self.name == "linear":
            return 1.0 - done
        return 0.5 * (1.0 + math.cos(math.pi * done))


def decay_groups(
    parameters: Iterable[tuple[str, Parameter]], weight_decay: float
) -> list[dict[str, Any]]:
    """Optimiser groups with weight decay on matrices only: not on biases, norms and vectors."""
    groups: dict[bool, list[Parameter]] = {True: [], False: []}
    for _, parameter in parameters:
        groups[parameter.ndim >= 2].append(parameter)
    return [
        {"params": members, "weight_decay": weight_decay if decays else 0.0}
        for decays, members in groups.items()
        if members
    ]


OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""From parameter groups to an optimiser, e.g. `functools.partial(torch.optim.AdamW, lr=1e-4)`."""
