"""Proximal policy optimisation with a critic (Schulman et al. 2017; Ouyang et al. 2022).

An answer is rewarded at its last token, and every token pays for its KL to the start: total =
score − Σ kl. A value head says before each token what is still to come; what came better than it
said is that token's advantage (generalised advantage estimation, Schulman et al. 2016). Policy and
critic share one forward pass and one trunk.

Shape suffixes as in `policy.py`; T tokens of one answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from myosotis.objectives import Group
from myosotis.objectives.policy import Numbers, Policy, positive, sum_by_answer, surrogate
from myosotis.trees.scorer import BranchLogProbs, SampledLogProbs, TokenLogProbs
from myosotis.trees.tree import CriticValues, Sampled, Tree
from myosotis.utils.errors import ConfigError


def token_rewards(score: float, kl_T: Numbers, coef: float) -> Numbers:
    """−coef · kl of each token, and the score at the last one: they add up to score − coef · Σ kl
    (Ouyang et al. 2022, equation 2)."""
    rewards_T = -coef * kl_T
    rewards_T[-1] += score
    return rewards_T


def advantages(rewards_T: Numbers, values_T: Numbers, gamma: float, lam: float) -> Numbers:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16): δ_t = r_t + γ·V_{t+1} −
    V_t and A_t = δ_t + γλ·A_{t+1}; after the last token both are 0."""
    found_T, after = np.zeros_like(rewards_T), 0.0
    for t in reversed(range(len(rewards_T))):
        coming = values_T[t + 1] if t + 1 < len(values_T) else 0.0
        after = rewards_T[t] + gamma * coming - values_T[t] + gamma * lam * after
        found_T[t] = after
    return found_T


def whitened(values: Numbers) -> Numbers:
    """(x − mean) / √(variance + 1e-8), the variance with n − 1, as TRL does."""
    return (values - values.mean()) / math.sqrt(float(values.var(ddof=1)) + 1e-8)


def value_loss(value: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½ · max((V − R)², (clip(V, V_old ± ε) − R)²): a value that has moved further than ε from
    where it was when sampled, towards its return, learns no more from it."""
    near = torch.minimum(torch.maximum(value, old - clip), old + clip)
    return 0.5 * torch.maximum((value - returns) ** 2, (near - returns) ** 2)


class _Estimate(NamedTuple):
    """Of a group: what the critic says of each token; 0 where none is scored."""

    advantage_PD: Numbers
    return_PD: Numbers
    scored_PD: np.ndarray  # bool


@dataclass(frozen=True)
class PPO(Policy):
    """−min(ratio · A, clip(ratio) · A) + `value_coef` · `value_loss`, averaged over the tokens of a
    step. Advantages are whitened over all tokens of a round.

    `critic_lr_ratio`: the value head's learning rate over that of the update it stands beside; it
    begins at zero and has as far to go as the rewards are large.
    """

    group_size: int = 4
    iterations: int = 4
    clip_value: float = 0.2
    value_coef: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    critic_lr_ratio: float = 10.0
    needs_critic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("clip_value", "critic_lr_ratio"):
            positive(name, getattr(self, name))
        for name, most in (("value_coef", math.inf), ("gamma", 1), ("lam", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not (math.isfinite(value) and 0 <= value <= most):
                said = "0 or more" if most > 1 else "from 0 to 1"
                raise ConfigError(f"objective.{name}={value}", f"it is a number, {said}")

    def normalizer(self, tree: Tree) -> float:
        """The tokens of a group's answers."""
        return float(tree.scored)

    def of_round(self, groups: Sequence[Group]) -> list[Tree]:
        """The groups with advantages and returns of each token."""
        found = [self._estimate(group) for group in groups]
        every = np.concatenate([one.advantage_PD[one.scored_PD] for one in found])
        white = np.split(
            whitened(every), np.cumsum([int(one.scored_PD.sum()) for one in found])[:-1]
        )
        trees = []
        for group, one, values in zip(groups, found, white, strict=True):
            assert group.values_PD is not None
            one.advantage_PD[one.scored_PD] = values
            critic = CriticValues(one.advantage_PD, one.return_PD, group.values_PD)
            none_P = np.zeros(len(group.rewards_P))
            sampled = Sampled(group.old_PD, group.reference_PD, none_P, group.kl_coef, critic)
            trees.append(replace(group.tree, sampled=sampled))
        return trees

    def _estimate(self, group: Group) -> _Estimate:
        assert group.values_PD is not None
        advantage_PD, return_PD = np.zeros_like(group.old_PD), np.zeros_like(group.old_PD)
        scored_PD = np.zeros(group.old_PD.shape, bool)
        for p, path in enumerate(group.tree.paths()):
            at = np.flatnonzero(path.weights)
            rewards_T = token_rewards(group.rewards_P[p], group.kl_PD[p, at], group.kl_coef)
            values_T = group.values_PD[p, at]
            advantage_PD[p, at] = advantages(rewards_T, values_T, self.gamma, self.lam)
            return_PD[p, at] = advantage_PD[p, at] + values_T
            scored_PD[p, at] = True
        return _Estimate(advantage_PD, return_PD, scored_PD)

    def of_answers(
        self, branches: BranchLogProbs, now: TokenLogProbs, then: SampledLogProbs
    ) -> Tensor:
        assert then.critic is not None
        ratio_M = self.ratios(now, then, branches)
        loss_M = -surrogate(ratio_M, then.critic.advantage_M, self.clip)
        return sum_by_answer(loss_M + self.value_coef * self._of_values(now, then), branches)

    def _of_values(self, now: TokenLogProbs, then: SampledLogProbs) -> Tensor:
        assert now.value_M is not None and then.critic is not None
        return value_loss(now.value_M, then.critic.value_M, then.critic.return_M, self.clip_value)

    def metrics(self, branches: BranchLogProbs) -> dict[str, Tensor]:
        """Sums over the tokens of a batch: ratios, those at which the clipping stops the gradient,
        and the loss of the values."""
        if len(branches.tree_B) == 0:
            return dict.fromkeys(("ratio", "clip_share", "value_loss"), branches.logp_B.sum())
        assert branches.tokens is not None and branches.sampled is not None
        now, then = branches.tokens, branches.sampled
        assert now.value_M is not None and then.critic is not None
        now = now._replace(logp_M=now.logp_M.detach(), value_M=now.value_M.detach())
        ratio_M = self.ratios(now, then, branches)
        up_M = then.critic.advantage_M > 0
        stopped_M = torch.where(up_M, ratio_M > 1 + self.clip, ratio_M < 1 - self.clip)
        return {
            "ratio": ratio_M.sum(),
            "clip_share": stopped_M.to(ratio_M.dtype).sum(),
            "value_loss": self._of_values(now, then).sum(),
        }
