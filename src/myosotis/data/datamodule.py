"""The batches of each optimiser step.

A batch is the list of trees of one optimiser step. Which trees these are is a pure function of
(seed, epoch, step), and the step is read off the trainer: nothing about the order needs saving, and
a run that was killed goes on exactly where its checkpoint stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.example import Dataset
from myosotis.data.kept import FEW
from myosotis.data.kinds import TaskKind, text_kind
from myosotis.data.markers import Marked, check_markers
from myosotis.data.mixture import Order
from myosotis.data.sft import Example
from myosotis.data.stored_examples import source_names
from myosotis.data.token_cache import encode_on_disk
from myosotis.data.tokenize import Encoded, Overlong, encode
from myosotis.trees.tree import Tree
from myosotis.utils.console import progress
from myosotis.utils.errors import ConfigError


def left_aside(manifest: Mapping[str, Any]) -> list[str]:
    """What of the files nothing was made of, or little: a sentence each."""
    sentences = list(manifest.get("warnings", []))
    if empty := manifest.get("empty_answers"):
        sentences.append(f"answers without text: {len(empty)}, such as {empty[0]}")
    if same := manifest.get("identical"):
        sentences.append(
            f"pairs left out because both answers are the same: {len(same)}, such as {same[0]}"
        )
    for file in manifest.get("files", []):
        if file["unused"]:
            names = ", ".join(f"{name} ({count})" for name, count in file["unused"].items())
            sentences.append(f"{file['name']}: fields that are not used: {names}")
    return sentences


def found_in(manifest: Mapping[str, Any]) -> list[str]:
    """What the files of a data set were taken for, a sentence each."""
    sentences = []
    for file in manifest.get("files", []):
        forms = file.get("fields") or {}
        shown = ", ".join(f"{form} ({count:,})" for form, count in forms.items())
        said = f"{file['name']}: {file['records']:,} records, {file['format']}"
        sentences.append(said + (f", of {shown}" if shown else ""))
    return sentences


class StepLoader:
    """Iterates over the steps of an epoch, from the trainer's position on.

    `position()` is the number of optimiser steps done; `repeats` of them, one after the other, are
    on the same examples. Under data parallelism every rank takes a strided share of the same step's
    examples; a share may be empty, an epoch's steps are as many on
    every rank. The last step of an epoch may be smaller.
    """

    def __init__(
        self,
        trees: Sequence[Tree],
        batch_size: int,
        seed: int,
        *,
        position: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
        order: Order | None = None,
        repeats: int = 1,
    ) -> None:
        self.repeats = repeats
        self.trees = trees
        self.batch_size = batch_size
        self.position = position
        self.rank, self.world_size = rank, world_size
        self._of = order or Order([""] * len(trees), seed)
        self._order: tuple[int, list[int]] = (-1, [])  # of the epoch asked for last

    def __len__(self) -> int:
        return -(-len(self._of) // self.batch_size) * self.repeats

    def __iter__(self) -> Iterator[list[Tree]]:
        # The position is read at the first batch: Lightning makes iterators before it needs them.
        epoch, first = divmod(self.position(), len(self))
        for step in range(first, len(self)):
            yield self.step(epoch, step)

    def step(self, epoch: int, step: int) -> list[Tree]:
        """This rank's trees of one step."""
        start = step // self.repeats * self.batch_size
        chosen = self.order(epoch)[start : start + self.batch_size]
        own = chosen[self.rank :: self.world_size]
        return [replace(self.trees[i], example=i) for i in own]

    def order(self, epoch: int) -> list[int]:
        """The order in which an epoch goes through the trees."""
        if self._order[0] != epoch:
            self._order = (epoch, self._of.of(epoch))
        return self._order[1]

    # Lightning warns about loaders without these in mid-epoch; the trainer's step says it all.

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class ExampleModule:
    """Trees of a data set, tokenised once (in `setup`), and the loader of its training steps.

    `batch_size` is examples an optimiser step, over all ranks, and `repeats` how many steps are on
    the same ones; `kind` is what the test part is,
    where that is no text. Raises `DataError` when no example of a part fits into `max_length`
    tokens.
    """

    def __init__(
        self,
        dataset: Dataset,
        template: ChatRenderer,
        *,
        batch_size: int,
        max_length: int,
        overlong: Overlong = "drop",
        seed: int = 0,
        kind: TaskKind | None = None,
        repeats: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"data.batch_size must be at least 1 (got {batch_size})")
        if max_length < 2:
            raise ConfigError(f"data.max_length must be at least 2 (got {max_length})")
        if overlong not in ("drop", "truncate"):
            raise ConfigError(f"data.overlong is drop or truncate (got {overlong!r})")
        self.dataset = dataset
        self.template = template
        self.batch_size = batch_size
        self.repeats = repeats
        self.max_length = max_length
        self.overlong: Overlong = overlong
        self.seed = seed
        self.kind = kind or text_kind(dataset.test)
        self.encoded: dict[str, Encoded] = {}

    def setup(self) -> None:
        """Tokenise all parts; done once, whoever asks first."""
        if self.encoded:
            return
        self._marked()
        parts = self.dataset.parts()
        encoded: dict[str, Encoded] = {}
        total = sum(map(len, parts.values()))
        make = encode if total < FEW else encode_on_disk
        with progress("tokenising", total) as advance:
            for part, examples in parts.items():
                encoded[part] = make(
                    examples,
                    self.template.of_answers() if part == "test" else self.template,
                    max_length=self.max_length,
                    overlong=self.overlong,
                    advance=advance,
                )
                encoded[part].require_some(part)
        self.encoded = encoded

    def loader(
        self, position: Callable[[], int] = lambda: 0, rank: int = 0, world_size: int = 1
    ) -> StepLoader:
        """Of the training steps; see `StepLoader`."""
        return StepLoader(
            self.train_trees,
            self.batch_size,
            self.seed,
            position=position,
            rank=rank,
            world_size=world_size,
            order=self.order(),
            repeats=self.repeats,
        )

    def order(self) -> Order:
        """In which order an epoch goes through the training trees. Raises `DataError` where a
        source has none."""
        of = self.sources() or [""] * len(self._part("train").examples)
        return Order(of, self.seed, self.dataset.mixture)

    def sources(self) -> list[str]:
        """From which of several sources each training tree is; empty where there is one alone."""
        if self.dataset.mixture is None:
            return []
        return source_names(self._part("train").examples)

    def with_examples(self, encoded: Mapping[str, Encoded]) -> ExampleModule:
        """The same data with its examples rewritten, one for one, and encoded anew."""
        parts = self.dataset.parts()
        for part, rewritten in encoded.items():
            before = self._part(part).examples
            now = {id(old): new for old, new in zip(before, rewritten.examples, strict=True)}
            parts[part] = [now.get(id(example), example) for example in parts[part]]
        module = copy(self)
        module.encoded = dict(encoded)
        module.dataset = replace(self.dataset, **parts).sealed()
        return module

    def with_trees(self, trees: Mapping[str, Sequence[Tree]]) -> ExampleModule:
        """The same data with other trees of the same examples (a part left out keeps its own)."""
        module = copy(self)
        module.encoded = self.encoded | {
            part: replace(self._part(part), trees=others) for part, others in trees.items()
        }
        return module

    def of_first_step(self, most: int) -> ExampleModule:
        """Only what the first step learns from, and at most so many examples of that; they are held
        out as well."""
        chosen = self.order().of(0)[: min(self.batch_size, most)]
        whole = self._part("train")
        trees, examples = ([kept[i] for i in chosen] for kept in (whole.trees, whole.examples))
        module = copy(self)
        module.dataset = replace(self.dataset, mixture=None)  # its shares are of all examples
        few = replace(whole, trees=trees, examples=examples)
        module.encoded = self.encoded | {"train": few, "validation": few}
        return module

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.order()) // self.batch_size) * self.repeats

    @property
    def train_trees(self) -> Sequence[Tree]:
        return self._part("train").trees

    @property
    def validation_trees(self) -> Sequence[Tree]:
        """For the loss watched while training, and the choice of a checkpoint."""
        return self._part("validation").trees

    @property
    def test_trees(self) -> Sequence[Tree]:
        """For task quality; `test_examples[i]` is `test_trees[i]`."""
        return self._part("test").trees

    @property
    def test_examples(self) -> Sequence[Example]:
        return self._part("test").examples

    def kind_of(self, part: str) -> TaskKind:
        """What the examples of a part are: held-out pairs stay pairs where grades are learned."""
        return self.kind.of_part(self.dataset.parts()[part])

    def warnings(self) -> list[str]:
        """What a person should know about the data, and what of them did not fit."""
        note = [self.template.note] if self.template.note else []
        note += self._marked() + left_aside(self.dataset.manifest)
        parts = {part: self._part(part) for part in self.dataset.parts()}
        learned = self.kind_of("train").warnings(parts["train"].sizes)
        return note + learned + [line for part, one in parts.items() for line in one.warnings(part)]

    def mixed(self) -> list[str]:
        """What an epoch takes of each of several sources, in a sentence."""
        order = self.order()
        if not order.counts:
            return []
        sizes = Counter(source_names(self._part("train").examples))
        taken = ", ".join(
            f"{count:,} of {name} (of {sizes[name]:,})" for name, count in order.counts.items()
        )
        return [f"an epoch has {taken}"]

    def counts(self) -> dict[str, dict[str, int]]:
        """By part, for the run record."""
        return {part: self._part(part).counts() for part in self.dataset.parts()}

    def _marked(self) -> list[str]:
        """What the text holds of chat templates. Raises `DataError` where that is not allowed."""
        manifest = self.dataset.manifest
        return check_markers(
            [Marked(**one) for one in manifest.get("markers", [])],
            rendered=self.template.kind == "chat",
            allowed=manifest.get("allow_markers", False),
        )

    def _part(self, part: str) -> Encoded:
        self.setup()
        return self.encoded[part]
