"""Updates made by PEFT: low-rank matrices (LoRA) injected beside the linear layers.

PEFT injects, computes and defines the file format. What is decided here: which layers are
targets, that the base can be had back bit for bit, and that nothing is ever merged in place.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from myosotis.errors import AssetError, ConfigError, RunError
from myosotis.updates.base import Capabilities, Update, copy_exactly
from myosotis.updates.low_rank import LowRankLinear
from myosotis.updates.targets import resolve, shortest_suffixes

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
DEFAULTS: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "use_rslora": False,
}


class LoraUpdate(Update):
    """LoRA (Hu et al. 2021): W + (α/r)·B·A, or (α/√r)·B·A with `use_rslora`, on each target.

    Trains r(d_in + d_out) numbers a target, in fp32 on a base of half precision. A is random and B
    zero at the start, so the first forward pass is the base's.

    Settings: `r`, `lora_alpha`, `lora_dropout`, `use_rslora` and `target_modules`, which is
    `all-linear`, `attention`, `mlp`, a list of name endings, or a regex over whole module names.
    The output head is never a target.
    """

    name: ClassVar[str] = "lora"
    capabilities: ClassVar[Capabilities] = Capabilities(
        mergeable=True,
        scalable=True,
        packs=True,
        gradient_checkpointing=True,
        identity_at_init=True,
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        _check(settings)
        super().__init__({**DEFAULTS, **settings})
        self._peft_model: PeftModel | None = None

    @property
    def peft_model(self) -> PeftModel:
        """PEFT's wrapper of `model`; both share every tensor."""
        if self._peft_model is None:
            raise RuntimeError("update lora is not attached to a model yet")
        return self._peft_model

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        base = {id(p) for p in model.parameters()}
        spec = self.settings["target_modules"]
        targets = resolve(model, spec)
        modules = [model.get_submodule(name) for name in targets]
        config = LoraConfig(
            task_type="CAUSAL_LM",
            target_modules=shortest_suffixes(targets, [n for n, _ in model.named_modules()]),
            fan_in_fan_out=all(isinstance(m, Conv1D) for m in modules),
            **{k: v for k, v in self.settings.items() if k not in ("name", "target_modules")},
        )
        config._register_custom_module({torch.nn.Linear: LowRankLinear})
        self._peft_model = get_peft_model(model, config)
        injected = {n for n, m in model.named_modules() if isinstance(m, LoraLayer)}
        if injected != set(targets):
            wrong = ", ".join(sorted(injected ^ set(targets)))
            raise ConfigError(f"update.target_modules={spec}: PEFT and we disagree on {wrong}")
        return [p for p in model.parameters() if id(p) not in base]

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        if alpha == 1:
            yield
            return
        if alpha == 0:
            with self._off():
                yield
            return
        before = [dict(layer.scaling) for layer in self._layers()]
        try:
            for layer, scaling in zip(self._layers(), before, strict=True):
                layer.scaling.update({k: alpha * v for k, v in scaling.items()})
            yield
        finally:
            for layer, scaling in zip(self._layers(), before, strict=True):
                layer.scaling.update(scaling)

    @contextmanager
    def _off(self) -> Iterator[None]:
        # PEFT freezes the adapter when it disables it, and frees all of it when it enables it.
        wanted = [(p, p.requires_grad) for p in self._trainable.values()]
        try:
            with self.peft_model.disable_adapter():
                yield
        finally:
            for parameter, requires_grad in wanted:
                parameter.requires_grad_(requires_grad)

    def _layers(self) -> list[LoraLayer]:
        return [m for m in self.model.modules() if isinstance(m, LoraLayer)]

    def _merged(self, alpha: float) -> PreTrainedModel:
        wrapper = copy.deepcopy(self.peft_model)
        for layer in wrapper.modules():
            if isinstance(layer, LoraLayer):
                layer.scaling.update({k: alpha * v for k, v in layer.scaling.items()})
        try:
            return wrapper.merge_and_unload(safe_merge=True)  # type: ignore[operator]
        except ValueError as error:
            raise RunError(f"the merged weights are not finite: {error}") from None

    def _tensors(self) -> dict[str, Tensor]:
        """The adapter's tensors by the names of PEFT's file format; they share memory."""
        return get_peft_model_state_dict(self.peft_model, save_embedding_layers=False)

    def _save(self, folder: Path, base_id: str | None) -> None:
        # Not PeftModel.save_pretrained: it asks the hub about the base and writes its path.
        tensors = {n: t.detach().contiguous().cpu() for n, t in self._tensors().items()}
        save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
        config = copy.copy(self.peft_model.peft_config["default"])
        config.base_model_name_or_path = base_id
        config.inference_mode = True
        config.target_modules = sorted(config.target_modules)  # type: ignore[attr-defined]
        config.save_pretrained(str(folder))

    def _load(self, folder: Path) -> None:
        saved, ours = settings_of(folder), self.peft_model.peft_config["default"]
        for key in ("r", "lora_alpha", "use_rslora"):  # shapes do not show the scale
            if saved[key] != getattr(ours, key):
                raise RunError(
                    f"{folder / CONFIG} has {key}={saved[key]}, this update {getattr(ours, key)}",
                    "build it with myosotis.updates.from_folder",
                )
        copy_exactly(load_file(folder / ADAPTER), self._tensors(), str(folder / ADAPTER))


# Of an adapter's config, what changes no number once its weights are loaded.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode", "peft_type",
    "peft_version", "revision", "runtime_config", "task_type",
}  # fmt: skip
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal")  # the others rewrite the base


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of `LoraUpdate` that an adapter folder was written with.

    Raises `AssetError` for an adapter of another kind, or one that uses options of LoRA which
    `LoraUpdate` does not have.
    """
    saved: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    if saved.get("peft_type") != "LORA":
        raise AssetError(f"{folder} holds a {saved.get('peft_type')} adapter, not LoRA")
    usual = LoraConfig().to_dict()
    odd = [
        f"{key}={value}"
        for key, value in saved.items()
        if key not in DEFAULTS.keys() | _HARMLESS | {"init_lora_weights"}
        and value not in (usual.get(key), None, {}, [])
    ]
    if saved.get("init_lora_weights", True) not in _PLAIN_STARTS:
        odd.append(f"init_lora_weights={saved['init_lora_weights']}")
    if odd:
        raise AssetError(f"{folder / CONFIG} uses {', '.join(odd)}", "load it with plain PEFT")
    return {"name": "lora", **{k: saved[k] for k in DEFAULTS if k in saved}}


def _check(settings: Mapping[str, Any]) -> None:
    for key in settings.keys() - DEFAULTS.keys():
        near = get_close_matches(key, DEFAULTS, n=1)
        raise ConfigError(
            f"update.{key}: update lora has no such setting",
            f"did you mean {near[0]}?" if near else f"it has {', '.join(DEFAULTS)}",
        )
    got = {**DEFAULTS, **settings}
    r, alpha, dropout = got["r"], got["lora_alpha"], got["lora_dropout"]
    if isinstance(r, bool) or not isinstance(r, int) or r < 1:
        raise ConfigError(f"update.r={r}", "the rank is a whole number, 1 or more")
    if not isinstance(alpha, int | float) or not alpha > 0:
        raise ConfigError(f"update.lora_alpha={alpha}", "it is a number above 0")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(f"update.lora_dropout={dropout}", "it is a share: 0 or more, below 1")
