"""The training step: defined by its examples, not by rows, micro-batches or ranks."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from myosotis.objectives.preference import DPO
from myosotis.objectives.sft import SFT
from myosotis.training.activation_checkpointing import checkpoint_activations
from myosotis.training.callbacks import AtomicCheckpointIO, SaveLast, StepSeed
from myosotis.training.module import FineTuning
from myosotis.training.optim import Schedule
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates import build
from myosotis.utils.errors import RunError, out_of_memory
from tests.ranks import on_ranks
from tests.tiny import VOCAB, tiny

DENSE = PackingMode("dense", "test")


def examples(count: int) -> list[Tree]:
    generator = torch.Generator().manual_seed(3)

    def draw(n: int) -> list[int]:
        return torch.randint(1, VOCAB, (n,), generator=generator).tolist()

    return [Tree.fork(draw(3 + k % 5), [draw(2 + k % 4)]) for k in range(count)]


def module(
    method: str = "lora", rows_at_once: int = 2, row_tokens: int = 24, **options: Any
) -> Any:
    torch.manual_seed(0)
    update = build({"name": method, **({"r": 4, "lora_alpha": 8} if method == "lora" else {})})
    update.attach(tiny("llama"))
    scorer = Scorer(update.model, DENSE, row_tokens=row_tokens, rows_at_once=rows_at_once)
    settings = {
        "optimizer": functools.partial(torch.optim.AdamW, lr=1e-2),
        "schedule": Schedule("linear", 2, 8),
        **options,
    }
    return FineTuning(update, SFT(), scorer, **settings)


class Steps:
    """Eight steps, of three examples unless others are given; like the product's loader it begins
    at the step it is told."""

    def __init__(self, start: int = 0, trees: list[Tree] | None = None) -> None:
        self.start = start
        self.trees = trees or examples(24)

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Iterator[list[Tree]]:
        n = len(self.trees) // 8
        trees = [replace(tree, example=k) for k, tree in enumerate(self.trees)]
        yield from (trees[n * k : n * k + n] for k in range(self.start, 8))


def fit(
    model: FineTuning,
    steps: int = 8,
    folder: Path | None = None,
    resume: int = 0,
    watch: lightning.Callback | None = None,
    trees: list[Tree] | None = None,
) -> Any:
    callbacks: list[Any] = [StepSeed(0), *([watch] if watch else [])]
    if folder is not None:
        callbacks.append(SaveLast(folder / "last.ckpt", [5]))
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": steps,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpointIO()],
    }
    path = str(folder / "last.ckpt") if folder is not None and resume else None
    trainer = lightning.Trainer(**settings)
    trainer.fit(model, Steps(resume, trees), ckpt_path=path, weights_only=True)
    return trainer


def weights(model: FineTuning) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for _, p in model.update.parameters()])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_rows_change_nothing(method: str) -> None:
    """Eight steps with three packings end within rounding of each other."""
    ends = []
    for rows_at_once, row_tokens in [(1, 512), (2, 24), (5, 12)]:
        # SGD: Adam turns rounding of a gradient near zero into a whole step.
        sgd = functools.partial(torch.optim.SGD, lr=1e-2)
        model = module(method, rows_at_once, row_tokens, optimizer=sgd)
        fit(model)
        ends.append(weights(model))
    for end in ends[1:]:
        assert (end - ends[0]).norm() / ends[0].norm() <= 1e-6


def test_loss_falls_and_the_base_stays_where_it_was() -> None:
    model = module("lora")
    trees = examples(24)
    before = sum(s.logp.sum() for s in model.scorer.evaluate(trees))
    prints = model.update.fingerprint_base()
    fit(model)
    after = sum(s.logp.sum() for s in model.scorer.evaluate(trees))
    assert after > before + 1
    assert model.update.fingerprint_base() == prints


def test_out_of_memory_halves_the_rows_and_changes_nothing() -> None:
    sgd = functools.partial(torch.optim.SGD, lr=1e-2)
    reference = module("lora", 4, 12, optimizer=sgd)
    fit(reference)
    model = module("lora", 4, 12, optimizer=sgd)
    score = model.scorer.score

    def crowded(batch: Any, **options: Any) -> Any:
        branches = score(batch, **options)
        if batch.ids_RL.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return branches

    model.scorer.score = crowded
    fit(model)
    assert model.scorer.rows_at_once == 2
    assert (weights(model) - weights(reference)).norm() / weights(reference).norm() <= 1e-6


def test_out_of_memory_in_live_references_changes_nothing() -> None:
    """The base is asked before the step itself, in the rows of the step, which are then halved."""
    sgd = functools.partial(torch.optim.SGD, lr=1e-2)
    forks = [Tree.fork([5 + k, 6, 7], [[8, 9], [10 + k, 11, 12]]) for k in range(48)]
    ends = []
    for room in (100, 2):
        model = module("lora", 4, 12, optimizer=sgd)
        model.objective = DPO()
        score, crowded = model.scorer.score, []

        def full(
            batch: Any, score: Any = score, room: int = room, crowded: Any = crowded, **options: Any
        ) -> Any:
            if not torch.is_grad_enabled() and batch.ids_RL.shape[0] > room:
                crowded.append(batch.ids_RL.shape[0])
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return score(batch, **options)

        model.scorer.score = full
        fit(model, trees=forks)
        ends.append(weights(model))
        assert bool(crowded) == (room == 2)
    assert model.scorer.rows_at_once == 2
    assert (ends[0] - ends[1]).norm() / ends[0].norm() <= 1e-6


def test_the_model_stays_where_it_trained() -> None:
    """Lightning's `teardown` calls `cpu()`; of a model on another device (here one without data)
    nothing moves, and what is measured after the training is measured there."""
    model = module("lora").to("meta")
    assert model.cpu() is model
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_out_of_memory_with_one_row_says_what_helps() -> None:
    model = module("lora", 1)

    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1")

    model.scorer.score = full
    with pytest.raises(RunError, match="gradient_checkpointing"):
        fit(model)
    assert not out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_weights_move(poison: float) -> None:
    model = module("lora")
    start = weights(model).clone()
    loss = model.objective.loss

    class Poisoned(SFT):
        def loss(self, branches: Any) -> Any:
            return loss(branches) * poison

    model.objective = Poisoned()
    with pytest.raises(RunError, match="step 1"):
        fit(model)
    assert torch.equal(weights(model), start)


class Told(lightning.Callback):
    """What each step said."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.steps[trainer.global_step] = outputs


