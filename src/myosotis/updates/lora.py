"""LoRA and its family: rsLoRA, DoRA, LoRA+, and LoRA on a base quantised to four bits (QLoRA)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from myosotis.updates.base import Capabilities
from myosotis.updates.lora_kernel import LowRankLinear
from myosotis.updates.peft import PeftUpdate
from myosotis.updates.quantised import four_bit
from myosotis.updates.settings import LORA_OF_OURS, LORA_OF_PEFT, check_names
from myosotis.updates.target_modules import (
    are_none,
    resolve,
    said_of_taken,
    taken_for_experts,
    targets_that_exist,
)
from myosotis.updates.tensors import plain_weight
from myosotis.utils.errors import ConfigError, RunError

DEFAULTS = LORA_OF_PEFT | LORA_OF_OURS
STARTS = (True, "gaussian", "orthogonal")
FUSED = "the experts of a mixture are one tensor, whose change is no matrix"
NOT_PLAIN = "DoRA trains the norms of the weights, which are not at hand in a few bits"
NOT_LINEAR = "DoRA also moves the norms of the weights, so θ0 + αΔθ has no adapter of its shape"


class LoraUpdate(PeftUpdate):
    """LoRA (Hu et al. 2021): W + (α/r)·B·A, or (α/√r)·B·A with `use_rslora`, on each target.

    Trains r(d_in + d_out) numbers a target, in fp32 on a base of half precision. A is random and B
    zero at the start, so the first forward pass is the base's.

    Settings: `r`, `lora_alpha`, `lora_dropout`, `use_rslora`, `use_dora` (Liu et al. 2024, which
    trains the norm of each output, too), `lr_ratio` (LoRA+, Hayou et al. 2024: B learns so many
    times faster than A), `quantization=nf4` (QLoRA, Dettmers et al. 2023), and `target_modules`,
    which is `all-linear`, `attention`, `mlp`, a list of name endings, or a regex over whole module
    names; `target_parameters` adds the experts of a mixture that are fused into one tensor.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        words = {k: v for k, v in settings.items() if k != "name"}
        check_names("lora", words, DEFAULTS)
        _check({**DEFAULTS, **words})
        name = settings.get("name", "lora")
        self._left_out: list[str] = []
        super().__init__({"name": name, "peft_type": "LORA", **DEFAULTS, **words})
        del self.settings["peft_type"]
        if self.settings["use_dora"]:
            self.capabilities = Capabilities(
                scalable=False,
                quantized=False,
                reasons={"scalable": NOT_LINEAR, "explicit": NOT_LINEAR, "quantized": NOT_PLAIN},
            )
        elif self.settings["target_parameters"]:
            self.capabilities = Capabilities(reasons={"explicit": FUSED})

    def remarks(self) -> list[str]:
        return super().remarks() + ([said_of_taken(self._left_out)] if self._left_out else [])

    def _given(self) -> dict[str, Any]:
        return {k: v for k, v in super()._given().items() if k not in LORA_OF_OURS}

    def _prepare(self, config: PeftConfig, model: PreTrainedModel) -> None:
        if not four_bit(model.config):
            config._register_custom_module({nn.Linear: LowRankLinear})  # type: ignore[attr-defined]

    def _chosen(self, model: PreTrainedModel) -> dict[str, Any]:
        """The keywords; of a group, the layers that PEFT's LoRA can be put on."""
        given, taken = super()._chosen(model), set(taken_for_experts(model))
        group = given["target_modules"]
        if not taken or not isinstance(group, str) or are_none(model, group):
            return given
        kept = [name for name in resolve(model, group) if name not in taken]
        self._left_out = sorted(taken & set(resolve(model, group)))
        if not kept and not given["target_parameters"]:
            raise ConfigError(
                f"update.target_modules={group}: PEFT takes the names of these layers for those of "
                "fused experts, and LoRA cannot be put on them",
                targets_that_exist(model),
            )
        return given | {"target_modules": kept or None}

    def lr_multiplier(self, name: str) -> float:
        return float(self.settings["lr_ratio"]) if "lora_B" in name else 1.0

    def _merged(self, alpha: float) -> PreTrainedModel:
        if not four_bit(self.model.config):
            return super()._merged(alpha)
        return dequantised(self.model, alpha)


