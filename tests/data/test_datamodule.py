"""The order of the steps: a pure function of (seed, epoch, step), shared out among ranks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import PreTrainedTokenizerFast

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule, StepLoader
from myosotis.data.example import Dataset
from myosotis.data.mixture import Mixture
from myosotis.data.sft import Example, Message
from myosotis.training.datamodule import StepModule
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError, DataError


def trees(count: int) -> list[Tree]:
    """Tree number i holds token i."""
    return [Tree.fork([i], [[0]]) for i in range(count)]


def ids(batch: list[Tree]) -> list[int]:
    return [int(tree.ids[0]) for tree in batch]


def dataset(train: int, held_out: int = 2) -> Dataset:
    def examples(count: int, part: str) -> list[Example]:
        return [
            Example((Message("user", f"{part} {i}"), Message("assistant", str(i))), f"{part}:{i}")
            for i in range(count)
        ]

    return Dataset("d", examples(train, "train"), examples(held_out, "v"), examples(held_out, "t"))


@pytest.fixture
def template(tokenizer: PreTrainedTokenizerFast) -> ChatRenderer:
    return ChatRenderer(tokenizer)


def test_an_epoch_visits_every_example_once_and_the_last_step_may_be_smaller() -> None:
    batches = [ids(batch) for batch in StepLoader(trees(10), 4, seed=0)]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(itertools.chain(*batches)) == list(range(10))


def test_orders_differ_by_epoch_and_seed_and_repeat() -> None:
    loader = StepLoader(trees(50), 4, seed=0)
    assert loader.order(0) != loader.order(1)
    assert loader.order(0) == StepLoader(trees(50), 8, seed=0).order(0)
    assert loader.order(0) != StepLoader(trees(50), 4, seed=1).order(0)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 80))
def test_it_goes_on_at_any_position(count: int, batch_size: int, done: int) -> None:
    whole = StepLoader(trees(count), batch_size, seed=3)
    epoch, first = divmod(done, len(whole))
    rest = StepLoader(trees(count), batch_size, seed=3, position=lambda: done)
    assert [ids(b) for b in rest] == [ids(whole.step(epoch, i)) for i in range(first, len(whole))]


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 5))
def test_ranks_share_the_examples_of_the_same_step(count: int, batch_size: int, ranks: int) -> None:
    whole = StepLoader(trees(count), batch_size, seed=0)
    shares = [
        StepLoader(trees(count), batch_size, seed=0, rank=rank, world_size=ranks)
        for rank in range(ranks)
    ]
    assert {len(share) for share in shares} == {len(whole)}
    for step in range(len(whole)):
        parts = [ids(share.step(1, step)) for share in shares]
        assert sorted(itertools.chain(*parts)) == sorted(ids(whole.step(1, step)))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


class Recorder(lightning.LightningModule):
    """Trains one number; remembers which examples each step saw. Stops dead at `die_at`."""

    def __init__(self, die_at: int | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.die_at = die_at
        self.seen: list[list[int]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: list[Tree], batch_idx: int) -> None:
        if self.global_step == self.die_at:
            raise KeyError("killed")
        assert all(isinstance(tree, Tree) for tree in batch)
        self.seen.append([tree.ids.tolist() for tree in batch])  # type: ignore[arg-type]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.weight.sum())
        optimizer.step()


def trainer(folder: Path, **options: Any) -> lightning.Trainer:
    save = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(accelerator="cpu", callbacks=[save], **quiet, **options)  # type: ignore


def mixed(count: int) -> Dataset:
    """The same of two sources, 7:3 by their size, and mixed by it."""
    data = dataset(count)
    data.train = [replace(e, source="ab"[i >= 7]) for i, e in enumerate(data.train)]
    return replace(data, mixture=Mixture({"a": 7, "b": 3}))


@pytest.mark.parametrize("made", [dataset, mixed])
@pytest.mark.parametrize("killed_at", [1, 3, 4, 6, 7, 9, 11])
def test_a_killed_run_goes_on_where_its_checkpoint_stands(
    tmp_path: Path, template: ChatRenderer, killed_at: int, made: Callable[[int], Dataset]
) -> None:
    """10 examples in steps of 3: 4 steps an epoch, 3 epochs; killed in mid-epoch or at its end."""

    def data() -> StepModule:
        return StepModule(ExampleModule(made(10), template, batch_size=3, max_length=64, seed=5))

    whole = Recorder()
    trainer(tmp_path / "whole", max_epochs=3).fit(whole, datamodule=data())
    assert [len(batch) for batch in whole.seen] == [3, 3, 3, 1] * 3
    first, second = Recorder(die_at=killed_at), Recorder()
    with pytest.raises(KeyError):
        trainer(tmp_path / "parts", max_epochs=3).fit(first, datamodule=data())
    again = trainer(tmp_path / "parts", max_epochs=3)
    again.fit(second, datamodule=data(), ckpt_path=tmp_path / "parts" / f"step={killed_at}.ckpt")
    assert first.seen + second.seen == whole.seen
    assert again.global_step == 12


def test_max_steps_beyond_an_epoch(tmp_path: Path, template: ChatRenderer) -> None:
    module = Recorder()
    data = ExampleModule(dataset(10), template, batch_size=4, max_length=64)
    trainer(tmp_path, max_steps=5, max_epochs=-1).fit(module, datamodule=StepModule(data))
    assert [len(batch) for batch in module.seen] == [4, 4, 2, 4, 4]


def test_parts_counts_and_warnings(template: ChatRenderer) -> None:
    data = ExampleModule(dataset(12, 3), template, batch_size=5, max_length=64)
    assert data.steps_per_epoch == 3
    assert len(data.train_trees) == 12 and len(data.validation_trees) == 3
    assert [e.where for e in data.test_examples] == ["t:0", "t:1", "t:2"]
    assert len(data.test_trees) == 3 and data.warnings() == []
    assert {part: row["kept"] for part, row in data.counts().items()} == {
        "train": 12,
        "validation": 3,
        "test": 3,
    }


def test_nothing_fits(template: ChatRenderer) -> None:
    with pytest.raises(
        DataError, match=r"none of the 12 train examples fits into 5 tokens"
    ) as told:
        ExampleModule(dataset(12), template, batch_size=5, max_length=5).setup()
    assert "data.max_length" in told.value.hint


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"batch_size": 0}, "data.batch_size"),
        ({"max_length": 1}, "data.max_length"),
        ({"overlong": "cut"}, "data.overlong"),
    ],
)
def test_settings_that_cannot_be(template: ChatRenderer, settings: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        words: Any = {"batch_size": 1, "max_length": 9, **settings}
        ExampleModule(dataset(3), template, **words)