@pytest.mark.parametrize(("rows_at_once", "row_tokens"), [(1, 12), (5, 512)])
def test_the_loss_of_each_source_is_the_mean_over_its_own_tokens(
    tmp_path: Path, rows_at_once: int, row_tokens: int
) -> None:
    """In as many passes as may be, and after a resume; a source that a step has nothing of has no
    loss there. Of the first three examples "a" has two, of the next three none."""
    names = ["a", "b", "a", *"bbb", *"abc" * 6]
    told = Told()
    model = module("lora", rows_at_once, row_tokens, sources=names)
    before = model.scorer.evaluate(examples(3))
    fit(model, watch=told)
    for name, places in {"a": (0, 2), "b": (1,)}.items():
        scored = sum(before[i].weight[0] for i in places)
        expected = -sum(before[i].logp[0] for i in places) / scored
        assert told.steps[1][f"train/loss/{name}"] == pytest.approx(expected, rel=1e-5)
    of_step = {n for n in told.steps[2] if n.startswith("train/loss/")}
    assert of_step == {"train/loss/b"}
    assert told.steps[2]["train/loss/b"] == pytest.approx(told.steps[2]["train/loss"], rel=1e-5)
    assert not [n for n in told.steps[3] if "share" in n]
    fit(module("lora", rows_at_once, row_tokens, sources=names), steps=5, folder=tmp_path)
    again = Told()
    other = module("lora", rows_at_once, row_tokens, sources=names)
    fit(other, folder=tmp_path, resume=5, watch=again)
    assert sorted(again.steps) == [6, 7, 8]
    assert all(again.steps[step] == told.steps[step] for step in again.steps)


