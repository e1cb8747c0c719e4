"""KL to the base: the tuned model's predictions are kept close to the base's, over all words.

The base is the model with the update switched off, so no second copy is in memory; of a run that
goes on from a tuned model it is that model, what the training starts from. Both bodies read a
batch, then the heads run side by side over `CHUNK` positions at a time, whose gradient is taken at
once: the logits of a text are never in memory, nor kept for the backward pass.

KL on the new task predicts what is forgotten ("RL's Razor", Shenfeld et al. 2025); here it is held
down while training (Li & Hoiem 2018; the penalty of RLHF, Ziegler et al. 2019).

Shape suffixes as in `trees/scorer.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from myosotis.controls import (
    About,
    Control,
    Extra,
    Given,
    Spent,
    Step,
    Term,
    at_least_zero,
    moves_the_model,
)
from myosotis.controls.rehearsal import Rehearsal, rehearsal
from myosotis.controls.replay import check_tokens
from myosotis.controls.texts import require, texts
from myosotis.trees.batch import Batch
from myosotis.trees.kl import CHUNK, kl
from myosotis.trees.lm_head import Head
from myosotis.trees.scorer import Scorer, device_of
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update
from myosotis.utils.errors import ConfigError

TASK = "task"
DIRECTIONS = ("forward", "reverse")

Backward = Callable[[Tensor, Tensor | None], None]


def kl_penalty(logp_T: Tensor, reference_T: Tensor, coef: float) -> Tensor:
    """`coef` · mean(log p − log q) over the tokens of sampled answers: a scalar, in nats.

    The per-token estimator of RLHF (Ziegler et al. 2019, equation 2; Ouyang et al. 2022): `logp_T`
    is of the model that wrote them, `reference_T` of the model it is kept close to. It is unbiased
    for KL(p ‖ q) on tokens drawn from p alone; on given answers the control `kl` sums over all
    words instead.
    """
    return coef * (logp_T - reference_T).mean()


def weighted_kl(
    scorer: Scorer, update: Update, batch: Batch, *, reverse: bool, scale: float, backward: Backward
) -> float:
    """`scale` times the KL at the scored tokens of a batch, summed by their weights; its gradient
    is added to what trains.

    KL(base ‖ tuned), or KL(tuned ‖ base) with `reverse`. A token that several paths share counts
    for each of them.
    """
    batch = batch.to(device_of(scorer.model))
    with update.disabled():
        base_ND, base_head = scorer.predictor(batch)
    values_ND, head = scorer.predictor(batch)
    weight_N = batch.weight_S.new_zeros(len(values_ND)).index_add(
        0, batch.predictor_S[batch.scored_M], batch.weight_S[batch.scored_M]
    )
    # The same head: no need to go to the base's weights for it.
    same = isinstance(head, Head) and not head.trains
    leaf_ND = values_ND.detach().requires_grad_()
    wide = torch.promote_types(values_ND.dtype, torch.float32)
    total = values_ND.new_zeros((), dtype=wide)
    for start in range(0, len(leaf_ND), CHUNK):
        here = slice(start, start + CHUNK)
        with nullcontext() if same else update.disabled(), torch.no_grad():
            base_CV = base_head(base_ND[here])
        tuned_CV = head(leaf_ND[here])
        apart_C = kl(tuned_CV, base_CV) if reverse else kl(base_CV, tuned_CV)
        part = scale * (apart_C * weight_N[here]).sum()
        backward(part, None)
        total += part.detach()
    gradient = leaf_ND.grad if leaf_ND.grad is not None else torch.zeros_like(leaf_ND)
    backward(values_ND, gradient)
    return float(total)


class KLTerm(Term):
    """`coef` times the KL of the chosen texts over `tokens`, the number of their tokens that a step
    has on average: so it is the mean per token, on average over the steps."""

    def __init__(
        self,
        given: Given,
        chosen: Callable[[Step], Sequence[Tree]],
        *,
        coef: float,
        tokens: Callable[[Step], float],
        reverse: bool,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self.scorer, self.update = given.scorer, given.update
        self.chosen, self.rehearsal = chosen, rehearsal
        self.coef, self.tokens, self.reverse = coef, tokens, reverse

    def accumulate(self, at: Step) -> float:
        chosen, tokens = self.chosen(at), self.tokens(at)
        if not tokens:  # on no rank
            return 0.0
        scale = self.coef / tokens
        return sum(
            weighted_kl(
                self.scorer,
                self.update,
                batch,
                reverse=self.reverse,
                scale=scale,
                backward=at.backward,
            )
            for batch in at.batches(chosen)
        )

    def spent(self, steps: int) -> Spent:
        return self.rehearsal.spent(steps) if self.rehearsal else Spent()

    def state_dict(self) -> dict[str, Any]:
        return self.rehearsal.state_dict() if self.rehearsal else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.rehearsal:
            self.rehearsal.load_state_dict(state)


@dataclass(frozen=True)
class KL(Control):
    """`coef` times KL to the base per token, on `share` as many tokens of `texts` as the
    task reads.

    `texts` is what replay reads (texts.py), or `task`: the task's own answers, evenly so many
    of its examples. `direction` forward is KL(base ‖ tuned), which asks the tuned model to
    keep what the base finds likely; reverse is KL(tuned ‖ base), which asks it to add nothing.
    """

    coef: float
    texts: str = "prose"
    share: float = 0.1
    direction: str = "forward"
    tokens: int = 128

    @property
    def extra(self) -> Extra:
        said = f"KL to the base on {self.share:g} as many tokens of {self.texts} as the task reads"
        if self.texts == TASK:
            said = f"KL to the base on {self.share:g} of the task's examples"
        return Extra(per_read=self.share, base_reads=True, said=said)

    def refuse(self, about: About, key: str) -> None:
        at_least_zero(self.coef, f"{key}.coef")
        check_tokens(self.tokens, key)
        if self.direction not in DIRECTIONS:
            raise ConfigError(
                f"{key}.direction={self.direction} is unknown.", f"One of {', '.join(DIRECTIONS)}."
            )
        on_task = self.texts == TASK
        if not self.share > 0 or (on_task and self.share > 1):
            wanted = "above 0 and, on the task, at most 1" if on_task else "above 0"
            raise ConfigError(f"{key}.share={self.share} is out of range.", f"It must be {wanted}.")
        moves_the_model(about, key)
        if not on_task:
            require(self.texts, f"{key}.texts")
        elif not about.is_text:
            raise ConfigError(
                f"{key}.texts=task: this objective scores no text of the task.",
                f"Add {key}.texts=prose.",
            )

    def prepare(self, given: Given) -> Term:
        reverse = self.direction == "reverse"
        if self.texts == TASK:
            return KLTerm(
                given,
                self._of_the_task,
                coef=self.coef,
                tokens=lambda at: self.share * at.supervised,
                reverse=reverse,
            )
        seed = [given.seed, zlib.crc32(b"kl")]
        found = texts(self.texts, given, self.tokens)
        rehearsed = rehearsal(found, given.read, self.share, seed)
        return KLTerm(
            given,
            lambda at: at.mine(rehearsed.at(at.number, at.read)),
            coef=self.coef,
            tokens=lambda at: self.share * at.read,
            reverse=reverse,
            rehearsal=rehearsed,
        )

    def _of_the_task(self, at: Step) -> Sequence[Tree]:
        """Evenly `share` of a rank's trees, counted on from step to step."""
        first = at.number * len(at.trees)
        due = [int((first + i) * self.share) for i in range(len(at.trees) + 1)]
        return [tree for tree, (a, b) in zip(at.trees, pairwise(due), strict=True) if b > a]
