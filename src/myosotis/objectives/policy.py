"""Policies: a model learns from its own answers, of which some were better than others.

To each prompt a group of answers is sampled; each is given a reward, and an *advantage* says how
much better it was than its siblings. Tokens of answers with a positive advantage become likelier.
What keeps the policy near the model that training began with is a KL term, in the loss (GRPO) or
taken off the reward (RLOO): total = score − Σ kl.

A group is a tree: the prompt is read once, for scoring and for the gradient. Several optimiser
steps may be taken on the same samples; the ratio of a token's probability now to that when it was
sampled then corrects for the difference, and is clipped (Schulman et al. 2017, equation 7).

Shape suffixes: P answers of a group, D depths, M pairs (token, answer), B answers of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myosotis.objectives import DataKind, Group
from myosotis.objectives.preference import DPO
from myosotis.trees.scorer import BranchLogProbs, SampledLogProbs, TokenLogProbs
from myosotis.trees.tree import Sampled, Tree
from myosotis.utils.errors import ConfigError

Numbers = NDArray[np.float64]

SPREAD = 1e-4
"""Added to the standard deviation of a group's rewards before dividing by it, as TRL does."""


# Numbers of a group.


def penalised(scores_P: Numbers, kl_PD: Numbers, coef: float) -> Numbers:
    """score − coef · Σ kl over the tokens of each answer (Ouyang et al. 2022, equation 2)."""
    return scores_P - coef * kl_PD.sum(-1)


def centred(rewards_P: Numbers) -> Numbers:
    """Reward minus the group's mean: Dr. GRPO's advantage (Liu et al. 2025, equation 3)."""
    return rewards_P - rewards_P.mean()


def standardised(rewards_P: Numbers) -> Numbers:
    """GRPO's advantage (Shao et al. 2024, section 4.1.2): (reward − mean) / (sd + 1e-4), the
    standard deviation with n − 1."""
    return centred(rewards_P) / (rewards_P.std(ddof=1) + SPREAD)


def leave_one_out(rewards_P: Numbers) -> Numbers:
    """RLOO's advantage (Ahmadian et al. 2024, equation 9): reward minus the mean of the others'."""
    others_P = (rewards_P.sum() - rewards_P) / (len(rewards_P) - 1)
    return rewards_P - others_P


