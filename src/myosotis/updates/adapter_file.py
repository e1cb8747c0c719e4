"""An adapter as PEFT wrote it, with whatever options PEFT has.

PEFT makes the layers and puts the tensors into them. What belongs here is what the numbers need
beside that: that every tensor of the file found its place, that the base is there bit for bit when
the adapter is off (biases and whole modules that were saved, starts that rewrite the base), and
what a strength between 0 and 1 is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.updates.base import MERGE_TOLERANCE, Capabilities, Update
from myosotis.updates.import_peft import no_look_inside
from myosotis.updates.lora import dequantised
from myosotis.updates.lora_kernel import LowRankLinear
from myosotis.updates.peft import ADAPTER, CONFIG, PeftUpdate, config_class, config_in, settings_of
from myosotis.updates.peft_kinds import FORMULA, KINDS, UNKNOWN
from myosotis.updates.prompt_tuning import PromptUpdate
from myosotis.updates.quantised import four_bit
from myosotis.updates.tensors import sample_logits
from myosotis.utils.errors import AssetError, ConfigError, RunError
from myosotis.utils.weights_file import require_safetensors

CONVERT = "load it with peft and call .save_pretrained(DIR) (safe_serialization is the default)"
STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Of `init_lora_weights`: the starts that leave the base as it is."""

REFUSED = {
    "alora_invocation_tokens": "it is active from certain tokens on",
    "arrow_config": "it routes between several adapters",
    "megatron_config": "it is for Megatron's layers",
}
"""Options under which an adapter is no change of the weights, or not of these."""

NO_STRENGTH = {
    "use_dora": "DoRA also moves the norms of the weights",
    "kasa_config": "KaSA also takes singular values away",
    "monteclora_config": "it draws its weights",
    "use_bdlora": "it is not known how it scales",
    "use_qalora": "it is not known how it scales",
}


