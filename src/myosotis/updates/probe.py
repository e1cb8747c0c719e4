"""Linear probing: the model stays as it is, and a classifier on its last hidden state is trained.

Nothing can be forgotten, since nothing of the language model moves: what a probe cannot learn is
not linearly there (Alain & Bengio 2017). The label of a text is predicted where an answer would
begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.updates.base import Capabilities, Update
from myosotis.updates.settings import check_names

OUTSIDE = "a classifier is no part of the language model"


class LabelHead(nn.Linear):
    """Logits of K labels from hidden states of width d: dK + K numbers, all zero at the start."""

    off = False

    def forward(self, input: Tensor) -> Tensor:
        logits = super().forward(input.to(self.weight.dtype))
        return logits * 0.0 if self.off else logits


class ProbeUpdate(Update):
    """A trained linear head over `labels` (null: those of the data); the backbone is frozen."""

    name = "probe"
    reads_labels = True
    capabilities = Capabilities(
        mergeable=False,
        scalable=False,
        gradient_checkpointing=False,
        reasons={
            "mergeable": OUTSIDE,
            "scalable": OUTSIDE,
            "gradient_checkpointing": "nothing is kept for a backward pass through the model",
        },
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        words = {k: v for k, v in settings.items() if k != "name"}
        check_names(self.name, words, ["labels"])
        super().__init__({"labels": None, **words})

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        if not self.settings["labels"]:
            raise RuntimeError("update probe needs the labels of its data")
        model.requires_grad_(False)
        like = next(p for p in model.parameters() if p.is_floating_point())
        self.head = LabelHead(
            int(model.config.get_text_config().hidden_size),
            len(self.settings["labels"]),
            device=like.device,
            dtype=torch.promote_types(like.dtype, torch.float32),
        )
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        model.add_module("label_head", self.head)
        return list(self.head.parameters())

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        self.head.off = alpha == 0
        try:
            yield
        finally:
            self.head.off = False
