"""Gradual unfreezing: the top layer trains first, then one more at a time (Howard & Ruder 2018).

What stands behind the layers (the last norm, a head of its own, a value head) trains from the first
step; the embeddings come last. A layer that waits gets no gradient: its weights and the moments of
the optimiser stay as they are, and no weight decay reaches it. The backward pass is not shortened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch.nn import Parameter

from myosotis.controls import About, Control, Extra, Given, Term
from myosotis.updates.depth import depths
from myosotis.utils.errors import ConfigError


class Unfreezing(Term):
    """Gradients of what waits are taken away before they are clipped."""

    adds = False

    def __init__(self, depth: Callable[[str], int], layers: int, every: float) -> None:
        self.depth, self.layers, self.every = depth, layers, every

    def begins(self, name: str) -> float:
        """The step (from 0) from which a tensor trains."""
        return max(0, self.layers - 1 - self.depth(name)) * self.every

    def hold(self, step: int, parameters: Sequence[tuple[str, Parameter]]) -> None:
        for name, parameter in parameters:
            if step < self.begins(name):
                parameter.grad = None


@dataclass(frozen=True)
class Unfreeze(Control):
    """One more layer every `every` steps (below 1: that share of all steps)."""

    switch: ClassVar[str] = "every"

    every: float

    @property
    def extra(self) -> Extra:
        return Extra(said="layers begin to train one after the other, from the top")

    def refuse(self, about: About, key: str) -> None:
        if not 0 <= self.every < float("inf"):
            raise ConfigError(
                f"{key}.every={self.every} is out of range.",
                "Steps (20), or a share of all steps (0.02); 0 is off.",
            )
        able = about.update.capabilities
        if not able.layered:
            raise ConfigError(
                f"{key} unfreezes one layer after another, and update={about.update_name} belongs "
                f"to no layer: {able.reasons['layered']}.",
                "It works with update=full, lora, adapter and others that train in the layers.",
            )

    def prepare(self, given: Given) -> Term:
        depth, layers = depths(given.update)
        steps = self.every if self.every >= 1 else self.every * given.steps
        return Unfreezing(depth, layers, steps)