def test_clipping_bounds_the_step() -> None:
    """With SGD at rate 1 and the norm clipped to 0.01 a step is at most 0.01 long."""
    sgd = functools.partial(torch.optim.SGD, lr=1.0)
    flat = Schedule("constant", 0, 1)
    model = module("lora", optimizer=sgd, schedule=flat, gradient_clip_val=0.01)
    start = weights(model).clone()
    fit(model, steps=1)
    assert (weights(model) - start).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_gradient_checkpointing_is_really_on_and_changes_nothing() -> None:
    """A part that is recomputed runs twice, once more in the backward pass."""
    ends, calls = [], []
    for level in (False, True, "mlp"):
        model = module("lora")
        checkpoint_activations(model.model, level)
        layer, ran = model.model.model.layers[0], [0, 0]
        for at, part in enumerate((layer.self_attn.q_proj, layer.mlp.up_proj)):

            def count(*_: Any, at: int = at, ran: list[int] = ran) -> None:
                ran[at] += 1

            part.register_forward_hook(count)
        fit(model, steps=2)
        ends.append(weights(model))
        calls.append(ran)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])
    n = calls[0][0]
    assert n > 0 and calls == [[n, n], [2 * n, 2 * n], [n, 2 * n]]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_checkpoints_hold_only_what_moves_and_resume_bitwise(method: str, tmp_path: Path) -> None:
    whole = module(method)
    fit(whole)
    half = module(method)
    fit(half, steps=5, folder=tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == dict(half.update.parameters()).keys()
    again = module(method)
    fit(again, folder=tmp_path, resume=5)
    assert torch.equal(weights(again), weights(whole))


def test_a_failed_write_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": torch.ones(3)}, path)
    with pytest.raises(Exception, match="pickle"):
        writer.save_checkpoint({"a": lambda: None}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


DDP = """
import os, sys, torch
from tests.training.test_module import module, fit, weights, examples
import functools, lightning
from torch.utils.data import DataLoader
from myosotis.training.strategy import Ranks
sgd = functools.partial(torch.optim.SGD, lr=1e-2)
model = module("lora", 2, 12, optimizer=sgd)
rank, world = int(os.environ["LOCAL_RANK"]), int(sys.argv[2])
score, rows = model.scorer.score, model.scorer.rows_at_once
def crowded(batch, **options):
    branches = score(batch, **options)
    if rank == 0 and model.global_step == 3 and model.scorer.rows_at_once == rows:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return branches
model.scorer.score = crowded
trees = examples(24)
steps = [trees[k:k + 3][rank::world] for k in range(0, 24, 3)]  # of two, one has half as many
trainer = lightning.Trainer(
    accelerator="cpu", devices=world, strategy=Ranks(), max_steps=8, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    use_distributed_sampler=False)
trainer.fit(model, DataLoader(steps, batch_size=None))
assert model.scorer.rows_at_once == (rows // 2 if rank == 0 else rows)
if trainer.is_global_zero:
    torch.save(weights(model), f"{sys.argv[1]}/w.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_give_the_gradient_of_one(world: int, tmp_path: Path) -> None:
    """Also where the memory of one runs out in the middle of a step: all begin it anew."""
    sgd = functools.partial(torch.optim.SGD, lr=1e-2)
    model = module("lora", 2, 12, optimizer=sgd)
    fit(model)
    on_ranks(world, DDP, tmp_path)
    found = torch.load(tmp_path / "w.pt", weights_only=True)
    assert (found - weights(model)).norm() / weights(model).norm() <= 1e-6
