"""A model that was tuned somewhere: a base and, maybe, an update on top of it.

It is a run of ours, a PEFT adapter, or a whole model (folder, hub id, preset) that was tuned in any
tool. Which one a name means is found in `commands/find_model.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from myosotis import updates
from myosotis.models.dropouts import zero_dropouts
from myosotis.models.init_from import InitialUpdate
from myosotis.models.load import BaseModel, ModelSource, load_base_model
from myosotis.updates.base import Update
from myosotis.utils.device import CPU
from myosotis.utils.read_file import MOST_DOCUMENT, read_text

TEMPLATE = "chat_template.jinja"
"""Beside an update: the chat template it was trained with, where that is not its base's own."""


@dataclass
class ModelRef:
    """What is to be loaded: `adapter` is an update saved on top of `source`."""

    name: str
    source: ModelSource
    adapter: Path | None = None
    quantization: str | None = None
    start: InitialUpdate | None = None  # what `adapter` stands on, above the source

    def load(
        self, dtype: torch.dtype, device: torch.device = CPU
    ) -> tuple[BaseModel, Update | None]:
        """The base on `device`, and the update attached to it (None for a whole model)."""
        update = None if self.adapter is None else updates.from_folder(self.adapter)
        base = load_base_model(self.source, dtype, quantization=self.quantization, device=device)
        if self.start is not None:
            base = self.start.merged_into(base)
        zero_dropouts(base.model)
        if update is None or self.adapter is None:
            return base, None
        if (template := self.adapter / TEMPLATE).is_file():
            base.tokenizer.chat_template = read_text(template, MOST_DOCUMENT)
        update.attach(base.model)
        update.load(self.adapter)
        return base, update
