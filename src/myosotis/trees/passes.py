"""What data-parallel ranks must agree on: how many passes a step has, or collective strategies wait
for ever."""

from __future__ import annotations

from collections.abc import Sequence

from myosotis.trees.batch import Batch
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils import distributed


def batches_on_all_ranks(scorer: Scorer, trees: Sequence[Tree]) -> list[Batch]:
    """This rank's trees in batches, and empty ones until it has as many as any other rank."""
    batches = scorer.batches(trees) if trees else []
    passes = int(distributed.total(len(batches), largest=True))
    return batches + [scorer.empty()] * (passes - len(batches))
