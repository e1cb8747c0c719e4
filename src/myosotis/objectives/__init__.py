"""What loss is optimised: pure functions of per-branch log-probs.

Objectives never see token ids, masks or models. A step's loss is the sum of `loss(...)` over all
its rows, divided by the sum of `size(...)` over all its trees on all ranks; so it does not depend
on how the examples were packed.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from myosotis.trees.score import Branches
from myosotis.trees.tree import Tree


class Objective(Protocol):
    """One loss."""

    uniform: bool
    """Whether `Branches.uniform_B` is needed."""

    def size(self, tree: Tree) -> float:
        """What a tree adds to the number the loss of a step is divided by."""
        ...

    def loss(self, branches: Branches) -> Tensor:
        """Sum of the loss over the branches of one batch: a scalar, in nats, not yet divided."""
        ...
