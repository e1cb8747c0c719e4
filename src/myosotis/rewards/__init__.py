"""What an answer is worth: a number for each, from a rule or from a trained reward model.

A reward is built from its settings (the group `reward`), and several make one weighted sum
(`together.py`). Rules are in `rules.py`, trained models in `model.py`. Policies learn from rewards,
`generate --best-of` chooses by them, and task quality can be measured in them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from myosotis.data.sft import Example
from myosotis.utils.errors import ConfigError

Numbers = NDArray[np.float64]


class RewardFunction(Protocol):
    """What gives answers their numbers: (n,) for `texts[i]` as the answer to `examples[i]`.

    An example brings its prompt and, as its completion, the reference answer.
    """

    def __call__(self, examples: Sequence[Example], texts: Sequence[str]) -> Numbers: ...


Load = Callable[[str], RewardFunction]
"""A reward run by its name, loaded."""


@dataclass(frozen=True)
class Reward(ABC):
    """The settings of one reward. Of weight 0 it is watched and not learned from: a policy that
    gains by the others and loses by this one has found a hole in them."""

    weight: float = 1.0

    right_or_wrong: ClassVar[bool] = False
    """Whether an answer can have full marks, 1: such answers can be counted (pass@k)."""

    def __post_init__(self) -> None:
        if isinstance(self.weight, bool) or not math.isfinite(self.weight):
            raise ConfigError(f"a reward's weight is a number, not {self.weight!r}")

    @abstractmethod
    def prepare(self, load: Load) -> RewardFunction:
        """The reward at work; `load` is for one that is a run."""


@dataclass(frozen=True)
class Rule(Reward):
    """A reward that looks at one answer at a time and needs no model."""

    right_or_wrong = True

    def prepare(self, load: Load) -> RewardFunction:
        def function(examples: Sequence[Example], texts: Sequence[str]) -> Numbers:
            pairs = zip(examples, texts, strict=True)
            return np.array([self.of(example, text) for example, text in pairs], np.float64)

        return function

    @abstractmethod
    def of(self, example: Example, text: str) -> float:
        """What one answer is worth."""
