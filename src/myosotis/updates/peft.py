"""Updates that PEFT provides: attached, switched, scaled, merged and saved the same way for all.

Any PEFT method whose config has `target_modules` works by a config of a few lines (conf/update/):
`name`, `peft_type`, and keywords of PEFT's own config class. What PEFT does not say about one is in
`peft_kinds.py`. LoRA has a room of its own (lora.py), and so have virtual tokens
(prompt_tuning.py).
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
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
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as IA3_LAYERS
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from myosotis.updates.base import Update
from myosotis.updates.change import Change
from myosotis.updates.import_peft import no_look_inside
from myosotis.updates.merged_change import merged_changes
from myosotis.updates.peft_kinds import KINDS, UNKNOWN
from myosotis.updates.settings import check_names
from myosotis.updates.target_modules import (
    are_none,
    ia3_targets,
    left_out,
    resolve,
    resolve_parameters,
    shortest_suffixes,
    targets_that_exist,
)
from myosotis.updates.tensors import copy_exactly, fingerprint
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import AssetError, ConfigError, RunError
from myosotis.utils.read_file import read_json

ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
AGAIN = "Fetch or copy it again."

# Fields of PEFT's configs that are not a person's to set here: bookkeeping, and what is derived.
NOT_SETTINGS = {
    "auto_mapping", "base_model_name_or_path", "fan_in_fan_out", "inference_mode",
    "modules_to_save", "peft_type", "peft_version", "revision", "runtime_config",
    "task_type", "token_dim",
    "num_attention_heads", "num_layers", "num_transformer_submodules",
}  # fmt: skip


class PeftUpdate(Update):
    """A method of PEFT, by its `peft_type` and the keywords of its config class.

    `target_modules` may be `all-linear`, `attention`, `mlp`, a list of name endings or a regex;
    left out, it is what PEFT knows for the architecture. Trains in fp32, also on a base of half
    precision.
    """

    files = (ADAPTER,)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.name = str(settings.get("name") or settings["peft_type"]).lower()
        super().__init__(settings)
        self.kind = str(settings["peft_type"]).upper()
        self.config_class = config_class(self.kind)
        check_names(self.name, self._given(), settable(self.config_class))
        self.capabilities = KINDS.get(self.kind, UNKNOWN).capabilities
        self._config({k: v for k, v in self._given().items() if k not in LOCATED})
        self._peft_model: PeftModel | None = None
        self._remarks: list[str] = []

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
        words, targets = located(model, self._chosen(model))
        if "target_modules" in settable(self.config_class):
            self._remarks = left_out(model, self._given())
        config = self._config(words)
        self._prepare(config, model)
        proposal = targets_that_exist(model)
        try:
            with no_look_inside():
                self._peft_model = get_peft_model(model, config)  # type: ignore[assignment]
        except (ValueError, AttributeError) as error:
            raise self._does_not_fit(model, str(error), proposal) from None
        injected = {n for n, m in model.named_modules() if _is_target(m)}
        if targets and injected != set(targets):
            wrong = ", ".join(sorted(injected ^ set(targets)))
            raise ConfigError(
                f"update.target_modules={self.settings['target_modules']}: PEFT does not put its "
                f"layers where these names are ({wrong})",
                proposal,
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

    def _changes(self) -> list[Change]:
        change = KINDS[self.kind].change
        assert change is not None
        return [
            change(f"{name}.weight", layer)
            for name, layer in self.model.named_modules()
            if isinstance(layer, BaseTunerLayer)
        ]

    def _merged_changes(self) -> list[Change]:
        formula = KINDS[self.kind].change if self.kind in KINDS else None
        return merged_changes(self.model, self._rewritten(), formula)

    def _rewritten(self) -> dict[str, Tensor]:
        """θ0 of tensors of the base that are others now, by their names there."""
        return {}

    def _does_not_fit(self, model: PreTrainedModel, said: str, proposal: str) -> ConfigError:
        """What PEFT says, or what it means where it asks for targets."""
        if "target_modules" not in settable(self.config_class):
            return ConfigError(f"update={self.name} does not fit a {type(model).__name__}: {said}")
        if "specify `target_modules`" in said:
            said = f"PEFT knows no layers for it in a {type(model).__name__}"
        return ConfigError(f"update={self.name}: {said}", proposal)

    def _chosen(self, model: PreTrainedModel) -> dict[str, Any]:
        """The keywords, with the layers of IA3 where PEFT's choice is not of this architecture."""
        given = self._given()
        if self.kind != "IA3" or given.get("target_modules") is not None:
            return given
        known = IA3_LAYERS.get(model.config.model_type, ["?"])
        names = [n for n, _ in model.named_modules()]
        if all(any(n.endswith(f".{ending}") for n in names) for ending in known):
            return given
        return given | ia3_targets(model)

    def _prepare(self, config: PeftConfig, model: PreTrainedModel) -> None:
        """Last changes to the config before PEFT sees the model."""

    def remarks(self) -> list[str]:
        return self._remarks

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
        trained = [(n, p, p.data) for n, p in model.named_parameters() if p.requires_grad]
        try:
            for name, parameter, data in trained:
                parameter.data = self._at(name, data, alpha)
            yield
        finally:
            for _, parameter, data in trained:
                parameter.data = data

    def _at(self, name: str, tensor: Tensor, alpha: float) -> Tensor:
        """A trained tensor at strength α."""
        scale = KINDS[self.kind].scale
        assert scale is not None
        return scale(name, tensor, alpha)

    @contextmanager
    def _off(self) -> Iterator[None]:
        with self._flags_kept(), self.peft_model.disable_adapter():
            yield

    def also(self, folder: Path, name: str) -> None:
        """Load another adapter onto the same base, inactive, under a name of its own.

        Raises `ConfigError` when it does not fit beside this one.
        """
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
        copy_exactly(load_file(folder / ADAPTER), self._tensors(), str(folder / ADAPTER))