class AdapterFile(PeftUpdate):
    """The adapter in a folder that PEFT wrote; `attach`, then `load` the same folder.

    Raises `AssetError` for a folder that is not whole, and for options that are refused by name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = read_config(folder)
        self.kind = str(getattr(self._file.peft_type, "value", self._file.peft_type))
        self.name = self.kind.lower()
        Update.__init__(self, {"peft_type": self.kind, **_told(self._file)})
        self.capabilities = _capabilities(self.kind, self._file)
        self._peft_model: PeftModel | None = None
        self._theta0: dict[str, Tensor] = {}
        self._plain: Tensor | None = None

    def _describe_in(self, folder: Path, base_id: str | None, facts: Mapping[str, Any]) -> None:
        """Nothing of ours: PEFT's own config says it all."""

    @property
    def moves_base(self) -> bool:
        """Whether tensors of the base itself are others under this adapter."""
        return bool(self._in_file() - self._whole_modules()) or _rewrites(self._file)

    def _in_file(self) -> set[str]:
        """Names of tensors that are no adapter's, as the file has them."""
        with safe_open(self.folder / ADAPTER, framework="np") as file:
            names = {str(name) for name in file.keys()}  # noqa: SIM118
        marks = ("lora_", "ia3_", "vera_", "oft_", "boft_", "trainable_tokens", "hada_", "lokr_")
        return {n for n in names if not any(mark in n for mark in marks)}

    def _whole_modules(self) -> set[str]:
        """Of these, the tensors of modules that were saved as a whole: PEFT keeps both versions."""
        kept = tuple(getattr(self._file, "modules_to_save", None) or ())
        return {n for n in self._in_file() if any(p.endswith(kept) for p in _parents(n))}

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        base = {id(p) for p in model.parameters()}
        weightless = next(model.parameters()).is_meta
        self._plain = None if weightless else sample_logits(model)
        before = {n: p.detach().clone() for n, p in _to_keep(model, self._file)}
        config = copy.deepcopy(self._file)
        if self.kind == "LORA" and not four_bit(model.config):
            config._register_custom_module({nn.Linear: LowRankLinear})  # type: ignore[attr-defined]
        try:
            with no_look_inside():
                self._peft_model = get_peft_model(model, config)  # type: ignore[assignment]
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
            raise self._misfit(error) from None
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) not in base and parameter.requires_grad)
        named = dict(self.peft_model.named_parameters(remove_duplicate=False))
        moved = self._moved(named, before)
        added = {n: p for n, p in named.items() if id(p) not in base and p.requires_grad}
        whole = {n: p for n, p in added.items() if _replaces(n)}
        self._theta0 = {n: p.detach().clone() for n, p in whole.items()} | moved
        for name in moved:
            named[name].requires_grad_(True)
        return [*added.values(), *(named[n] for n in moved)]

    def _moved(self, named: dict[str, Parameter], before: dict[str, Tensor]) -> dict[str, Tensor]:
        """θ0 of the base's tensors that a start rewrote, or that the file has others for."""
        first = {id(p): n for n, p in reversed(named.items())}  # the one name of a shared tensor
        moved = {
            first[id(p)]: before[old]
            for n, p in named.items()
            if (old := _plain_name(n)) in before and not torch.equal(before[old], p.detach())
        }
        for name in self._in_file() & named.keys():
            moved.setdefault(first[id(named[name])], named[name].detach().clone())
        return moved

    def _load(self, folder: Path) -> None:
        tensors = load_file(folder / ADAPTER)
        try:
            told = set_peft_model_state_dict(self.peft_model, tensors)
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise self._misfit(error) from None
        ours = {n for n, p in self.peft_model.named_parameters() if p.requires_grad}
        ours -= {n for n in self._theta0 if not _replaces(n)}  # the base's own
        faults = {
            "without a place": sorted(told.unexpected_keys),
            "missing": sorted(ours & set(told.missing_keys)),
        }
        wrong = [f"{what}: {', '.join(names[:4])}" for what, names in faults.items() if names]
        if wrong:
            raise RunError(f"{folder / ADAPTER} does not fit this model", "\n".join(wrong))
        self._check_off()

    def _check_off(self) -> None:
        """With the adapter off the logits are those before it was attached."""
        if self._plain is None:
            return
        with self.disabled():
            off = sample_logits(self.model)
        apart = (off - self._plain).abs().max() / self._plain.abs().max()
        if not apart <= MERGE_TOLERANCE[torch.float32]:
            odd = ", ".join(f"{k}={v}" for k, v in _unusual(self._file).items())
            raise AssetError(
                f"{self.folder}: with the adapter off, the model is not its base any more ({odd}).",
                "Merge it with plain PEFT (merge_and_unload, save_pretrained) and use the result "
                "as a model.",
            )

    def _misfit(self, error: Exception) -> AssetError:
        said = " ".join(str(error).split())
        return AssetError(
            f"the adapter {self.folder} does not fit this model: {said[:300]}",
            "Is it the base it was trained on? --base MODEL names another.",
        )

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        if alpha == 1:
            yield
        elif alpha == 0:
            with self._off(), self._base_tensors():
                yield
        else:
            with self._scaled_layers(self.peft_model, alpha):
                yield

    def _rewritten(self) -> dict[str, Tensor]:
        return {_plain_name(n): t for n, t in self._theta0.items() if not _replaces(n)}

    @contextmanager
    def _base_tensors(self) -> Iterator[None]:
        """θ0 in the place of the base's own tensors; whole modules are switched by PEFT."""
        with ExitStack() as put_back:
            for name, parameter in self.peft_model.named_parameters():
                if name in self._theta0 and not _replaces(name):
                    put_back.callback(setattr, parameter, "data", parameter.data)
                    parameter.data = self._theta0[name].to(parameter.device)
            yield

    def _at(self, name: str, tensor: Tensor, alpha: float) -> Tensor:
        if (base := self._theta0.get(name)) is not None:
            return torch.lerp(base.to(tensor.device), tensor, alpha)
        return super()._at(name, tensor, alpha)

    def _merged(self, alpha: float) -> PreTrainedModel:
        if four_bit(self.model.config) and self.kind == "LORA" and not self._theta0:
            return dequantised(self.model, alpha)
        with self._weights_at(alpha):
            wrapper = copy.deepcopy(self.peft_model)
        _untie(wrapper.get_base_model())  # type: ignore[arg-type]
        try:
            model: PreTrainedModel = wrapper.merge_and_unload(safe_merge=True)  # type: ignore
        except (ValueError, RuntimeError) as error:
            raise RunError(f"this adapter cannot be merged into the base: {error}") from None
        _say_untied(model)
        return model