def adapted(coef: float, kl: float, target: float) -> float:
    """The KL coefficient for the next round (Ziegler et al. 2019, section 2.2): a tenth of the
    relative error towards `target`, of which a fifth at most counts. `kl` in nats per answer."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coef * (1 + 0.1 * error)


# Losses: tensors in, a number a token or an answer out.


def surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(ratio · A, clip(ratio, 1 − ε, 1 + ε) · A): what is maximised."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def kl_k3(logp_M: Tensor, reference_M: Tensor) -> Tensor:
    """exp(ref − logp) − (ref − logp) − 1: an estimate of KL(policy‖reference) of each token that
    is never negative (Schulman 2020; Shao et al. 2024, equation 4)."""
    apart_M = reference_M - logp_M
    return apart_M.exp() - apart_M - 1


# The objectives.


class OfGroups:
    """What is learned from a round, group by group."""

    def learned_from(self, group: Group) -> Tree | None:
        """What a step learns from a group; None where that is nothing."""
        raise NotImplementedError

    def of_round(self, groups: Sequence[Group]) -> list[Tree]:
        """What the steps of a round learn from its groups."""
        return [tree for group in groups if (tree := self.learned_from(group)) is not None]


@dataclass(frozen=True)
class Policy(OfGroups):
    """What all have in common: the loss of a step is the mean over its answers.

    `group_size` answers of at most `max_new_tokens` tokens to each prompt; `iterations` optimiser
    steps on the same samples. The KL coefficient is `kl_coef`, or begins there and is adapted
    to hold `kl_target` nats per answer.
    """

    group_size: int = 8
    max_new_tokens: int = 64
    iterations: int = 1
    kl_coef: float = 0.05
    kl_target: float | None = None
    clip: float = 0.2
    uniform: ClassVar[bool] = False
    data_kind: ClassVar[DataKind] = "answers"
    needs_reference: ClassVar[bool] = False  # a group brings its own
    needs_value_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_sampling(self)
        positive("clip", self.clip)

    def normalizer(self, tree: Tree) -> float:
        """The answers of a group."""
        return float(len(tree.leaves))

    def learned_from(self, group: Group) -> Tree:
        """The group with its advantages."""
        sampled = Sampled(group.old_PD, group.reference_PD, self.advantages(group), group.kl_coef)
        return replace(group.tree, sampled=sampled)

    def advantages(self, group: Group) -> Numbers:
        """How much better each answer of a group is than its siblings."""
        raise NotImplementedError

    def loss(self, branches: BranchLogProbs) -> Tensor:
        if len(branches.tree_B) == 0:
            return branches.logp_B.sum()
        return self.of_answers(branches, *_sampled(branches)).sum()

    def of_answers(
        self, branches: BranchLogProbs, now: TokenLogProbs, then: SampledLogProbs
    ) -> Tensor:
        """The loss of each answer."""
        raise NotImplementedError

    def ratios(self, now: TokenLogProbs, then: SampledLogProbs, branches: BranchLogProbs) -> Tensor:
        """How much likelier each token has become since it was sampled."""
        return (now.logp_M - then.old_M).exp()

    def metrics(self, branches: BranchLogProbs) -> dict[str, Tensor]:
        """Sums over the answers of a batch: the mean ratio, and the share of tokens at which the
        clipping stops the gradient."""
        if len(branches.tree_B) == 0:
            return {"ratio": branches.logp_B.sum(), "clip_share": branches.logp_B.sum()}
        now, then = _sampled(branches._replace(logp_B=branches.logp_B.detach()))
        now = now._replace(logp_M=now.logp_M.detach())
        ratio_M = self.ratios(now, then, branches)
        up_M = then.advantage_B[now.branch_M] > 0
        stopped_M = torch.where(up_M, ratio_M > 1 + self.clip, ratio_M < 1 - self.clip)
        return {
            "ratio": mean_by_answer(ratio_M, branches).sum(),
            "clip_share": mean_by_answer(stopped_M.to(ratio_M.dtype), branches).sum(),
        }


def mean_by_answer(values_M: Tensor, branches: BranchLogProbs) -> Tensor:
    """The mean over the tokens of each answer."""
    return sum_by_answer(values_M, branches) / branches.weight_B.clamp(min=1)


def sum_by_answer(values_M: Tensor, branches: BranchLogProbs) -> Tensor:
    """The sum over the tokens of each answer."""
    assert branches.tokens is not None
    zeros_B = values_M.new_zeros(len(branches.tree_B))
    return zeros_B.index_add(0, branches.tokens.branch_M, values_M)


def _sampled(branches: BranchLogProbs) -> tuple[TokenLogProbs, SampledLogProbs]:
    assert branches.tokens is not None and branches.sampled is not None
    return branches.tokens, branches.sampled


@dataclass(frozen=True)
class GRPO(Policy):
    """Group relative policy optimisation (Shao et al. 2024, equation 3): −min(ratio · A,
    clip(ratio) · A) + coef · `kl_k3`, averaged over the tokens of each answer."""

    kl_coef: float = 0.04

    def advantages(self, group: Group) -> Numbers:
        return standardised(group.rewards_P)

    def of_answers(
        self, branches: BranchLogProbs, now: TokenLogProbs, then: SampledLogProbs
    ) -> Tensor:
        advantage_M, coef_M = then.advantage_B[now.branch_M], then.kl_coef_B[now.branch_M]
        gain_M = surrogate(self.ratios(now, then, branches), advantage_M, self.clip)
        return self.of_tokens(coef_M * kl_k3(now.logp_M, then.reference_M) - gain_M, branches)

    def of_tokens(self, loss_M: Tensor, branches: BranchLogProbs) -> Tensor:
        """An answer's loss from those of its tokens."""
        return mean_by_answer(loss_M, branches)


