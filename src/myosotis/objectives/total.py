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
from myosotis.trees.scorer import BranchLogProbs, Scorer
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
    sources: Sequence[str] = (),
    names: Sequence[str] = (),
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of `trees` and the objective's metrics, summed over `batches` of them.
    Both stay where they were computed, so that the device is waited for once a step.

    Args:
        batches: `scorer.batches(trees)`, and as many empty ones as there have to be.
        normalizer: what all is divided by: `objective.normalizer` summed over the trees of the
            whole step. 0 where there are none.
        kl_estimate: as `kl_estimate` returns it.
        each: called with every batch and its share of the loss, a scalar that carries gradients.
        sources: which of several sources each tree is of. Then the metrics have for each of the
            `names` of all of them its share of the loss, as `loss/NAME`, and of the normalizer, as
            `share/NAME`: one over the other is the loss of that source.
    """
    divisor = max(normalizer, 1e-12)
    shares, metrics = list[Tensor](), dict[str, Tensor]()
    sizes = dict.fromkeys(names, 0.0)
    for tree, name in zip(trees, sources, strict=False):
        sizes[name] += objective.normalizer(tree)
    metrics |= {f"share/{name}": torch.tensor(size / divisor) for name, size in sizes.items()}
    for batch in batches:
        branches = scorer.score(batch, uniform=objective.uniform, values=needs_critic(objective))
        branches = with_reference(branches, batch, trees, objective, kl_estimate)
        share = objective.loss(branches) / divisor
        for name, amount in objective.metrics(branches).items():
            metrics[name] = metrics.get(name, 0.0) + amount / divisor
        for name in names:
            amount = _of_source(objective, branches, batch, sources, name) / divisor
            metrics[f"loss/{name}"] = metrics.get(f"loss/{name}", 0.0) + amount
        each(batch, share)
        shares.append(share.detach())
    return torch.stack(shares).sum() if shares else torch.zeros(()), metrics


def _of_source(
    objective: Objective,
    branches: BranchLogProbs,
    batch: Batch,
    sources: Sequence[str],
    name: str,
) -> Tensor:
    """The loss on the branches of one source, summed; without gradients."""
    which = [i for i, tree in enumerate(batch.tree_B.tolist()) if sources[tree] == name]
    with torch.no_grad():
        if not which:
            return branches.logp_B.new_zeros(())
        return objective.loss(branches.taking(torch.tensor(which, device=branches.tree_B.device)))


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
