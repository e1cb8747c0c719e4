"""What the first rank measures, shared with the ranks that wait for it.

The first rank tells the story of a measurement alone; the others lend a hand. What runs the model
is a job: a name and its arguments, which all ranks hear, each doing its part with its own model at
the strength of the first one's. Batches are those of one process, so that scores are its scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from myosotis.trees.scorer import EVALUATE, Scorer, TreeScore
from myosotis.utils import distributed, rank_failure
from myosotis.utils.errors import out_of_memory


class Job(NamedTuple):
    """`part` makes what this rank has to say, `merge` what the first one is answered of all.
    No rank may wait for another in `part`, but for what its weights are spread over: where memory
    runs out there, all of them end."""

    part: Callable[..., Any]
    merge: Callable[[Sequence[Any]], Any]


class Weights(NamedTuple):
    """Which weights are in place, as a strength of the update, and how to put others there."""

    strength: Callable[[], float]
    at: Callable[[float], AbstractContextManager[None]]


class _Asked(NamedTuple):
    name: str
    arguments: tuple[Any, ...]
    strength: float
    rows: int  # `evaluated_at_once` of the first rank: they make the batches


class Crew:
    """The ranks of a run, as one of them takes part in it."""

    def __init__(self, scorer: Scorer, weights: Weights, jobs: Mapping[str, Job]) -> None:
        self.scorer = scorer
        self.weights = weights
        self.jobs = {EVALUATE: Job(scorer.evaluate, _scores_of_all), **jobs}

    @contextmanager
    def led(self) -> Iterator[None]:
        """On the first rank: what is asked of `scorer` inside is shared. The others must be in
        `help_out`, and leave it when this ends."""
        if not distributed.several():
            yield
            return
        self.scorer.ask = self._ask
        try:
            yield
        finally:
            self.scorer.ask = None
            distributed.told(None)

    def help_out(self) -> None:
        """On another rank: do its part of what the first rank asks, until it has measured. An error
        on any rank is raised when it has ended: the first rank is heard to the end."""
        failed: RuntimeError | None = None
        while (asked := distributed.told(None)) is not None:
            try:
                self._together(asked)
            except RuntimeError as error:
                failed = None if out_of_memory(error) and asked.rows > 1 else error
        if failed is not None:
            raise failed

    def _ask(self, name: str, *arguments: Any, **own: Any) -> Any:
        """`own` are for the first rank alone: what draws its bar. Where the memory of one runs out,
        all begin anew with half as many rows at once."""
        scorer = self.scorer
        while True:
            rows, strength = scorer.evaluated_at_once, self.weights.strength()
            asked = _Asked(name, arguments, strength, rows)
            distributed.told(asked)
            try:
                return self._together(asked, **own)
            except RuntimeError as error:
                if not out_of_memory(error) or rows == 1:
                    raise
                scorer.evaluated_at_once = rows // 2

    def _together(self, asked: _Asked, **own: Any) -> Any:
        """What all ranks have to say together. Where one fails, all do: none is left waiting."""
        job = self.jobs[asked.name]
        mine: Any
        try:
            with self._as_asked(asked):
                mine = job.part(*asked.arguments, **own)
        except RuntimeError as error:  # memory that ran out
            if self.scorer.lockstep and out_of_memory(error):
                raise rank_failure.left_alone(error) from error
            mine = error
        parts = distributed.gathered(mine)
        for part in parts:
            if isinstance(part, RuntimeError):
                raise part
        return job.merge(parts)

    @contextmanager
    def _as_asked(self, asked: _Asked) -> Iterator[None]:
        scorer = self.scorer
        before = scorer.ask, scorer.evaluated_at_once
        scorer.ask, scorer.evaluated_at_once = None, asked.rows
        scorer.part = distributed.rank(), distributed.world()
        same = self.weights.strength() == asked.strength
        try:
            with nullcontext() if same else self.weights.at(asked.strength):
                yield
        finally:
            scorer.part = None
            scorer.ask, scorer.evaluated_at_once = before


def summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum by name of what each rank has a share of."""
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def _scores_of_all(parts: Sequence[Sequence[TreeScore]]) -> list[TreeScore]:
    return [_sum(scores) for scores in zip(*parts, strict=True)]


def _sum(scores: Sequence[TreeScore]) -> TreeScore:
    """A path is scored by one rank; the others have zeros for it."""
    said = [score.said for score in scores if score.said is not None]
    return TreeScore(
        sum(score.logp for score in scores),  # type: ignore[arg-type]
        sum(score.weight for score in scores),  # type: ignore[arg-type]
        sum(score.greedy for score in scores) > 0,  # type: ignore[operator, arg-type]
        sum(said) if said else None,  # type: ignore[arg-type]
    )
