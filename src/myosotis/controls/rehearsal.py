"""Which texts a step rehearses: an exact share of the task's tokens, as a function of the step.

Texts are whole. So the share is kept by carrying the error over: after every step the supervised
tokens of the texts so far are within half a text of `share` times those of the task so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from myosotis.controls import Spent
from myosotis.trees.tree import Tree

Order = Callable[[int], Sequence[int]]
"""From the number of a pass over the texts to the order they are read in."""


def allot(
    tokens: Sequence[float], share: float, lengths: Sequence[float], order: Order
) -> list[list[int]]:
    """The texts (by number) of each step.

    After step k the lengths given out differ from `share` times `tokens` of steps 0 to k by at most
    half of the longest. What a step gets depends on no later step.

    Args:
        tokens: supervised tokens of the task in each step.
        share: tokens of text per token of the task.
        lengths: supervised tokens of each text, all above 0.
    """
    steps: list[list[int]] = []
    owed, turn, queue = 0.0, 0, list[int]()
    for count in tokens:
        owed += share * count
        chosen: list[int] = []
        while True:
            if not queue:
                queue = list(order(turn))
                turn += 1
            following = lengths[queue[0]]
            if owed < following / 2:
                break
            owed -= following
            chosen.append(queue.pop(0))
        steps.append(chosen)
    return steps


@dataclass(frozen=True)
class Rehearsal:
    """Texts, and which of them each step reads."""

    texts: Sequence[Tree]
    steps: Sequence[Sequence[int]]

    @classmethod
    def of(
        cls, texts: Sequence[Tree], tokens: Sequence[float], share: float, seed: Sequence[int]
    ) -> Rehearsal:
        """`share` tokens of text per token of the task; every pass over the texts in an order of
        its own, drawn by `seed`."""

        def order(turn: int) -> list[int]:
            drawn: list[int] = np.random.default_rng([*seed, turn]).permutation(len(texts)).tolist()
            return drawn

        return cls(texts, allot(tokens, share, [tree.scored for tree in texts], order))

    def at(self, step: int) -> list[Tree]:
        """The texts of a step, on all ranks."""
        return [self.texts[i] for i in self.steps[step]]

    def spent(self, steps: int) -> Spent:
        """What the first `steps` steps read."""
        read = [self.texts[i] for chosen in self.steps[:steps] for i in chosen]
        tokens = sum(int(tree.read.sum()) for tree in read)
        return Spent(len(read), tokens, sum(tree.scored for tree in read))
