"""How often a run can afford to look at its benchmarks, worked out before it trains.

Costs are counted in tokens that pass forward through the model, which depend on the data and the
configuration alone; so the plan, every rank and a resumed run look at the same steps, on any
machine. With `retention.every=auto` all that is measured of a tuned model takes at most `SHARE` of
the training's work: looks get what the measurement at the end leaves. What was predicted and what
it took are both in the run's costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from myosotis.data.datamodule import ExampleModule
from myosotis.evaluation.kl import Texts
from myosotis.retention.benchmarks.task import Suite
from myosotis.trees.forest import pack
from myosotis.trees.scorer import STRETCH
from myosotis.utils.errors import ConfigError

SHARE = 0.07
"""Of the training's work, what measuring may take: the end, and looks with no sign of a loss. In
time it is about a third more (short rows compute slower; bench/overhead.py): a tenth."""

MOST = 9
"""Looks of a run at most: after every tenth of it, and at the end as always."""

MOST_ASKED = 10_000
"""Looks of a run at most where a person says how often."""

ACTING = 3
"""Looks at least where a run acts on them (`retention.on_breach`, `retention.patience`)."""


@dataclass(frozen=True)
class Cadence(Set[int]):
    """Every step that is a multiple of `gap` (1 or more), rounded, before the last of `total`.

    A set that is not written out: of a thousand million steps each may be one.
    """

    gap: float
    total: int

    def __contains__(self, step: object) -> bool:
        if not isinstance(step, int) or not 0 < step < self.total:
            return False
        near = round(step / self.gap)
        return any(round(k * self.gap) == step for k in (near - 1, near, near + 1) if k > 0)

    def __iter__(self) -> Iterator[int]:
        steps = (round(k * self.gap) for k in range(1, self._most + 1))
        return (step for step in steps if step < self.total)

    def __len__(self) -> int:
        return self._most - (self._most > 0 and round(self._most * self.gap) >= self.total)

    @property
    def _most(self) -> int:
        return int(self.total / self.gap)

    @classmethod
    def _from_iterable(cls, it: Iterable[int]) -> frozenset[int]:  # type: ignore[override]
        return frozenset(it)


def cadence(every: float | str | None, total_steps: int, *, key: str) -> Set[int]:
    """The optimiser steps at which something with cadence `every` happens.

    Steps (`50`) or a share of the run (`10%`); None is never. The last step is not among
    them: what happens at the end happens after training. Raises `ConfigError` naming `key`.
    """
    if every is None:
        return frozenset()
    text = str(every).strip()
    try:
        gap = float(text[:-1]) / 100 * total_steps if text.endswith("%") else float(text)
    except ValueError:
        raise ConfigError(
            f"{key}={every} is neither a number of steps nor a share of the run.",
            "Give steps (50), a share (10%), or null for never.",
        ) from None
    if not gap > 0:
        raise ConfigError(f"{key}={every} is not above 0.", "For never, use null.")
    return Cadence(max(gap, 1.0), total_steps)


@dataclass(frozen=True)
class EvalSchedule:
    """After which steps a run looks at its benchmarks, and what a look costs.

    `first` is a look that shows no sign of a loss and asks a few items of each task, `whole` one
    that asks everything; both as a share of the training's work. With `cheap` every look begins as
    a `first` and goes on only where there is a sign.
    """

    steps: Set[int]
    cheap: bool
    first: float
    whole: float

    @property
    def expected(self) -> float:
        """Share of the training's work that all looks take, where nothing is lost."""
        return len(self.steps) * (self.first if self.cheap else self.whole)

    @property
    def text(self) -> str:
        """One line for a person."""
        if not self.steps:
            return (
                "No benchmark evaluations during training: the final evaluation alone costs "
                f"{_of_training(self.whole)} (retention.every=50% adds one in the middle)."
            )
        looks = "1 evaluation" if len(self.steps) == 1 else f"{len(self.steps)} evaluations"
        most = len(self.steps) * self.whole
        work = f"at most {_of_training(most)}"
        if self.cheap:
            work = f"about {_of_training(self.expected)} ({most:.0%} if each shows a sign of loss)"
        return (
            f"{looks} of the benchmarks during training: {work}. The final evaluation costs "
            f"{_of_training(self.whole)}."
        )


def _of_training(share: float) -> str:
    """A share of the training's work, in words."""
    return f"{share:.0%} of the training" if share < 2 else f"{share:.2g} times the training"


def schedule_evals(
    data: ExampleModule,
    suite: Suite,
    texts: Texts,
    *,
    total_steps: int,
    trained: float,
    one_path_a_row: bool,
    row_tokens: int,
    floor: int | None,
    chooses: bool,
    acts: bool,
    steps: Set[int] | None = None,
) -> EvalSchedule:
    """The evaluations of a run of `total_steps` steps: at `steps`, or as many as it can afford.

    Args:
        suite: what an evaluation asks at most; where a checkpoint is `chosen` by it, the half that
            chooses.
        texts: on which KL to the base is measured.
        trained: share of the parameters that trains.
        floor: items of each task that an evaluation begins with; None: it asks everything.
        acts: whether the run acts on what it sees, and so has to look at least `ACTING` times.
    """
    if chooses:
        suite = suite.half("selection")
    training = _training_tokens(data, total_steps, trained)
    questions = _read(suite, row_tokens, one_path_a_row)
    kl = sum(int(tree.read.sum()) for trees in texts.trees.values() for tree in trees)
    full = (questions + kl) / training
    first = full
    if floor is not None:
        # Rounds hold as large a share of every task; those that settle nothing follow.
        fewest = min((len(task.items) for task in suite if task.accuracy_like), default=0)
        share = min(1.0, floor / fewest) if fewest else 1.0
        first = (share * questions + kl) / training
    last = frozenset([total_steps] if chooses else [])  # a choice like the others
    if steps is not None:
        if len(steps) > MOST_ASKED:
            raise ConfigError(
                f"retention.every asks for {len(steps):,} evaluations of the benchmarks.",
                f"At most {MOST_ASKED:,} are made: give more steps, a share (10%), or null.",
            )
        return EvalSchedule(steps | last, False, first, full)
    looks = min(MOST, max(0, int((SHARE - full) / first))) if first > 0 else 0
    if acts:
        looks = max(looks, ACTING)
    looks = min(looks, total_steps - 1) if suite.tasks else 0
    steps = frozenset(round(k * total_steps / (looks + 1)) for k in range(1, looks + 1))
    return EvalSchedule(steps | last, floor is not None, first, full)


def _training_tokens(data: ExampleModule, total_steps: int, trained: float) -> float:
    """Forward passes over a token that a training is worth: a backward pass is two where all
    parameters train, and one, plus the trained ones' share of two, behind frozen ones."""
    read = data.encoded["train"]
    tokens = total_steps * data.batch_size * read.tokens / len(read.trees)
    return tokens * (3 if trained >= 1 else 2 + 3 * trained)


def _read(suite: Suite, row_tokens: int, one_path_a_row: bool) -> int:
    """Tokens that a model reads to answer a suite; a written answer counts with its longest."""
    groups = pack(
        suite.request_trees.trees, row_tokens, stretch=STRETCH, one_path_a_row=one_path_a_row
    )
    rows = (row for group in groups for row in group)
    written = sum(len(prompt.ids) + prompt.most for prompt in suite.prompts)
    return sum(len(piece) for row in rows for piece in row) + written
