"""Preferences: of two answers to a prompt, the chosen one should gain on the rejected one.

A pair is a tree with two branches: the chosen answer is path 0, the rejected one path 1. All losses
are of one pair, in nats or the loss's own unit, and are averaged over the pairs of a step.

Notation (docs/science.md, section 2): logp is the sum of log-probs of an answer's tokens, avg the
same over its length, h = (logp₊ − ref₊) − (logp₋ − ref₋), where ref is the base's. Sums are fp32.

Shape suffix: P pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from myosotis.objectives import DataKind
from myosotis.trees.scorer import BranchLogProbs
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError


class Pairs(NamedTuple):
    """Both answers of P pairs: sums of log-probs, those of the reference, and lengths in tokens."""

    chosen_P: Tensor
    rejected_P: Tensor
    chosen_ref_P: Tensor
    rejected_ref_P: Tensor
    chosen_size_P: Tensor
    rejected_size_P: Tensor

    @property
    def gain_P(self) -> Tensor:  # noqa: N802 - a shape suffix
        """How much more the chosen answer has gained on the reference than the rejected one."""
        return (self.chosen_P - self.chosen_ref_P) - (self.rejected_P - self.rejected_ref_P)

    @classmethod
    def of(cls, branches: BranchLogProbs) -> Pairs:
        """The branches of a batch, two a tree."""
        order = torch.argsort(branches.tree_B * 2 + branches.path_B)
        first, second = order[0::2], order[1::2]
        reference_B = branches.reference_B
        if reference_B is None:  # a loss without one
            reference_B = torch.zeros_like(branches.logp_B)
        return cls(
            *(branches.logp_B[i] for i in (first, second)),
            *(reference_B[i] for i in (first, second)),
            *(branches.weight_B[i] for i in (first, second)),
        )


# The losses: tensors in, a loss a pair out.


def dpo_loss(pairs: Pairs, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """−(1 − ε) log σ(βh) − ε log σ(−βh): DPO (Rafailov et al. 2023, equation 7); with ε > 0 it is
    cDPO (Mitchell 2023), for labels that are wrong in a share ε of the pairs."""
    logits_P = beta * pairs.gain_P
    return -(1 - label_smoothing) * logsigmoid(logits_P) - label_smoothing * logsigmoid(-logits_P)


def ipo_loss(pairs: Pairs, beta: float) -> Tensor:
    """(h − 1/(2β))² on log-probs averaged over the length (Azar et al. 2023, equation 17)."""
    chosen_P = (pairs.chosen_P - pairs.chosen_ref_P) / pairs.chosen_size_P
    rejected_P = (pairs.rejected_P - pairs.rejected_ref_P) / pairs.rejected_size_P
    return (chosen_P - rejected_P - 1 / (2 * beta)) ** 2


def hinge_loss(pairs: Pairs, beta: float) -> Tensor:
    """max(0, 1 − βh): RSO's hinge (Liu et al. 2023; SLiC, Zhao et al. 2023)."""
    return relu(1 - beta * pairs.gain_P)


def dpop_loss(pairs: Pairs, beta: float, penalty: float) -> Tensor:
    """−log σ(β(h − λ·max(0, ref₊ − logp₊))): DPO that holds the chosen answer up (Smaug, Pal et al.
    2024, equation 3)."""
    fallen_P = relu(pairs.chosen_ref_P - pairs.chosen_P)
    return -logsigmoid(beta * (pairs.gain_P - penalty * fallen_P))


def simpo_loss(pairs: Pairs, beta: float, gamma: float) -> Tensor:
    """−log σ(β(avg₊ − avg₋) − γ), without a reference (Meng et al. 2024, equation 6)."""
    chosen_P = pairs.chosen_P / pairs.chosen_size_P
    rejected_P = pairs.rejected_P / pairs.rejected_size_P
    return -logsigmoid(beta * (chosen_P - rejected_P) - gamma)


def orpo_term(chosen_avg_P: Tensor, rejected_avg_P: Tensor) -> Tensor:
    """−log σ(log odds₊ − log odds₋) of average log-probs (Hong et al. 2024, equation 7)."""
    odds_P = [a - torch.log1p(-a.exp().clamp(max=1 - 1e-7)) for a in (chosen_avg_P, rejected_avg_P)]
    return -logsigmoid(odds_P[0] - odds_P[1])


def orpo_loss(pairs: Pairs, weight: float) -> Tensor:
    """nll₊ + λ·`orpo_term`, without a reference (Hong et al. 2024, equation 6)."""
    chosen_P = pairs.chosen_P / pairs.chosen_size_P
    rejected_P = pairs.rejected_P / pairs.rejected_size_P
    return -chosen_P + weight * orpo_term(chosen_P, rejected_P)


# The objectives: a loss and its settings.


Reference = Literal["auto", "cached", "live"]


def require_reference(reference: str) -> None:
    """Raises `ConfigError` for a name that is none of `Reference`."""
    if reference not in get_args(Reference):
        raise ConfigError(f"objective.reference={reference}", "it is auto, cached or live")


