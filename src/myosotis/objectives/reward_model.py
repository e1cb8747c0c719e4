"""Reward models: a number for an answer, higher for the chosen one of a pair.

The number is what a trained head makes of the hidden state after the answer's last token
(`trees/lm_head.py`); a branch's `logp_B` is that number here, not a log-prob.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from myosotis.objectives.preference import Pairs, Pairwise
from myosotis.trees.scorer import BranchLogProbs
from myosotis.utils.errors import ConfigError


def reward_loss(chosen_P: Tensor, rejected_P: Tensor, margin: float, centre: float) -> Tensor:
    """−log σ(r₊ − r₋ − m) + c·(r₊ + r₋)²: Bradley and Terry's model of choices with a margin
    (Touvron et al. 2023, equation 2), and rewards held around zero (Eisenstein et al. 2023)."""
    return -logsigmoid(chosen_P - rejected_P - margin) + centre * (chosen_P + rejected_P) ** 2


@dataclass(frozen=True)
class Reward(Pairwise):
    """`reward_loss`, averaged over the pairs of a step.

    `head_lr_ratio`: the value head's learning rate over that of the update it stands beside.
    """

    margin: float = 0.0
    centre: float = 0.0
    head_lr_ratio: float = 1.0
    needs_value_head: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_lr_ratio == 0:
            raise ConfigError("objective.head_lr_ratio=0", "the value head has to learn")

    def of_pairs(self, pairs: Pairs) -> Tensor:
        return reward_loss(pairs.chosen_P, pairs.rejected_P, self.margin, self.centre)

    def metrics(self, branches: BranchLogProbs) -> dict[str, Tensor]:
        """Sums over the pairs of a batch: rewards, their difference, and how often it is right."""
        pairs = Pairs.of(branches._replace(logp_B=branches.logp_B.detach()))
        apart_P = pairs.chosen_P - pairs.rejected_P
        return {
            "reward_margin": apart_P.sum(),
            "reward_accuracy": torch.where(apart_P == 0, 0.5, (apart_P > 0).float()).sum(),
            "chosen_reward": pairs.chosen_P.sum(),
            "rejected_reward": pairs.rejected_P.sum(),
        }
