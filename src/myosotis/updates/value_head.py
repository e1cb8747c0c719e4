"""A value head beside any update: one trained number an answer, for reward models.

The head reads the hidden state after an answer's last token (Stiennon et al. 2020, section 3.4).
The update below it moves the model as it always does, and the language model's own head stays, so
that what is forgotten can be measured on the same benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.trees.lm_head import VALUE_HEAD, ValueHead
from myosotis.updates.base import Update
from myosotis.updates.change import Change
from myosotis.updates.tensors import copy_exactly
from myosotis.utils.errors import ConfigError

FILE = "value_head.safetensors"
OUTSIDE = "a value head is no part of the language model"


class ValuedUpdate(Update):
    """`inner` and a value head, trained together. The head is zero at the start: every reward is 0.
    Its learning rate is `lr_ratio` times that of the update.

    Raises `ConfigError` for an update whose hidden states lie behind virtual tokens, or that learns
    labels.
    """

    def __init__(self, inner: Update, lr_ratio: float) -> None:
        if inner.reads_labels or not inner.capabilities.packs:
            reason = inner.capabilities.reasons.get("packs", "it learns labels")
            raise ConfigError(f"update={inner.name} cannot carry a value head: {reason}")
        self.name = inner.name
        self.inner = inner
        able = inner.capabilities
        self.capabilities = replace(
            able,
            mergeable=False,
            scalable=False,
            reasons={**able.reasons, "mergeable": OUTSIDE, "scalable": OUTSIDE},
        )
        self.lr_ratio = lr_ratio
        self.files = (*inner.files, FILE)
        super().__init__({**inner.settings, "value_head": lr_ratio})

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        self.inner.attach(model, self._tokenizer)
        self.head = ValueHead.beside(model, 1, bias=False)
        self.inner.model.add_module(VALUE_HEAD, self.head)
        return [*(p for _, p in self.inner.parameters()), *self.head.parameters()]

    def _called(self, model: PreTrainedModel) -> PreTrainedModel:
        return self.inner.model

    def _changes(self) -> list[Change]:
        return self.inner._changes()  # the head is no part of the language model

    def _frozen(self) -> Iterable[tuple[str, Tensor]]:
        head = {id(self.head.weight)}
        return ((n, t) for n, t in self.inner._frozen() if id(t) not in head)

    def remarks(self) -> list[str]:
        return self.inner.remarks()

    def lr_multiplier(self, name: str) -> float:
        return self.lr_ratio if name.startswith(VALUE_HEAD) else self.inner.lr_multiplier(name)

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        with self.head.at(alpha), self.inner._weights_at(alpha):
            yield

    def _save(self, folder: Path, base_id: str | None) -> None:
        self.inner._save(folder, base_id)
        head = {"weight": self.head.weight.detach().contiguous().cpu()}
        save_file(head, folder / FILE, metadata={"format": "pt"})

    def _load(self, folder: Path) -> None:
        self.inner._load(folder)
        copy_exactly(load_file(folder / FILE), {"weight": self.head.weight}, str(folder / FILE))
