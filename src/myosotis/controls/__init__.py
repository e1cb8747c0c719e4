"""What protects what the base knows while it is tuned: each control a class, and composable.

A control is built from its settings, refuses what it cannot serve before any weights load, and
becomes a `Term` once the update is attached. A term adds its gradient to that of the task, or holds
part of it back. What a step minimises is

    the objective's loss + the sum of the terms' values

where the objective's loss is what it would be without controls. A control that is not `active` (a
coefficient or a ratio of 0) is left out and costs nothing.

Whatever a term does is a function of the seed and the step, and there is nothing to save and
resume; but where the model writes the task itself, how many tokens a step has is known only when it
has come, and what is owed until then is kept in checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from myosotis.data.chat_template import ChatRenderer
from myosotis.trees.batch import Batch
from myosotis.trees.passes import batches_on_all_ranks
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Target, Tree
from myosotis.updates.base import Update
from myosotis.utils import distributed
from myosotis.utils.errors import ConfigError


@dataclass(frozen=True)
class About:
    """What is known of a run before anything loads; `update` is not attached to a model."""

    update: Update
    update_name: str
    is_text: bool  # whether the task's answers are text that the language model's head scores


@dataclass(frozen=True)
class Given:
    """What a term is made of, once the update is attached and nothing has been trained."""

    update: Update
    scorer: Scorer  # of the tuned model
    renderer: ChatRenderer
    context_length: int
    seed: int
    steps: int
    # Tokens of the task, by step, over all ranks; None where the model is yet to write them.
    supervised: NDArray[np.float64] | None  # learned from
    read: NDArray[np.float64] | None  # and read by the model
    general: Callable[[str], list[str]]  # passages of general text by name, none of them measured
    model: str = ""  # content hash of the base
    dtype: str = ""


@dataclass(frozen=True)
class Step:
    """One optimiser step as a term sees it."""

    number: int  # from 0
    trees: Sequence[Tree]  # of the task, on this rank
    supervised: float  # tokens of the task's trees, over all ranks: learned from
    read: float  # and read by the model
    scorer: Scorer
    backward: Callable[[Tensor, Tensor | None], None]  # of a scalar, or of a tensor's gradient
    rank: int = 0
    ranks: int = 1

    @classmethod
    def of(
        cls,
        number: int,
        trees: Sequence[Tree],
        scorer: Scorer,
        backward: Callable[[Tensor, Tensor | None], None],
        rank: int,
        ranks: int,
    ) -> Step:
        """The step that this rank's `trees` are a share of."""
        learned, reads = (distributed.total(sum(map(size, trees))) for size in (supervised, read))
        return cls(number, trees, learned, reads, scorer, backward, rank, ranks)

    def batches(self, trees: Sequence[Tree]) -> Iterator[Batch]:
        """Batches of this rank's trees, as many on every rank."""
        return batches_on_all_ranks(self.scorer, trees)

    def mine(self, trees: Sequence[Tree]) -> Sequence[Tree]:
        """This rank's share of trees that all ranks have."""
        return trees[self.rank :: self.ranks]


class Spent(NamedTuple):
    """Text that a term read up to some step, over all ranks."""

    texts: int = 0
    tokens: int = 0  # read by the model
    supervised: float = 0.0


class Term:
    """A control at work; one that is nothing but this does nothing."""

    adds = True  # whether it has a value and a gradient of its own

    def accumulate(self, at: Step) -> float:
        """Add the gradient of this rank's share of the term to the parameters; returns the share.

        The shares of all ranks are summed, and so are their gradients.
        """
        return 0.0

    def hold(self, step: int, parameters: Sequence[tuple[str, Parameter]]) -> None:
        """Take away gradients that are not to move anything at this step; they are summed up."""

    def spent(self, steps: int) -> Spent:
        """What it read in the first `steps` steps, which are those taken so far."""
        return Spent()

    def state_dict(self) -> dict[str, Any]:
        """What no function of seed and step brings back, as plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Read `state_dict` back."""


@dataclass(frozen=True)
class Control(ABC):
    """The settings of one control."""

    switch: ClassVar[str] = "coef"
    """The setting that turns it off at 0."""

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return getattr(self, self.switch) != 0

    @abstractmethod
    def refuse(self, about: About, key: str) -> None:
        """Raise `ConfigError` where it means nothing; `key` is its place in the configuration."""

    @abstractmethod
    def prepare(self, given: Given) -> Term:
        """The control at work. Reads its texts, and makes (or finds kept) what it needs."""

    @property
    def extra(self) -> Extra:
        """What it costs, for a plan."""
        return Extra()


@dataclass(frozen=True)
class Extra:
    """What a control adds to a training: tokens that go forward and backward as the task's do."""

    per_supervised: float = 0.0  # per supervised token of the task
    per_read: float = 0.0  # per token that the task reads
    base_reads: bool = False  # whether the base reads them too
    said: str = field(default="", compare=False)


def supervised(tree: Tree) -> float:
    """Tokens of a task's tree that are learned from. Where the task supervises a label or a reward
    and no tokens, those that are read."""
    return tree.scored if tree.target is Target.TOKENS else float(len(tree))


def read(tree: Tree) -> float:
    """Tokens of a task's tree that the model reads."""
    return float(tree.read.sum())


def at_least_zero(value: float, key: str) -> None:
    """Raise `ConfigError` for a coefficient that is negative, or no number."""
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{key}={value} is out of range.", "It must be at least 0; 0 is off.")


def at_least_one(value: int, key: str) -> None:
    """Raise `ConfigError` for a number of things that is none."""
    if value < 1:
        raise ConfigError(f"{key}={value} is out of range.", "At least 1.")


def moves_the_model(about: About, key: str) -> None:
    """Raise `ConfigError` for an update that leaves the language model where it is."""
    if about.update.reads_labels:
        raise ConfigError(
            f"{key} protects nothing under update={about.update_name}, which trains a classifier "
            "and leaves the language model as it is.",
            "Add control=none, or choose another update, such as update=lora.",
        )


def has_formulas(about: About, key: str) -> None:
    """Raise `ConfigError` for an update whose Δθ is no difference of weights at hand."""
    able = about.update.capabilities
    if not able.explicit:
        raise ConfigError(
            f"{key} measures the change of each weight, which update={about.update_name} does not "
            f"have: {able.reasons.get('explicit', 'it changes no weight of the base')}.",
            "It works with update=full, lora, qlora, ia3 and vera; control=replay and control=kl "
            "work with every update of the language model.",
        )


def full_precision(about: About, key: str) -> None:
    """Raise `ConfigError` for a base in four bits, whose weights have no gradient and no matrix."""
    if about.update.settings.get("quantization"):
        raise ConfigError(
            f"{key} reads the base's weights, which update.quantization keeps in four bits.",
            "Add update=lora, or control=l2sp, which reads only what is added.",
        )