@dataclass(frozen=True)
class DrGRPO(GRPO):
    """GRPO without its two biases (Liu et al. 2025): rewards are centred and not divided by their
    spread, and tokens are summed and divided by one constant, `max_new_tokens`, however long the
    answer is."""

    def advantages(self, group: Group) -> Numbers:
        return centred(group.rewards_P)

    def of_tokens(self, loss_M: Tensor, branches: BranchLogProbs) -> Tensor:
        return sum_by_answer(loss_M, branches) / self.max_new_tokens


@dataclass(frozen=True)
class RLOO(Policy):
    """REINFORCE leave-one-out (Ahmadian et al. 2024): −min(ratio · A, clip(ratio) · A) of whole
    answers, A from rewards less coef · Σ (log p − log ref)."""

    def advantages(self, group: Group) -> Numbers:
        return leave_one_out(penalised(group.rewards_P, group.kl_PD, group.kl_coef))

    def ratios(self, now: TokenLogProbs, then: SampledLogProbs, branches: BranchLogProbs) -> Tensor:
        """Of a token: that of its whole answer."""
        return sum_by_answer(now.logp_M - then.old_M, branches).exp()[now.branch_M]

    def of_answers(
        self, branches: BranchLogProbs, now: TokenLogProbs, then: SampledLogProbs
    ) -> Tensor:
        ratio_B = sum_by_answer(now.logp_M - then.old_M, branches).exp()
        return -surrogate(ratio_B, then.advantage_B, self.clip)


@dataclass(frozen=True)
class OnlineDPO(OfGroups, DPO):
    """DPO on pairs that the model itself has written (Guo et al. 2024): of each group the answer
    with the highest reward is chosen, the one with the lowest rejected. A group whose rewards are
    all equal teaches nothing."""

    group_size: int = 4
    max_new_tokens: int = 64
    iterations: int = 1
    reference: str = "live"  # type: ignore[assignment]
    data_kind: ClassVar[DataKind] = "answers"

    kl_coef: ClassVar[float] = 0.0  # beta is what holds it to the reference
    kl_target: ClassVar[None] = None

    def __post_init__(self) -> None:
        require_sampling(self)
        if self.reference != "live":
            raise ConfigError(
                f"objective.reference={self.reference}: pairs that are yet to be written have no "
                "log-probs to keep.",
                "Leave objective.reference=live.",
            )
        super().__post_init__()

    def learned_from(self, group: Group) -> Tree | None:
        """The best answer (path 0) and the worst (path 1)."""
        best, worst = int(np.argmax(group.rewards_P)), int(np.argmin(group.rewards_P))
        if group.rewards_P[best] == group.rewards_P[worst]:
            return None
        paths, reference_P = group.tree.paths(), group.reference_PD.sum(-1)
        pair = Tree.of([paths[best], paths[worst]])
        return replace(pair, reference=reference_P[[best, worst]].astype(np.float32))


def require_sampling(objective: object) -> None:
    """Raises `ConfigError` for settings with which no group could be sampled or held."""
    for name, least in (("group_size", 2), ("max_new_tokens", 1), ("iterations", 1)):
        value = getattr(objective, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"objective.{name}={value}", f"it is a whole number, {least} or more")
    coef = getattr(objective, "kl_coef", 0.0)
    if isinstance(coef, bool) or not (math.isfinite(coef) and coef >= 0):
        raise ConfigError(f"objective.kl_coef={coef}", "it is a number, 0 or more")
    target = getattr(objective, "kl_target", None)
    if target is not None:
        positive("kl_target", target)
        if coef == 0:
            raise ConfigError(
                "objective.kl_target adapts objective.kl_coef, which is 0 and would stay 0.",
                "Give a coefficient to begin with, as in objective.kl_coef=0.05.",
            )


def positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise ConfigError(f"objective.{name}={value}", "it is a number above 0")
