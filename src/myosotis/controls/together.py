"""The controls of a run together: their gradients added up, their values and shares logged.

Each term's share of the gradient is the norm of its gradient over the norm of the sum, both of what
trains at that step and before the sum is clipped; where terms pull apart, a share can be above 1.
That costs no backward pass and no copy: at one step in so many one of the terms, each in its turn,
goes first, and the norm is taken when nothing but its gradient is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import Parameter

from myosotis.controls import Spent, Step, Term
from myosotis.utils import distributed
from myosotis.utils.errors import out_of_memory

EVERY, TIMES = 10, 10
"""A share is measured at one step in `EVERY`, or at more, so that each term's is measured `TIMES`
times in a training that has the steps for it."""

GOLDEN = (5**0.5 - 1) / 2


class Controls:
    """Terms by name, in a training of so many steps; what they did in the step before is in
    `metrics`."""

    def __init__(self, terms: Mapping[str, Term] | None = None, steps: int = 0) -> None:
        self.terms = dict(terms or {})
        self.steps = steps
        self._values: dict[str, float] = {}
        self._norm: tuple[str, float] | None = None  # of the term that went first

    def __bool__(self) -> bool:
        return bool(self.terms)

    def order(self, step: int) -> tuple[list[str], str | None]:
        """The terms that have a gradient, in the order of a step, and which of them is measured."""
        names = [name for name, term in self.terms.items() if term.adds]
        turn = _turn(step, self.steps // (TIMES * len(names))) if names else None
        if turn is None:
            return names, None
        turn %= len(names)
        return [*names[turn:], *names[:turn]], names[turn]

    def accumulate(self, at: Step, parameters: Sequence[tuple[str, Parameter]]) -> None:
        """Every term's gradient, to begin with: `parameters` have none yet."""
        self._values, self._norm = {}, None
        names, measured = self.order(at.number)
        for name in names:
            self._values[name] = _on_all_ranks(self.terms[name], at)
            if name == measured:
                self._norm = (name, self._norm_over_ranks(at, parameters))

    def _norm_over_ranks(self, at: Step, parameters: Sequence[tuple[str, Parameter]]) -> float:
        """The norm of the gradients of what trains, summed over the ranks, which keep a share of
        that sum each: they are summed again, with what follows."""
        distributed.sum_gradients([p for _, p in parameters])
        self.hold(at.number, parameters)
        gradients = [p.grad for _, p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).item() if gradients else 0.0
        if at.ranks > 1:
            torch._foreach_div_(gradients, at.ranks)
        return norm

    def hold(self, step: int, parameters: Sequence[tuple[str, Parameter]]) -> None:
        """Take away the gradients that no term lets through."""
        for term in self.terms.values():
            term.hold(step, parameters)

    def metrics(self, norm: float) -> dict[str, float]:
        """`control/<name>`, and `control/<name>_share` where it was measured; `norm` is that of the
        whole gradient, before it is clipped."""
        found = {f"control/{n}": distributed.total(v) for n, v in sorted(self._values.items())}
        if self._norm is not None and norm > 0:
            found[f"control/{self._norm[0]}_share"] = self._norm[1] / norm
        return found

    def spent(self, steps: int) -> dict[str, Spent]:
        """The text that each term read in so many steps, where it read any."""
        read = {name: term.spent(steps) for name, term in self.terms.items()}
        return {name: spent for name, spent in read.items() if spent.texts}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """What the terms keep, by name; nothing of those that keep nothing."""
        kept = {name: term.state_dict() for name, term in self.terms.items()}
        return {name: state for name, state in kept.items() if state}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Read `state_dict` back."""
        for name, kept in state.items():
            self.terms[name].load_state_dict(kept)


def _on_all_ranks(term: Term, at: Step) -> float:
    """The term's value. When the memory of one rank runs out all of them say so: the next numbers
    that ranks exchange are to be the same ones."""
    value = None
    try:
        value = term.accumulate(at)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    if distributed.on_any(value is None) or value is None:
        raise torch.OutOfMemoryError("out of memory on one of the ranks")
    return value


def _turn(step: int, every: int) -> int | None:
    """Which measurement falls on this step, of one in each `every` steps (1 to `EVERY`).

    Where in its steps each lies goes by the golden ratio, so that none keeps time with a term that
    reads a text every few steps. None falls on the first step of a training: what compares the
    model with where it began has no gradient there.
    """
    every = min(max(every, 1), EVERY)
    turn, place = divmod(step, every)
    return turn if step and place == int(every * ((turn + 1) * GOLDEN % 1)) else None
