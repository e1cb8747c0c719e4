"""Updates that PEFT provides: attached, switched, scaled, merged and saved the same way for all.

Any PEFT method whose config has `target_modules` works by a config of a few lines (conf/update/):
`name`, `peft_type`, and keywords of PEFT's own config class. What PEFT does not say about a method
is in `KINDS`. LoRA has a room of its own (lora.py), and so have virtual tokens (prompt_tuning.py).
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from myosotis.updates.base import Capabilities, Update
from myosotis.updates.settings import LORA_OF_PEFT, check_names
from myosotis.updates.target_modules import resolve, shortest_suffixes
from myosotis.updates.tensors import copy_exactly, fingerprint, read_tensors
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import AssetError, ConfigError, RunError
from myosotis.utils.read_file import read_json_object

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"

# Fields of PEFT's configs that are not a person's to set here: bookkeeping, and what is derived.
NOT_SETTINGS = {
    "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode",
    "modules_to_save", "peft_type", "peft_version", "revision", "runtime_config",
    "task_type", "token_dim",
    "num_attention_heads", "num_layers", "num_transformer_submodules",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is true of a PEFT method; `scale(name, tensor, α)` is its trained tensor at α."""

    capabilities: Capabilities
    scale: Callable[[str, Tensor, float], Tensor] | None = None


def _rescaling(name: str, tensor: Tensor, alpha: float) -> Tensor:
    """IA3 multiplies by l, so that Δθ = θ0·(l − 1): at α it multiplies by 1 + α(l − 1)."""
    return torch.lerp(torch.ones_like(tensor), tensor, alpha)


def _one_factor(name: str, tensor: Tensor, alpha: float) -> Tensor:
    """VeRA's Δθ = Λb·B·Λd·A is linear in Λb (Kopiczko et al. 2024, equation 2)."""
    return tensor * alpha if "vera_lambda_b" in name else tensor


def _low_rank(name: str, tensor: Tensor, alpha: float) -> Tensor:
    """LoRA's Δθ = s·B·A is linear in B."""
    return tensor * alpha if "lora_B" in name else tensor


KINDS = {
    "LORA": Kind(Capabilities(), _low_rank),
    "IA3": Kind(Capabilities(), _rescaling),
    "VERA": Kind(Capabilities(), _one_factor),
    "OFT": Kind(
        Capabilities(
            scalable=False, reasons={"scalable": "a rotation has no strength between 0 and 1"}
        )
    ),
}
UNKNOWN = Kind(
    Capabilities(
        scalable=False,
        identity_at_init=False,
        reasons={
            "scalable": "it is not known how this PEFT method scales",
            "identity_at_init": "it is not known how this PEFT method begins",
        },
    )
)


