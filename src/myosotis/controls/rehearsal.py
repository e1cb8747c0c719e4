"""Which texts a step rehearses: an exact share of the task's tokens.

Texts are whole. So the share is kept by carrying the error over: after every step the supervised
tokens of the texts so far are within half a text of `share` times those of the task so far.

Where the tokens of every step are known beforehand, the texts of a step are a function of the step
(`Foreseen`). A policy writes what it learns from: there they are allotted as the steps come, and
what is owed is kept (`AsItComes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from myosotis.controls import Spent
from myosotis.trees.tree import Tree

Order = Callable[[int], Sequence[int]]
"""From the number of a pass over the texts to the order they are read in."""


class Allotment:
    """Texts given out in turn, pass after pass, as they fall due.

    Args:
        share: tokens of text per token of the task.
        lengths: supervised tokens of each text, all above 0.
        order: asked anew when a pass begins, and by `AsItComes.spent`.
    """

    def __init__(self, share: float, lengths: Sequence[float], order: Order) -> None:
        self.share, self.lengths, self.order = share, lengths, order
        self.owed = 0.0  # tokens
        self.given = 0  # texts, of all passes
        self._pass: tuple[int, Sequence[int]] = (-1, ())

    def due(self, tokens: float) -> list[int]:
        """The texts (by number) of a step in which the task has so many tokens.

        What is given out then differs from `share` times the task's tokens so far by at most half
        of the longest text.
        """
        self.owed += self.share * tokens
        chosen: list[int] = []
        while self.owed >= self.lengths[following := self.text(self.given)] / 2:
            self.owed -= self.lengths[following]
            self.given += 1
            chosen.append(following)
        return chosen

    def text(self, place: int) -> int:
        """The text that is given out at `place` (from 0)."""
        turn, here = divmod(place, len(self.lengths))
        if self._pass[0] != turn:
            self._pass = (turn, list(self.order(turn)))
        return self._pass[1][here]


def allot(
    tokens: Sequence[float], share: float, lengths: Sequence[float], order: Order
) -> list[list[int]]:
    """The texts (by number) of each step, which depend on no later step; `tokens` are those of the
    task by step, the rest is as in `Allotment`."""
    allotment = Allotment(share, lengths, order)
    return [allotment.due(count) for count in tokens]


class Rehearsal(Protocol):
    """Which texts each step reads."""

    def at(self, step: int, tokens: float) -> list[Tree]:
        """The texts of a step, on all ranks; the task has so many tokens in it."""
        ...

    def spent(self, steps: int) -> Spent:
        """What the first `steps` steps read."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def rehearsal(
    texts: Sequence[Tree],
    tokens: NDArray[np.float64] | None,
    share: float,
    seed: Sequence[int],
) -> Rehearsal:
    """`share` tokens of text per token of the task, which has `tokens` by step (None: not known
    yet); every pass over the texts in an order of its own, drawn by `seed`."""

    def order(turn: int) -> list[int]:
        drawn: list[int] = np.random.default_rng([*seed, turn]).permutation(len(texts)).tolist()
        return drawn

    lengths = [tree.scored for tree in texts]
    if tokens is None:
        return AsItComes(texts, Allotment(share, lengths, order))
    return Foreseen(texts, allot(tokens.tolist(), share, lengths, order))


@dataclass(frozen=True)
class Foreseen:
    """Known for all steps beforehand: there is nothing to save and resume."""

    texts: Sequence[Tree]
    steps: Sequence[Sequence[int]]

    def at(self, step: int, tokens: float) -> list[Tree]:
        return [self.texts[i] for i in self.steps[step]]

    def spent(self, steps: int) -> Spent:
        return _spent([self.texts[i] for chosen in self.steps[:steps] for i in chosen])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class AsItComes:
    """Known step by step, each asked for in its turn; what was read is that of all steps so far."""

    def __init__(self, texts: Sequence[Tree], allotment: Allotment) -> None:
        self.texts, self.allotment = texts, allotment
        self._step, self._chosen = -1, list[Tree]()

    def at(self, step: int, tokens: float) -> list[Tree]:
        if step != self._step:  # one that begins anew for want of memory gets the same again
            self._step = step
            self._chosen = [self.texts[i] for i in self.allotment.due(tokens)]
        return self._chosen

    def spent(self, steps: int) -> Spent:
        return _spent([self.texts[self.allotment.text(n)] for n in range(self.allotment.given)])

    def state_dict(self) -> dict[str, Any]:
        return {"owed": self.allotment.owed, "given": self.allotment.given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.allotment.owed = float(state["owed"])
        self.allotment.given = int(state["given"])


def _spent(texts: Sequence[Tree]) -> Spent:
    tokens = sum(int(tree.read.sum()) for tree in texts)
    return Spent(len(texts), tokens, sum(tree.scored for tree in texts))
