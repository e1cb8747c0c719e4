"""How often a whole training step, Lightning's part included, touches the device: one copy a batch
of rows, and one value that is waited for.

The device is torch's `meta`: backward passes and optimisers run there, and whoever would wait for a
value is answered by what counts it.
"""

from __future__ import annotations

import itertools
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from myosotis.objectives.preference import DPO
from myosotis.training.callbacks import StepSeed, StopOnSignal, Throughput
from myosotis.training.user_callbacks import trainer_options
from myosotis.utils import distributed
from tests.training.test_module import Steps, examples, module
from tests.training.test_precision import pairs

DEVICE = torch.device("meta")


class Traffic(TorchDispatchMode):
    """Counts tensors that go to the device, and values that are read from it, which are ones."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, words = func.overloadpacket.__name__, kwargs or {}
        there = [a.device == DEVICE for a in args if isinstance(a, Tensor)]
        if name == "_local_scalar_dense" and there[0]:
            self.reads += 1
            return 1.0 if args[0].is_floating_point() else 1
        if name == "_to_copy":
            to = torch.device(words.get("device") or args[0].device)
            if there[0] and to != DEVICE:
                self.reads += 1
                return torch.ones(args[0].shape, dtype=words.get("dtype", args[0].dtype))
            self.copies += not there[0] and to == DEVICE
        if name == "copy_" and there[0] != there[1]:
            self.copies += there[0]
            self.reads += there[1]
        return func(*args, **words)


class Placed(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        assert device == DEVICE


class Counted(lightning.Callback):
    """Copies, reads and passes of the model up to the beginning of each step."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.counts: list[tuple[int, int, int]] = []

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, batch_idx: int) -> None:
        self.counts.append((self.traffic.copies, self.traffic.reads, model.scorer.forwards))


def traffic_of(model: Any, trees: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Copies, reads and passes of each of three steps, up to the beginning of the next."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # meta knows none
    model.model.to(DEVICE).tie_weights()
    model.update._named_anew()
    traffic = Traffic()
    counted = Counted(traffic)
    trainer = lightning.Trainer(
        strategy=SingleDeviceStrategy(DEVICE, accelerator=Placed()),
        max_steps=4,
        logger=False,
        callbacks=[StepSeed(0), Throughput(4), StopOnSignal(), counted],
        **trainer_options([]),
    )
    with traffic:
        trainer.fit(model, Steps(trees=trees))
    found = [
        tuple(b - a for a, b in zip(*two, strict=True))
        for two in itertools.pairwise(counted.counts)
    ]
    assert len(found) == 3
    return found[1:]  # at the first step Lightning makes room for what is logged


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_step_copies_once_a_batch_and_waits_once(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward, backward, the norm, clipping, the optimiser, and what Lightning makes of metrics."""
    model = module(method, rows_at_once=1, row_tokens=24)
    for copies, reads, passes in traffic_of(model, examples(96), monkeypatch):
        assert passes > 2 and copies == passes
        assert reads == 1


@pytest.mark.parametrize("method", ["lora", "full"])
def test_several_ranks_wait_no_more_often(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they tell each other of counts goes from host to host, in four messages a step: what the
    step has, its passes, how they ended, and whether to stop. From device to device go the
    gradients, in one bucket, and the sums that are then read together."""
    sent: list[torch.device] = []
    monkeypatch.setattr(distributed, "several", lambda: True)
    monkeypatch.setattr(distributed, "_host", lambda: None)
    monkeypatch.setattr(
        distributed.distributed, "all_reduce", lambda tensor, **_: sent.append(tensor.device)
    )
    model = module(method, rows_at_once=1, row_tokens=24)
    counts = [
        (reads, copies - passes)
        for copies, reads, passes in traffic_of(model, examples(96), monkeypatch)
    ]
    assert counts == [(1, 0)] * 2
    steps = 4
    assert sent.count(torch.device("cpu")) == 4 * steps
    assert sent.count(DEVICE) == 2 * steps


def test_live_references_wait_once_a_batch_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preference step scores its rows with the base first; training copies references, too."""
    model = module("lora", rows_at_once=1, row_tokens=32)
    model.objective = DPO()
    for copies, reads, passes in traffic_of(model, pairs(96), monkeypatch):
        batches = passes // 2
        assert batches > 2 and copies == 3 * batches
        assert reads == 1 + batches
