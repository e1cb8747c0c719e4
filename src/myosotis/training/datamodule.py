"""The training data of a run, as Lightning asks for them."""

from __future__ import annotations

from typing import Any

import lightning

from myosotis.data.datamodule import ExampleModule, StepLoader


class StepModule(lightning.LightningDataModule):
    """The steps of `data`, from the trainer's position on; this rank's share of each."""

    def __init__(self, data: ExampleModule) -> None:
        super().__init__()
        self.data = data

    def train_dataloader(self) -> StepLoader:
        trainer = self.trainer
        assert trainer is not None
        return self.data.loader(
            lambda: trainer.global_step, trainer.global_rank, trainer.world_size
        )

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        # Trees are numpy; the scorer makes the tensors, where they are needed.
        return batch
