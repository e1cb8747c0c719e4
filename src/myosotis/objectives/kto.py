"""Graded answers: those to give should gain on the reference, those not to give should lose.

KTO (Ethayarajh et al. 2024) needs no pairs. It measures each gain against z, what answers to
*other* prompts have gained in the meantime: an estimate of KL(policy‖reference), without gradient
and never below 0, over all answers of a step.

Shape suffix: B branches, one an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from myosotis.objectives import DataKind
from myosotis.objectives.preference import Reference, require_numbers, require_reference
from myosotis.trees.scorer import BranchLogProbs
from myosotis.trees.tree import Tree


def kto_loss(gain_B: Tensor, grade_B: Tensor, kl_estimate: float, beta: float) -> Tensor:
    """1 − σ(±β(gain − max(z, 0))), with − for answers not to give (equations 7 and 8).

    Args:
        gain_B: logp − ref of each answer, in nats.
        grade_B: 1 for an answer to give, −1 for one not to give.
        kl_estimate: z, in nats.
        beta: how strongly gains are weighed.
    """
    return torch.sigmoid(-grade_B * beta * (gain_B - max(kl_estimate, 0.0)))


@dataclass(frozen=True)
class KTO:
    """`kto_loss`; the weights are λ_D and λ_U, to balance more of the one kind than of the other.

    The paper wants λ_D·n_D / (λ_U·n_U) between 1 and 4/3. `reference` as in `Anchored`.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    reference: Reference = "auto"
    uniform: ClassVar[bool] = False
    data_kind: ClassVar[DataKind] = "grades"
    needs_reference: ClassVar[bool] = True
    needs_value_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_numbers(self)
        require_reference(self.reference)

    def normalizer(self, tree: Tree) -> float:
        """One answer."""
        return 1.0

    def loss(self, branches: BranchLogProbs) -> Tensor:
        if len(branches.tree_B) == 0:
            return branches.logp_B.sum()
        gain_B, grade_B = _gains(branches)
        weight_B = torch.where(grade_B > 0, self.desirable_weight, self.undesirable_weight)
        return (weight_B * kto_loss(gain_B, grade_B, branches.kl_estimate, self.beta)).sum()

    def metrics(self, branches: BranchLogProbs) -> dict[str, Tensor]:
        """Sums over the answers of a batch, divided by all of them: with as many of the one kind as
        of the other, `reward_margin` is half the distance between their mean rewards."""
        gain_B, grade_B = _gains(branches)
        reward_B = self.beta * gain_B.detach()
        return {
            "desirable_reward": reward_B[grade_B > 0].sum(),
            "undesirable_reward": reward_B[grade_B < 0].sum(),
            "reward_margin": (grade_B * reward_B).sum(),
            "drift": gain_B.new_full((), max(branches.kl_estimate, 0.0) * len(gain_B)),
        }


def _gains(branches: BranchLogProbs) -> tuple[Tensor, Tensor]:
    assert branches.reference_B is not None and branches.grade_B is not None
    return branches.logp_B - branches.reference_B, branches.grade_B
