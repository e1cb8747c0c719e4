"""How often a whole training step, Lightning's part included, touches the device: one copy a batch
of rows, and one value that is waited for.

The device is torch's `meta`: backward passes and optimisers run there, and whatever would wait for
a value has to be answered by whoever counts it.
"""

from __future__ import annotations

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
from tests.training.test_module import Steps, examples, module
from tests.training.test_precision import pairs

DEVICE = torch.device("meta")


class Traffic(TorchDispatchMode):
    """Counts tensors that go to the device, and values that are read from it, which are ones."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        there = any(isinstance(a, Tensor) and a.device == DEVICE for a in args)
        if name == "_local_scalar_dense" and there:
            self.reads += 1
            return 1.0 if args[0].is_floating_point() else 1
        if name == "_to_copy":
            to = torch.device((kwargs or {}).get("device") or args[0].device)
            if there and to != DEVICE:
                self.reads += 1
                return torch.ones(args[0].shape, dtype=(kwargs or {}).get("dtype", args[0].dtype))
            self.copies += not there and to == DEVICE
        if name == "copy_" and args[0].device != args[1].device:
            self.copies += args[0].device == DEVICE
            self.reads += args[1].device == DEVICE
        return func(*args, **(kwargs or {}))


class Placed(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        assert device == DEVICE


class Counted(lightning.Callback):
    """Traffic from the beginning of a step to that of the next, by step; how many batches it had."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic, self.last = traffic, (0, 0, 0)
        self.steps: list[tuple[int, ...]] = []

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, batch_idx: int) -> None:
        now = (self.traffic.copies, self.traffic.reads, model.scorer.forwards)
        self.steps.append(tuple(b - a for a, b in zip(self.last, now, strict=True)))
        self.last = now


@pytest.mark.parametrize(("method", "references"), [("lora", 0), ("full", 0), ("lora", 1)])
def test_a_step_copies_once_a_batch_and_waits_once(
    method: str, references: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preference step with live references copies those, too, and waits once more for them."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # meta has none to ask
    model = module(method, rows_at_once=1, row_tokens=12)
    trees = pairs(24) if references else examples(24)
    model.objective = DPO() if references else model.objective
    model.update.model.to(DEVICE).tie_weights()
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
    assert len(counted.steps) == 4
    for copies, reads, batches in counted.steps[1:]:
        print(copies, reads, batches)
