"""What data-parallel ranks must agree on: how many passes a step has, or collective strategies wait
for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from myosotis.trees.batch import Batch
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils import distributed


def batches_on_all_ranks(scorer: Scorer, trees: Sequence[Tree]) -> Iterator[Batch]:
    """This rank's trees in batches, and empty ones until it has as many as any other rank. Each is
    made when it is asked for: a GPU still has the one before to do."""
    rows = scorer.together(trees) if trees else []
    passes = int(distributed.total(len(rows), largest=True))
    return scorer.until(passes, rows)
