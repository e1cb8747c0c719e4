"""Supervised fine-tuning: the negative log-likelihood of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from myosotis.objectives import DataKind
from myosotis.trees.scorer import BranchLogProbs
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError


def sft_loss(
    logp_B: Tensor, uniform_B: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Summed negative log-likelihood in nats (scalar), optionally with label smoothing.

    With smoothing ε: (1 − ε)·nll + ε·(mean over the vocabulary of −log p), as `torch`'s
    `cross_entropy(label_smoothing=ε)` (Szegedy et al. 2016, §7).

    Args:
        logp_B: sum of weight * log-prob of each branch.
        uniform_B: sum of weight * (log-prob averaged over the vocabulary); wanted when ε > 0.
        label_smoothing: ε in [0, 1).
    """
    nll = -logp_B.sum()
    if uniform_B is None or label_smoothing == 0:
        return nll
    return (1 - label_smoothing) * nll - label_smoothing * uniform_B.sum()


@dataclass(frozen=True)
class SFT:
    """`sft_loss`, normalised over the scored tokens of the step."""

    label_smoothing: float = 0.0
    data_kind: ClassVar[DataKind] = "answers"
    needs_value_head: ClassVar[bool] = False
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"objective.label_smoothing is {self.label_smoothing}", "it must lie in [0, 1)"
            )

    @property
    def uniform(self) -> bool:
        return self.label_smoothing > 0

    def normalizer(self, tree: Tree) -> float:
        return tree.scored

    def loss(self, branches: BranchLogProbs) -> Tensor:
        return sft_loss(branches.logp_B, branches.uniform_B, self.label_smoothing)

    def metrics(self, branches: BranchLogProbs) -> dict[str, Tensor]:
        return {}
