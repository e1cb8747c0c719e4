"""Several rewards as one: the sum of each times its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from myosotis.data.sft import Example
from myosotis.rewards import Load, Numbers, Reward, RewardFunction


class Rewarded(NamedTuple):
    """What n answers were given."""

    total: Numbers  # (n,) the weighted sum: what is learned from
    parts: dict[str, Numbers]  # (n,) of each reward by its name, before its weight


@dataclass(frozen=True)
class Rewards:
    """Rewards at work, by name."""

    functions: Mapping[str, RewardFunction]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, rewards: Mapping[str, Reward], load: Load) -> Rewards:
        """The rewards of these settings."""
        return cls(
            {name: one.prepare(load) for name, one in rewards.items()},
            {name: one.weight for name, one in rewards.items()},
        )

    def __call__(self, examples: Sequence[Example], texts: Sequence[str]) -> Rewarded:
        parts = {name: one(examples, texts) for name, one in self.functions.items()}
        zero = np.zeros(len(texts))
        return Rewarded(
            sum((self.weights[name] * values for name, values in parts.items()), zero), parts
        )

    @property
    def full(self) -> float:
        """What an answer is given that every rule finds right: each gives 1 at most."""
        return sum(weight for weight in self.weights.values() if weight > 0)

    @property
    def watched(self) -> list[str]:
        """The names of those that are not learned from."""
        return [name for name, weight in self.weights.items() if weight == 0]