def adapter_file(folder: Path) -> PeftUpdate:
    """The adapter that PEFT wrote to `folder`: virtual tokens, or a change of layers."""
    config = read_config(folder)
    if not config.is_prompt_learning:
        return AdapterFile(folder)
    try:
        return PromptUpdate(settings_of(folder))
    except ConfigError as error:
        raise AssetError(f"{folder}: {error.message}", error.hint) from None


def read_config(folder: Path) -> PeftConfig:
    """What PEFT makes of an adapter's `adapter_config.json`, when all of it can be followed.

    A field that this version of PEFT does not know may be there with a value that asks for nothing.
    Raises `AssetError`.
    """
    saved = config_in(folder)
    kind = str(saved.get("peft_type", "")).upper()
    try:
        made = config_class(kind)
    except ConfigError as error:
        raise AssetError(f"{folder} holds a {kind} adapter, which is not supported") from error
    known = set(made.__dataclass_fields__)
    if odd := [f"{k}={v}" for k, v in saved.items() if k not in known and not _neutral(v)]:
        raise AssetError(
            f"{folder / CONFIG} uses {', '.join(odd)}, which this version of PEFT does not know.",
            "A newer one may: pip install -U peft",
        )
    for name, why in REFUSED.items():
        if not _neutral(saved.get(name)):
            raise AssetError(f"{folder / CONFIG} uses {name}: {why}.", "Load it with plain PEFT.")
    if (task := saved.get("task_type")) not in (None, "", "CAUSAL_LM"):
        raise AssetError(f"{folder} is an adapter for {task}, not for a causal language model.")
    require_safetensors(folder / ADAPTER, CONVERT)
    words = {k: v for k, v in saved.items() if k in known} | {"task_type": "CAUSAL_LM"}
    words |= {"inference_mode": False, "base_model_name_or_path": None}
    try:
        return PeftConfig.from_peft_type(**words)
    except (ValueError, TypeError) as error:
        raise AssetError(f"{folder / CONFIG}: {error}", "Fetch or copy it again.") from None


def _neutral(value: Any) -> bool:
    return value is None or value is False or value == "" or value == [] or value == {}


def _unusual(config: PeftConfig) -> dict[str, Any]:
    """The fields that are set, other than a plain one of that method has them."""
    usual = type(config)(task_type="CAUSAL_LM").to_dict()
    hidden = ("peft_type", "task_type", "peft_version", "base_model_name_or_path")
    return {k: v for k, v in config.to_dict().items() if v != usual.get(k) and k not in hidden}


def _told(config: PeftConfig) -> dict[str, Any]:
    """The fields that are set, as JSON has them."""
    fields = config.to_dict()
    kept = {k: v for k, v in fields.items() if k in _unusual(config) or k in ("r", "lora_alpha")}
    return {k: sorted(v) if isinstance(v, set) else v for k, v in kept.items()}


def _capabilities(kind: str, config: PeftConfig) -> Capabilities:
    able = KINDS.get(kind, UNKNOWN).capabilities
    for name, why in NO_STRENGTH.items():
        if not _neutral(getattr(config, name, None)):
            able = replace(able, scalable=False, reasons={**able.reasons, "scalable": why})
    # Biases and whole modules may have moved as well.
    return replace(able, explicit=False, reasons={**able.reasons, "explicit": FORMULA})


def _rewrites(config: PeftConfig) -> bool:
    return getattr(config, "init_lora_weights", True) not in STARTS


def _to_keep(model: PreTrainedModel, config: PeftConfig) -> Iterator[tuple[str, Parameter]]:
    """The tensors of the base of which a copy is kept while the start is made."""
    return ((n, p) for n, p in model.named_parameters() if _rewrites(config))


def _parents(name: str) -> list[str]:
    """The modules in which a tensor lies, by their names."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _replaces(name: str) -> bool:
    """Whether a trained tensor stands for one of the base as a whole."""
    return ".modules_to_save." in name or "trainable_tokens_delta" in name


def _untie(model: PreTrainedModel) -> None:
    """Give the output head weights of its own where it shares the embeddings' and one of the two
    has an adapter: what is added to one would be added to both."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if not any(isinstance(end, BaseTunerLayer) for end in (head, table)):
        return
    owner: Any = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
    owner.weight = Parameter(owner.weight.detach().clone())


def _say_untied(model: PreTrainedModel) -> None:
    """What is no longer shared must not be shared again when the saved model is loaded."""
    head: Any = model.get_output_embeddings()
    table: Any = model.get_input_embeddings()
    if head is None or head.weight is table.weight:
        return
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