def require_numbers(objective: object) -> None:
    """Raises `ConfigError` for a setting that is negative or not finite, and for a beta of 0."""
    for name, value in vars(objective).items():
        if not isinstance(value, str) and not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"objective.{name}={value}", "it is a number, 0 or more")
    if getattr(objective, "beta", 1.0) == 0:
        raise ConfigError("objective.beta=0", "it is a number above 0")


@dataclass(frozen=True)
class Pairwise:
    """What all have in common: the loss of a step is the mean of the losses of its pairs."""

    uniform: ClassVar[bool] = False
    data_kind: ClassVar[DataKind] = "pairs"
    needs_reference: ClassVar[bool] = False
    needs_value_head: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_numbers(self)

    def normalizer(self, tree: Tree) -> float:
        """One pair."""
        return 1.0

    def loss(self, branches: BranchLogProbs) -> Tensor:
        if len(branches.tree_B) == 0:
            return branches.logp_B.sum()
        return self.of_pairs(Pairs.of(branches)).sum()

    def of_pairs(self, pairs: Pairs) -> Tensor:
        """The loss of each pair."""
        raise NotImplementedError


@dataclass(frozen=True)
class Preference(Pairwise):
    """A loss on log-probs, with an optional SFT term.

    `sft_weight` adds that many times the negative log-likelihood a token of the chosen answer.
    """

    sft_weight: float = 0.0

    def of_pairs(self, pairs: Pairs) -> Tensor:
        loss_P = self.of(pairs)
        if self.sft_weight:
            loss_P = loss_P - self.sft_weight * pairs.chosen_P / pairs.chosen_size_P
        return loss_P

    def of(self, pairs: Pairs) -> Tensor:
        """The loss of each pair, before the SFT term."""
        raise NotImplementedError

    def metrics(self, branches: BranchLogProbs) -> dict[str, Tensor]:
        """Sums over the pairs of a batch of what tells how it goes."""
        pairs = Pairs(*(t.detach() for t in Pairs.of(branches)))
        scale = float(getattr(self, "beta", 1.0))
        metrics = {
            "chosen_logp": pairs.chosen_P.sum(),
            "rejected_logp": pairs.rejected_P.sum(),
            "chosen_tokens": pairs.chosen_size_P.sum(),
            "rejected_tokens": pairs.rejected_size_P.sum(),
        }
        if self.needs_reference:
            metrics |= {
                "reward_margin": (scale * pairs.gain_P).sum(),
                "reward_accuracy": (pairs.gain_P > 0).float().sum(),
                "chosen_reward": (scale * (pairs.chosen_P - pairs.chosen_ref_P)).sum(),
                "rejected_reward": (scale * (pairs.rejected_P - pairs.rejected_ref_P)).sum(),
                "chosen_kl": ((pairs.chosen_ref_P - pairs.chosen_P) / pairs.chosen_size_P).sum(),
            }
        return metrics


@dataclass(frozen=True)
class Anchored(Preference):
    """Those that measure gains on a reference.

    `reference` says when its log-probs are computed: `cached`, once for all epochs and runs, or
    `live`, at every step with the update switched off. In fp32 both are the same numbers; in bf16
    a score depends on its company in a product, and only `live`, in the step's own rows, begins at
    a margin of 0. `auto` is `cached` in fp32 and `live` in less.
    """

    reference: Reference = "auto"
    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_reference(self.reference)


@dataclass(frozen=True)
class DPO(Anchored):
    """`dpo_loss`; with `label_smoothing` cDPO."""

    beta: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.label_smoothing < 0.5:
            raise ConfigError(
                f"objective.label_smoothing={self.label_smoothing}", "it lies in [0, 0.5)"
            )

    def of(self, pairs: Pairs) -> Tensor:
        return dpo_loss(pairs, self.beta, self.label_smoothing)


@dataclass(frozen=True)
class IPO(Anchored):
    """`ipo_loss`."""

    beta: float = 0.1

    def of(self, pairs: Pairs) -> Tensor:
        return ipo_loss(pairs, self.beta)


@dataclass(frozen=True)
class Hinge(Anchored):
    """`hinge_loss`."""

    beta: float = 0.1

    def of(self, pairs: Pairs) -> Tensor:
        return hinge_loss(pairs, self.beta)


@dataclass(frozen=True)
class DPOP(Anchored):
    """`dpop_loss`; `penalty` is λ."""

    beta: float = 0.1
    penalty: float = 5.0

    def of(self, pairs: Pairs) -> Tensor:
        return dpop_loss(pairs, self.beta, self.penalty)


@dataclass(frozen=True)
class SimPO(Preference):
    """`simpo_loss`."""

    beta: float = 2.0
    gamma: float = 0.5

    def of(self, pairs: Pairs) -> Tensor:
        return simpo_loss(pairs, self.beta, self.gamma)


@dataclass(frozen=True)
class ORPO(Preference):
    """`orpo_loss`; `weight` is λ."""

    weight: float = 0.1

    def of(self, pairs: Pairs) -> Tensor:
        return orpo_loss(pairs, self.weight)