def dequantised(model: PreTrainedModel, alpha: float) -> PreTrainedModel:
    """A plain copy of a four-bit model, with the adapters added in.

    Merging into four bits would round the update away: the copy has the base's compute dtype.
    """
    from bitsandbytes.nn import Linear4bit

    merged = copy.deepcopy(model)
    dtype = cast("nn.Embedding", merged.get_input_embeddings()).weight.dtype
    for name, module in list(merged.named_modules()):
        base: Any = module.get_base_layer() if isinstance(module, LoraLayer) else module
        if not isinstance(base, Linear4bit) or name.endswith("base_layer"):
            continue
        packed: Any = base.weight
        weight = plain_weight(packed)
        if isinstance(module, LoraLayer):
            weight += alpha * module.get_delta_weight("default").float()  # type: ignore[operator]
        if not torch.isfinite(weight).all():
            raise RunError(f"the merged weights of {name} are not finite")
        parent, _, leaf = name.rpartition(".")
        setattr(merged.get_submodule(parent), leaf, _plain(base, weight.to(dtype)))
    delattr(merged.config, "quantization_config")
    _forget_packed_files(merged)
    for attribute in ("is_quantized", "is_loaded_in_4bit", "hf_quantizer", "quantization_method"):
        if hasattr(merged, attribute):
            delattr(merged, attribute)
    return merged


def _plain(packed: Any, weight: Tensor) -> nn.Module:
    """The layer that a four-bit one was made of, with this weight (out, in)."""
    if issubclass(getattr(packed, "source_cls", nn.Linear), Conv1D):  # GPT-2's: (in, out)
        plain: Any = Conv1D(packed.out_features, packed.in_features)
        plain.weight.data = weight.T.contiguous()
    else:
        plain = nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None)
        plain.weight.data = weight
    if packed.bias is not None:
        plain.bias.data = packed.bias.data.to(weight.dtype)
    return plain


def _forget_packed_files(model: Any) -> None:
    """transformers writes a model as it read it, which of packed weights it cannot."""
    read = getattr(model, "_weight_conversions", None) or []
    of_bnb = lambda step: type(step).__module__.endswith(".bitsandbytes")  # noqa: E731
    model._weight_conversions = [
        one for one in read if not any(map(of_bnb, getattr(one, "operations", ())))
    ] or None


def _check(got: Mapping[str, Any]) -> None:
    r, alpha, dropout = got["r"], got["lora_alpha"], got["lora_dropout"]
    if isinstance(r, bool) or not isinstance(r, int) or r < 1:
        raise ConfigError(f"update.r={r}", "the rank is a whole number, 1 or more")
    if not isinstance(alpha, int | float) or not alpha > 0:
        raise ConfigError(f"update.lora_alpha={alpha}", "it is a number above 0")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(f"update.lora_dropout={dropout}", "it is a share: 0 or more, below 1")
    if not isinstance(got["lr_ratio"], int | float) or not got["lr_ratio"] > 0:
        raise ConfigError(f"update.lr_ratio={got['lr_ratio']}", "it is a number above 0")
    if got["quantization"] not in (None, "nf4"):
        raise ConfigError(f"update.quantization={got['quantization']}", "it is null or nf4")
    if got["target_parameters"] and (got["use_dora"] or dropout):
        raise ConfigError(
            "update.target_parameters goes with neither use_dora nor lora_dropout",
            "PEFT adds to the tensor of the experts itself: update.use_dora=false "
            "update.lora_dropout=0",
        )
    if got["quantization"] and got["use_dora"]:
        raise ConfigError(f"update.quantization={got['quantization']}: {NOT_PLAIN}")
    if got["init_lora_weights"] not in STARTS:
        raise ConfigError(
            f"update.init_lora_weights={got['init_lora_weights']} rewrites the base weights, so "
            "that switching the update off would not give the base any more",
            "true, gaussian and orthogonal leave the base as it is",
        )
