"""Full fine-tuning: every weight moves, and θ0 is kept aside.

Memory: one fp32 copy of the trained weights for θ0, from `attach` on, and a second one inside
`scaled(α)` for 0 < α < 1. Going to the base and back swaps pointers and copies nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.errors import ConfigError, RunError
from myosotis.updates.base import Capabilities, Update, copy_exactly

WEIGHTS = "update.safetensors"


class FullUpdate(Update):
    """All weights train; Δθ = θ − θ0 is never formed.

    θ0 + 1·(θ − θ0) differs from θ in a fifth of the elements, so both sides are stored and α
    interpolates by `torch.lerp`, which is exact at both ends.

    A base in bf16 or fp16 is cast to fp32 when attached: at fine-tuning learning rates half
    precision swallows small updates. The forward pass then runs in half precision by autocast
    (`trainer.precision=bf16-mixed`), and the base to compare with is the cast one.
    """

    name: ClassVar[str] = "full"
    capabilities: ClassVar[Capabilities] = Capabilities(
        mergeable=True,
        scalable=True,
        packs=True,
        gradient_checkpointing=True,
        identity_at_init=True,
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        for key in settings:
            near = get_close_matches(key, ["name"], n=1)
            raise ConfigError(
                f"update.{key}: update full has no such setting",
                f"did you mean {near[0]}?" if near else "it trains all weights and takes none",
            )
        super().__init__(settings)
        self._theta0: dict[str, Tensor] = {}
        self._base_dtypes: dict[str, torch.dtype] = {}

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        self._base_dtypes = {n: p.dtype for n, p in model.named_parameters()}
        for parameter in model.parameters():  # not the buffers: rotary ones are fp32 in any model
            if parameter.dtype.itemsize < 4:
                parameter.data = parameter.data.float()
        model.requires_grad_(True)
        self._theta0 = {n: p.detach().clone() for n, p in model.named_parameters()}
        return list(model.parameters())

    def _frozen(self) -> Iterable[tuple[str, Tensor]]:
        return self._theta0.items()

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        tuned = {n: p.data for n, p in self._trainable.items()}
        try:
            # The optimizer holds the Parameters, which stay; only what they point at changes.
            for name, parameter in self._trainable.items():
                parameter.data = self._mix(name, tuned[name], alpha)
            yield
        finally:
            for name, parameter in self._trainable.items():
                parameter.data = tuned[name]

    def _mix(self, name: str, tuned: Tensor, alpha: float) -> Tensor:
        if alpha == 1:
            return tuned
        base = self._theta0[name]
        if base.dtype != tuned.dtype:
            raise RunError(
                f"{name} was cast from {base.dtype} to {tuned.dtype} after the update was attached",
                "use trainer.precision=bf16-mixed instead of bf16-true",
            )
        if base.device != tuned.device:  # the model moved after attach; θ0 follows once
            base = self._theta0[name] = base.to(tuned.device)
        return base if alpha == 0 else torch.lerp(base, tuned, alpha)

    def _merged(self, alpha: float) -> PreTrainedModel:
        with self._weights_at(alpha):
            model = copy.deepcopy(self.model)
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(self._base_dtypes[name])
        return model

    def _save(self, folder: Path, base_id: str | None) -> None:
        tensors = {n: p.detach().contiguous().cpu() for n, p in self._trainable.items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        about = {"settings": self.settings, "base_model": base_id, "parameters": self.count()}
        (folder / "update.json").write_text(json.dumps(about, indent=2) + "\n")

    def _load(self, folder: Path) -> None:
        copy_exactly(load_file(folder / WEIGHTS), self._trainable, str(folder / WEIGHTS))
