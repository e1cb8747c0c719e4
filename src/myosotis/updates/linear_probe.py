"""Linear probing: the model stays as it is, and a classifier on its last hidden state is trained.

Nothing can be forgotten, since nothing of the language model moves: what a probe cannot learn is
not linearly there (Alain & Bengio 2017). The label of a text is predicted where an answer would
begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.trees.lm_head import LABEL_HEAD, AddedHead
from myosotis.updates.base import Capabilities, Update
from myosotis.updates.settings import check_names

OUTSIDE = "a classifier is no part of the language model"


class ProbeUpdate(Update):
    """A trained linear head over `labels` (null: those of the data); the backbone is frozen."""

    name = "probe"
    reads_labels = True
    capabilities = Capabilities(
        mergeable=False,
        scalable=False,
        gradient_checkpointing=False,
        layered=False,
        reasons={
            "mergeable": OUTSIDE,
            "scalable": OUTSIDE,
            "explicit": OUTSIDE,
            "layered": OUTSIDE,
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
        self.head = AddedHead.beside(model, len(self.settings["labels"]), bias=True)
        model.add_module(LABEL_HEAD, self.head)
        return list(self.head.parameters())

    def _weights_at(self, alpha: float) -> AbstractContextManager[None]:
        return self.head.at(alpha)
