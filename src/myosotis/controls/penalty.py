"""Terms on the weights themselves: a sum over weights of a function of their change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from myosotis.controls import Step, Term
from myosotis.updates.change import Change


class Penalty(Term):
    """`coef` · Σ value(change): one weight after the other, so that one matrix is in memory."""

    def __init__(
        self, coef: float, changes: Sequence[Change], value: Callable[[Change], Tensor]
    ) -> None:
        self.coef, self.changes, self.value = coef, changes, value

    def accumulate(self, at: Step) -> float:
        total = 0.0
        for change in self.changes:
            # In the weights' own precision; every rank has all of them, and their sum counts once.
            with torch.autocast(change.weight.device.type, enabled=False):
                part = self.coef / at.ranks * self.value(change)
            at.backward(part, None)
            total = total + part.detach()
        return float(total)
