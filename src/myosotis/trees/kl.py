"""How far a model's predictions are from another's: KL divergence per token, exact over the words.

Both models read the same rows. The bodies run one after the other; then the two heads run side by
side, a chunk of positions at a time, so that the logits of a whole row are never in memory.

Shape suffixes as in `scorer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myosotis.trees.batch import Batch
from myosotis.trees.lm_head import Head
from myosotis.trees.scorer import Scorer, device_of, evaluating
from myosotis.trees.tree import Tree

CHUNK = 64
"""Positions whose logits are in memory, of both models; with 50,000 words 13 MB each."""


def divergence(
    scorer: Scorer,
    trees: Sequence[Tree],
    other: Callable[[], AbstractContextManager[None]],
    advance: Callable[[int], object] | None = None,
    kept: dict[tuple[int, int], Tensor] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """KL(other || model) of each tree, and the target weight it is summed over; (n,) each.

    At every scored token, KL = sum over words of q * (log q - log p), in nats, where q is what the
    model predicts inside `other()` (`update.disabled`: the base) and p what it predicts outside;
    times the token's weight. A token that several paths share counts for each of them. Without
    gradients, and the model's mode is left as it was. `kept` is filled with what the other model
    has at the predicting positions, by batch, and read where it has it: for the same trees and
    other model again. Inside a job of several ranks both are this one's part.
    """
    return scorer.with_room(lambda: _divergence(scorer, trees, other, advance, kept))


def _divergence(
    scorer: Scorer,
    trees: Sequence[Tree],
    other: Callable[[], AbstractContextManager[None]],
    advance: Callable[[int], object] | None,
    kept: dict[tuple[int, int], Tensor] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total, weight = np.zeros(len(trees)), np.zeros(len(trees))
    with evaluating(scorer.model):
        first, every = scorer.part or (0, 1)
        for number, batch in enumerate(scorer.my_batches(trees)):
            here, batch = batch, batch.to(device_of(scorer.model))
            which = scorer.evaluated_at_once, first + number * every
            known = kept.get(which) if kept is not None else None
            kl_N, other_ND = _at_positions(scorer, batch, other, known)
            if kept is not None and known is None and other_ND is not None:
                kept[which] = other_ND
            which_S = here.scored_M  # each token once for every path it lies on
            weight_M = here.weight_S[which_S].double().numpy()
            kl_M = kl_N.cpu().double()[here.predictor_S][which_S].numpy()
            tree_M = here.tree_B[here.branch_M].numpy()
            np.add.at(total, tree_M, kl_M * weight_M)
            np.add.at(weight, tree_M, weight_M)
            if advance is not None:
                advance(len(set(here.tree_B.tolist())))
    return total, weight


def _at_positions(
    scorer: Scorer,
    batch: Batch,
    other: Callable[[], AbstractContextManager[None]],
    other_ND: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(N,) KL at the predicting positions, and what the other model has there (given, where it is
    known already); None instead of whole logits, which are too large to keep."""
    values_ND, head = scorer.predictor(batch)
    light = isinstance(head, Head)
    # Where weights are spread over ranks, a head is whole until the other model takes its place.
    apart = scorer.lockstep and isinstance(head, Head) and head.trains
    if apart:
        head, other_ND = _copied(head), None
    other_head = head
    if other_ND is None:
        with other():
            other_ND, other_head = scorer.predictor(batch)
            if apart:
                other_head = _copied(other_head)
    if apart or (isinstance(head, Head) and not head.trains):  # no need to go there again
        other = nullcontext
    parts = []
    for start in range(0, len(values_ND), CHUNK):
        logits_CV = head(values_ND[start : start + CHUNK])
        with other():
            other_CV = other_head(other_ND[start : start + CHUNK])
        parts.append(kl(other_CV, logits_CV))
    kl_N = torch.cat(parts) if parts else values_ND.new_zeros(0)
    return kl_N, other_ND if light else None


def _copied(head: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return head.copied() if isinstance(head, Head) else head


def kl(q_CV: Tensor, p_CV: Tensor) -> Tensor:
    """(C,) KL(q || p) in nats, of logits; half precision is widened.

    As sum q * (zq - zp) - (logsumexp zq - logsumexp zp): the rounding of two sums over the
    vocabulary cancels, and equal logits give exactly 0.
    """
    wide = torch.promote_types(q_CV.dtype, torch.float32)
    q_CV, p_CV = q_CV.to(wide), p_CV.to(wide)
    apart_C = q_CV.logsumexp(-1) - p_CV.logsumexp(-1)
    return (q_CV.softmax(-1) * (q_CV - p_CV)).sum(-1) - apart_C
