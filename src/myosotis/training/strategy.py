"""How the ranks of a run train together: `ddp`, where each holds the whole model, and `fsdp2`,
where each keeps a share of it.

Neither puts a wrapper around the model: the step sums gradients itself (training/module.py), or
what gathers a layer's weights sums theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from myosotis.updates.tensors import whole
from myosotis.utils import distributed, rank_failure
from myosotis.utils.device import num_devices


class Ranks(DDPStrategy):
    """Data-parallel ranks, each with the whole model."""

    def configure_ddp(self) -> None:
        """Nothing is wrapped; all begin with the first rank's weights."""
        update: Any = self.lightning_module.update  # type: ignore[union-attr]
        distributed.send([tensor.detach() for _, tensor in update.parameters()])


class SpreadRanks(Ranks):
    """The same, weights and the optimiser's state spread over them (updates/sharded.py). What is
    saved is whole, so that it can be read by any number of ranks."""

    def configure_ddp(self) -> None:
        super().configure_ddp()
        module: Any = self.lightning_module
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        module.update.spread(mesh, module.scorer.products)
        module.scorer.lockstep = True
        rank_failure.listen()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Whole on the first rank, which writes it; empty on the others."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        first = distributed.rank() == 0
        gathered: dict[int, dict[str, Any]] = {}
        for number, entries in state["state"].items():
            full = {name: _whole(value) for name, value in entries.items()}
            gathered[number] = full if first else {}
        return {**state, "state": gathered}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        from myosotis.updates.sharded import spread_like

        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
            shares = {
                number: {
                    name: spread_like(value, tensors[number])
                    if isinstance(value, torch.Tensor) and value.shape == tensors[number].shape
                    else value
                    for name, value in entries.items()
                }
                for number, entries in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": shares})


def _whole(value: Any) -> Any:
    return whole(value).cpu() if isinstance(value, torch.Tensor) else value


def strategy_of(name: str, accelerator: str, devices: int | str) -> Any:
    """What Lightning is told of `trainer.strategy`: nothing of ours where there is one device."""
    if name == "auto" and num_devices(accelerator, devices) == 1:
        return "auto"
    return (SpreadRanks if name == "fsdp2" else Ranks)(timeout=distributed.PATIENCE)