class PeftUpdate(Update):
    """A method of PEFT, by its `peft_type` and the keywords of its config class.

    `target_modules` may be `all-linear`, `attention`, `mlp`, a list of name endings or a regex;
    left out, it is what PEFT knows for the architecture. Trains in fp32, also on a base of half
    precision.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.name = str(settings.get("name") or settings["peft_type"]).lower()
        super().__init__(settings)
        self.kind = str(settings["peft_type"]).upper()
        self.config_class = config_class(self.kind)
        check_names(self.name, self._given(), settable(self.config_class))
        self.capabilities = KINDS.get(self.kind, UNKNOWN).capabilities
        self._config({k: v for k, v in self._given().items() if k not in MODULES})
        self._peft_model: PeftModel | None = None

    @property
    def peft_model(self) -> PeftModel:
        """PEFT's wrapper of the base; both share every tensor."""
        if self._peft_model is None:
            raise RuntimeError(f"update {self.name} is not attached to a model yet")
        return self._peft_model

    def _given(self) -> dict[str, Any]:
        """The keywords for PEFT's config class."""
        return {k: v for k, v in self.settings.items() if k not in ("name", "peft_type")}

    def _config(self, words: Mapping[str, Any]) -> PeftConfig:
        try:
            return self.config_class(task_type="CAUSAL_LM", **words)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"update={self.name}: {error}") from None

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        base = {id(p) for p in model.parameters()}
        before = Counter(fingerprint(p) for p in model.parameters())
        words, targets = located(model, self._given())
        config = self._config(words)
        self._prepare(config)
        try:
            self._peft_model = get_peft_model(model, config)  # type: ignore[assignment]
        except ValueError as error:
            raise ConfigError(f"update={self.name}: {error}") from None
        injected = {n for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
        if targets and injected != set(targets):
            wrong = ", ".join(sorted(injected ^ set(targets)))
            raise ConfigError(
                f"update.target_modules={self.settings['target_modules']}: PEFT and we disagree "
                f"on {wrong}"
            )
        rewritten = before - Counter(fingerprint(p) for p in self.peft_model.parameters())
        if rewritten:
            raise ConfigError(
                f"update={self.name} rewrites {rewritten.total()} tensors of the base when it "
                "begins, so that nothing could be compared with the base any more"
            )
        added = [p for p in self.peft_model.parameters() if id(p) not in base and p.requires_grad]
        for parameter in added:
            if parameter.dtype.itemsize < 4:
                parameter.data = parameter.data.float()
        return added

    def _prepare(self, config: PeftConfig) -> None:
        """Last changes to the config before PEFT sees the model."""

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        if alpha == 1:
            yield
        elif alpha == 0:
            with self._off():
                yield
        else:
            with self._scaled_layers(self.peft_model, alpha):
                yield

    @contextmanager
    def _scaled_layers(self, model: PeftModel, alpha: float) -> Iterator[None]:
        scale = KINDS[self.kind].scale
        assert scale is not None
        trained = [(n, p, p.data) for n, p in model.named_parameters() if p.requires_grad]
        try:
            for name, parameter, data in trained:
                parameter.data = scale(name, data, alpha)
            yield
        finally:
            for _, parameter, data in trained:
                parameter.data = data

    @contextmanager
    def _off(self) -> Iterator[None]:
        with self._flags_kept(), self.peft_model.disable_adapter():
            yield

    def also(self, folder: Path, name: str) -> None:
        """Load another adapter onto the same base, inactive, under a name of its own.

        Raises `ConfigError` when it does not fit beside this one.
        """
        settings_of(folder)
        try:
            with self._flags_kept():
                self.peft_model.load_adapter(str(folder), adapter_name=name, is_trainable=False)
                self.peft_model.set_adapter("default")
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"{folder} does not fit beside update {self.name}: {error}") from None

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """The base with the adapter `name` that `also` loaded, and no other. No gradients."""
        with self._flags_kept(), torch.no_grad():
            self.peft_model.set_adapter(name)
            try:
                yield
            finally:
                self.peft_model.set_adapter("default")

    @contextmanager
    def _flags_kept(self) -> Iterator[None]:
        """PEFT frees what it makes active, and freezes the rest."""
        flags = [(p, p.requires_grad) for p in self.peft_model.parameters()]
        known = {id(p) for p, _ in flags}
        try:
            yield
        finally:
            for parameter, requires_grad in flags:
                parameter.requires_grad_(requires_grad)
            for parameter in self.peft_model.parameters():
                if id(parameter) not in known:
                    parameter.requires_grad_(False)

    def _merged(self, alpha: float) -> PreTrainedModel:
        wrapper = copy.deepcopy(self.peft_model)
        try:
            if alpha == 1:
                return wrapper.merge_and_unload(safe_merge=True)  # type: ignore[operator]
            with self._scaled_layers(wrapper, alpha):
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
        for field in MODULES:
            if isinstance(names := getattr(config, field, None), set):
                setattr(config, field, sorted(names))
        config.save_pretrained(str(folder))

    def _load(self, folder: Path) -> None:
        saved, ours = settings_of(folder), self.peft_model.peft_config["default"]
        for key, value in saved.items():  # shapes do not show a scale
            begins = any(word in key for word in ("init", "dropout"))
            if isinstance(value, int | float) and not begins and value != getattr(ours, key):
                raise RunError(
                    f"{folder / CONFIG} has {key}={value}, this update {getattr(ours, key)}",
                    "build it with myosotis.updates.from_folder",
                )
        copy_exactly(read_tensors(folder / ADAPTER), self._tensors(), str(folder / ADAPTER))