# A loss or a schedule of their own (AdaLoRA), a router or task ids, or tokens inside attention.
ELSEWHERE = {"ADALORA", "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MIXED", "POLY", "XLORA"}
MODULES = ("target_modules", "feedforward_modules", "exclude_modules")
LOCATED = (*MODULES, "target_parameters")  # what is looked up in a model


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
    if experts := keywords.pop("target_parameters", None):  # PEFT writes [] for none
        keywords["target_parameters"] = resolve_parameters(model, experts)
    for field in MODULES:
        if field != "target_modules" and not keywords.get(field):
            continue
        if experts and field == "target_modules" and are_none(model, keywords.get(field)):
            keywords[field] = []  # the experts alone
        elif keywords.get(field) is not None:
            modules = resolve(model, keywords[field])
            keywords[field] = shortest_suffixes(modules, names)
            targets = modules if field == "target_modules" else targets
    if _wants_fan_in(model, targets):
        keywords["fan_in_fan_out"] = True
    return keywords, targets


def _is_target(module: nn.Module) -> bool:
    """Whether PEFT put an adapter on this layer (on a layer, not on a tensor of one)."""
    return isinstance(module, BaseTunerLayer) and not hasattr(module, "parameter_name")


def _wants_fan_in(model: PreTrainedModel, targets: list[str]) -> bool:
    """Whether the targets store their weights as (in, out), as GPT-2's do."""
    return bool(targets) and all(isinstance(model.get_submodule(t), Conv1D) for t in targets)


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings in an adapter's `adapter_config.json`, by the names of its method.

    Raises `AssetError` for a file or a method that cannot be read.
    """
    saved = config_in(folder)
    kind = str(saved.get("peft_type", "")).upper()
    try:
        known = settable(config_class(kind))
    except ConfigError as error:
        raise AssetError(f"{folder} holds a {kind} adapter, which is not supported") from error
    start = {"name": kind.lower(), "peft_type": kind}
    return {**start, **{k: saved[k] for k in known if saved.get(k) is not None}}


def config_in(folder: Path) -> dict[str, Any]:
    """The object in an adapter's `adapter_config.json`. Raises `AssetError` where it is none."""
    try:
        saved = read_json(folder / CONFIG)
    except (ValueError, OSError) as error:
        raise AssetError(f"{folder / CONFIG} cannot be read: {error}.", AGAIN) from None
    if not isinstance(saved, dict):
        raise AssetError(f"{folder / CONFIG} holds no JSON object.", AGAIN)
    return saved
