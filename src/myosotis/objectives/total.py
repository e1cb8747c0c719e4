"""A step's loss: what an objective makes of all batches of its trees, divided once.

The training step and the held-out loss are the same sum; they differ in what is done with a batch's
loss on the way (a backward pass, or nothing) and in how many ranks share the trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from myosotis.objectives import Objective, gained, needs_critic, others, with_reference
from myosotis.trees.batch import Batch
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree


def total(
    scorer: Scorer,
    objective: Objective,
    trees: Sequence[Tree],
    batches: Iterable[Batch],
    *,
    normalizer: float,
    kl_estimate: float,
    each: Callable[[Batch, Tensor], object],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of `trees` and the objective's metrics, summed over `batches` of them.
    Both stay where they were computed, so that the device is waited for once a step.

    Args:
        batches: `scorer.batches(trees)`, and as many empty ones as there have to be.
        normalizer: what all is divided by: `objective.normalizer` summed over the trees of the
            whole step. 0 where there are none.
        kl_estimate: as `kl_estimate` returns it.
        each: called with every batch and its share of the loss, a scalar that carries gradients.
    """
    divisor = max(normalizer, 1e-12)
    shares, metrics = list[Tensor](), dict[str, Tensor]()
    for batch in batches:
        branches = scorer.score(batch, uniform=objective.uniform, values=needs_critic(objective))
        branches = with_reference(branches, batch, trees, objective, kl_estimate)
        share = objective.loss(branches) / divisor
        for name, amount in objective.metrics(branches).items():
            metrics[name] = metrics.get(name, 0.0) + amount / divisor
        each(batch, share)
        shares.append(share.detach())
    return torch.stack(shares).sum() if shares else torch.zeros(()), metrics


def kl_estimate(
    scorer: Scorer,
    objective: Objective,
    trees: Sequence[Tree],
    sum_over_ranks: Callable[[float], float] = float,
) -> float:
    """What the answers to other prompts beside graded trees have gained on their reference, in nats
    and on average over the step (`BranchLogProbs.kl_estimate`); 0 for other objectives."""
    if objective.data_kind != "grades":
        return 0.0
    elsewhere = others(trees)
    asks = elsewhere or scorer.lockstep
    gain = gained(elsewhere, scorer.evaluate(elsewhere)) if asks else 0.0
    count = sum_over_ranks(len(elsewhere))
    return sum_over_ranks(gain) / max(1, count)
