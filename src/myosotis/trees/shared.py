"""What the first rank scores while it measures, shared with the ranks that wait for it.

The first rank tells the story of a measurement alone; the others lend a hand: they hear which trees
are to be scored, take every world-th batch, and go on waiting. Batches are those of one process, so
that scores are its scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from myosotis.trees.scorer import Scorer, TreeScore
from myosotis.trees.tree import Tree
from myosotis.utils import distributed


class _Job(NamedTuple):
    trees: Sequence[Tree]
    rows_at_once: int  # of the first rank: they make the batches


@contextmanager
def sharing(scorer: Scorer, tuned: Callable[[], bool]) -> Iterator[None]:
    """On the first rank: what `scorer` evaluates inside is shared, as long as its weights are those
    that every rank has (`tuned`). The others must be in `help_out`, and leave it when this ends."""
    if not distributed.several():
        yield
        return

    def together(
        trees: Sequence[Tree], advance: Callable[[int], object] | None
    ) -> list[TreeScore] | None:
        if not tuned():
            return None
        distributed.told(_Job(trees, scorer.rows_at_once))
        return _part(scorer, trees, advance)

    scorer.together = together
    try:
        yield
    finally:
        scorer.together = None
        distributed.told(None)


def help_out(scorer: Scorer) -> None:
    """On another rank: score shares of what the first rank asks, until it has measured. An error on
    any rank is raised when it has ended: the first rank is heard to the end."""
    failed: RuntimeError | None = None
    while (job := distributed.told(None)) is not None:
        rows, scorer.rows_at_once = scorer.rows_at_once, job.rows_at_once
        try:
            _part(scorer, job.trees, None)
        except RuntimeError as error:
            failed = error
        finally:
            scorer.rows_at_once = rows
    if failed is not None:
        raise failed


def _part(
    scorer: Scorer, trees: Sequence[Tree], advance: Callable[[int], object] | None
) -> list[TreeScore]:
    """The scores of all ranks together, of which this one makes its share. Where one fails, all do:
    none is left waiting."""
    rank, world = distributed.rank(), distributed.world()
    mine: list[TreeScore] | RuntimeError
    try:
        with torch.no_grad():
            batches = scorer.batches(trees)[rank::world]
        mine = scorer.evaluate_batches(trees, batches, advance)
    except RuntimeError as error:  # memory that ran out
        mine = error
    parts = distributed.gathered(mine)
    for part in parts:
        if isinstance(part, RuntimeError):
            raise part
    return [_sum(scores) for scores in zip(*parts, strict=True)]


def _sum(scores: Sequence[TreeScore]) -> TreeScore:
    """A path is scored by one rank; the others have zeros for it."""
    return TreeScore(
        sum(score.logp for score in scores),  # type: ignore[arg-type]
        sum(score.weight for score in scores),  # type: ignore[arg-type]
        sum(score.greedy for score in scores) > 0,  # type: ignore[operator, arg-type]
    )