# A loss or a schedule of their own (AdaLoRA), a router or task ids, or tokens inside attention.
ELSEWHERE = {"ADALORA", "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MIXED", "POLY", "XLORA"}
MODULES = ("target_modules", "feedforward_modules", "exclude_modules")


def config_class(kind: str) -> type[PeftConfig]:
    """PEFT's config class of a method. Raises `ConfigError` for one that cannot be used."""
    known = {str(getattr(k, "value", k)): c for k, c in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind not in known:
        raise ConfigError(
            f"update.peft_type={kind}: PEFT has no such method",
            did_you_mean(kind, known, f"It has {', '.join(sorted(known))}."),
        )
    layers = "target_modules" in {f.name for f in dataclasses.fields(known[kind])}
    if kind in ELSEWHERE or not (layers or kind in ("PREFIX_TUNING", "PROMPT_TUNING")):
        raise ConfigError(
            f"update.peft_type={kind} needs more than layers or virtual tokens of its own",
            "methods with target_modules work, and PREFIX_TUNING and PROMPT_TUNING",
        )
    return known[kind]


def settable(config: type[PeftConfig]) -> list[str]:
    """The keywords of a PEFT config class that a person may give."""
    return [f.name for f in dataclasses.fields(config) if f.init and f.name not in NOT_SETTINGS]


def located(model: PreTrainedModel, words: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Keywords with the modules as PEFT wants them, and the names of the targets in this model."""
    keywords, targets = dict(words), list[str]()
    names = [n for n, _ in model.named_modules()]
    for field in MODULES:
        if keywords.get(field) is not None:
            modules = resolve(model, keywords[field])
            keywords[field] = shortest_suffixes(modules, names)
            targets = modules if field == "target_modules" else targets
    if _wants_fan_in(model, targets):
        keywords["fan_in_fan_out"] = True
    return keywords, targets


def _wants_fan_in(model: PreTrainedModel, targets: list[str]) -> bool:
    """Whether the targets store their weights as (in, out), as GPT-2's do."""
    return bool(targets) and all(isinstance(model.get_submodule(t), Conv1D) for t in targets)


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of the update that an adapter folder was written with.

    Raises `AssetError` for an adapter with options that the update would not follow.
    """
    try:
        saved = read_json_object(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise AssetError(f"{folder / CONFIG} cannot be read: {error}.") from None
    kind = str(saved.get("peft_type", "")).upper()
    try:
        config = config_class(kind)
    except ConfigError as error:
        raise AssetError(f"{folder} holds a {kind} adapter, which is not supported") from error
    known = list(LORA_OF_PEFT) if kind == "LORA" else settable(config)
    usual = config(task_type="CAUSAL_LM").to_dict()
    differs = {
        k: v
        for k, v in saved.items()
        if k not in NOT_SETTINGS and v not in (usual.get(k), None, {}, [])
    }
    if saved.get("modules_to_save"):
        differs["modules_to_save"] = saved["modules_to_save"]
    odd = [f"{k}={v}" for k, v in differs.items() if k not in known]
    if odd:
        raise AssetError(f"{folder / CONFIG} uses {', '.join(odd)}", "load it with plain PEFT")
    start = {"name": "lora"} if kind == "LORA" else {"name": kind.lower(), "peft_type": kind}
    return {**start, **{k: saved[k] for k in known if k in saved and saved[k] is not None}}
