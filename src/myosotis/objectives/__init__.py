"""What loss is optimised: pure functions of per-branch log-probs.

Objectives never see token ids, masks or models. A step's loss is the sum of `loss(...)` over all
its rows, divided by the sum of `normalizer(...)` over all its trees on all ranks (total.py); so it
does not depend on how the examples were packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myosotis.trees.batch import Batch
from myosotis.trees.scorer import (
    BranchLogProbs,
    SampledLogProbs,
    SampledValues,
    TokenLogProbs,
    TreeScore,
)
from myosotis.trees.tree import Sampled, Tree

DataKind = Literal["answers", "pairs", "grades"]
"""What is learned from: answers; a chosen and a rejected one (trees of two branches); or answers
with a grade, each with the answer to another prompt beside it (`Tree.grade`, `Tree.other`)."""


class Objective(Protocol):
    """One loss."""

    data_kind: DataKind

    uniform: bool
    """Whether `BranchLogProbs.uniform_B` is needed."""

    needs_reference: bool
    """Whether `BranchLogProbs.reference_B` is needed: log-probs of the model before the update."""

    needs_value_head: bool
    """Whether `BranchLogProbs.logp_B` are numbers of a value head, instead of log-probs."""

    def normalizer(self, tree: Tree) -> float:
        """What a tree adds to the number the loss of a step is divided by."""
        ...

    def loss(self, branches: BranchLogProbs) -> Tensor:
        """Sum of the loss over the branches of one batch: a scalar, in nats, not yet divided."""
        ...

    def metrics(self, branches: BranchLogProbs) -> dict[str, Tensor]:
        """Further sums over one batch that are worth a curve, by name; divided like the loss."""
        ...


@dataclass(frozen=True)
class Group:
    """Answers that the model has sampled to one prompt, and what they were given: P paths, D
    depths."""

    tree: Tree  # their tokens, all of them scored
    rewards_P: NDArray[np.float64]
    old_PD: NDArray[np.float64]  # log-prob of each token at its depth; 0 where none is scored
    reference_PD: NDArray[np.float64]  # the same of the model that training begins with
    kl_coef: float
    values_PD: NDArray[np.float64] | None = None  # what a critic said before each token

    @property
    def kl_PD(self) -> NDArray[np.float64]:  # noqa: N802 - a shape suffix
        """log p − log ref of each token: summed over an answer, what KL(policy‖reference) is the
        mean of."""
        return self.old_PD - self.reference_PD


class SampledObjective(Objective, Protocol):
    """A loss on answers that the model samples itself, in groups (`policy.py`)."""

    group_size: int
    max_new_tokens: int
    iterations: int  # optimiser steps on the same samples
    kl_coef: float
    kl_target: float | None  # nats per answer that the coefficient is adapted to

    def of_round(self, groups: Sequence[Group]) -> list[Tree]:
        """What the steps of a round learn from its groups."""
        ...


def samples(objective: Objective) -> TypeGuard[SampledObjective]:
    """Whether an objective learns from answers that are yet to be sampled."""
    return hasattr(objective, "of_round")


def needs_critic(objective: Objective) -> bool:
    """Whether `TokenLogProbs.value_M` is needed: a value head that is trained beside the policy
    (`updates/critic.py`)."""
    return bool(getattr(objective, "needs_critic", False))


def with_reference(
    branches: BranchLogProbs,
    batch: Batch,
    trees: Sequence[Tree],
    objective: Objective,
    kl_estimate: float = 0.0,
) -> BranchLogProbs:
    """The same branches with what the trees they belong to carry for this objective; `batch` is
    what was scored, on the host."""
    if any(tree.sampled is not None for tree in trees):
        return _with_samples(branches, batch, trees)
    if not objective.needs_reference:
        return branches
    places = list(zip(batch.tree_B.tolist(), batch.path_B.tolist(), strict=True))
    values = [trees[t].reference[p] for t, p in places]  # type: ignore[index]
    branches = branches._replace(reference_B=_like(values, branches), kl_estimate=kl_estimate)
    if objective.data_kind != "grades":
        return branches
    return branches._replace(grade_B=_like([trees[t].grade for t, _ in places], branches))


def _with_samples(branches: BranchLogProbs, batch: Batch, trees: Sequence[Tree]) -> BranchLogProbs:
    """The same branches with what was known of their tokens when they were sampled."""
    assert branches.tokens is not None
    places = list(zip(batch.tree_B.tolist(), batch.path_B.tolist(), strict=True))
    carried = [(trees[t].sampled, p) for t, p in places]
    at = list(zip(branches.tokens.branch_M.tolist(), branches.tokens.depth_M.tolist(), strict=True))

    def of(values: Sequence[float]) -> Tensor:
        return branches.logp_B.new_tensor(values)

    return branches._replace(
        sampled=SampledLogProbs(
            old_M=of([carried[b][0].old_PD[carried[b][1], d] for b, d in at]),  # type: ignore[union-attr]
            reference_M=of([carried[b][0].reference_PD[carried[b][1], d] for b, d in at]),  # type: ignore[union-attr]
            advantage_B=of([one.advantage_P[p] for one, p in carried]),  # type: ignore[union-attr]
            kl_coef_B=of([one.kl_coef for one, _ in carried]),  # type: ignore[union-attr]
            critic=_critic(branches.tokens, carried),
        )
    )


def _critic(
    tokens: TokenLogProbs, carried: Sequence[tuple[Sampled | None, int]]
) -> SampledValues | None:
    """What a critic made of the tokens; `carried` says it by branch."""
    if not carried or carried[0][0] is None or carried[0][0].critic is None:
        return None
    at = list(zip(tokens.branch_M.tolist(), tokens.depth_M.tolist(), strict=True))

    def column(which: int) -> Tensor:
        values = [carried[b][0].critic[which][carried[b][1], d] for b, d in at]  # type: ignore[union-attr,index]
        return tokens.logp_M.new_tensor(values)

    return SampledValues(column(0), column(1), column(2))


def _like(values: Sequence[float], branches: BranchLogProbs) -> Tensor:
    here = torch.tensor(values, dtype=torch.float32)
    return here.to(branches.logp_B.device, non_blocking=True)


def others(trees: Sequence[Tree]) -> list[Tree]:
    """The answers to other prompts that graded trees carry."""
    return [tree.other for tree in trees if tree.other is not None]


def gained(trees: Sequence[Tree], scores: Sequence[TreeScore]) -> float:
    """What trees of one path have gained on their reference, in nats, summed."""
    pairs = zip(trees, scores, strict=True)
    return float(sum(s.logp[0] - t.reference[0] for t, s in pairs))  # type: ignore[index]
