"""What loss is optimised: pure functions of per-branch log-probs.

Objectives never see token ids, masks or models. A step's loss is the sum of `loss(...)` over all
its rows, divided by the sum of `size(...)` over all its trees on all ranks; so it does not depend
on how the examples were packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from myosotis.trees.score import Branches
from myosotis.trees.tree import Tree


class Objective(Protocol):
    """One loss."""

    uniform: bool
    """Whether `Branches.uniform_B` is needed."""

    pairs: bool
    """Whether it wants trees of two branches: a chosen answer and a rejected one."""

    reference: bool
    """Whether `Branches.reference_B` is needed: the base's log-probs, which the trees carry."""

    def size(self, tree: Tree) -> float:
        """What a tree adds to the number the loss of a step is divided by."""
        ...

    def loss(self, branches: Branches) -> Tensor:
        """Sum of the loss over the branches of one batch: a scalar, in nats, not yet divided."""
        ...

    def watched(self, branches: Branches) -> dict[str, Tensor]:
        """Further sums over one batch that are worth a curve, by name; divided like the loss."""
        ...


def with_reference(branches: Branches, trees: Sequence[Tree]) -> Branches:
    """The same branches with `reference_B`, from the trees they belong to."""
    places = zip(branches.tree_B.tolist(), branches.path_B.tolist(), strict=True)
    values = [trees[t].reference[p] for t, p in places]  # type: ignore[index]
    return branches._replace(
        reference_B=torch.tensor(values, dtype=torch.float32, device=branches.logp_B.device)
    )
