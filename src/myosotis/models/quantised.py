"""Quantised weights: those that a run asks for (`update.quantization`), and those of checkpoints
that are quantised already (`quantization_config` in their configuration).

bitsandbytes' 4 and 8 bits are computed with as they are. FP8 and MXFP4 are read as the plain
numbers that they stand for, on every machine: a result should not depend on which GPU it was. All
others need a library of their own, and transformers says which.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import (
    BitsAndBytesConfig,
    FineGrainedFP8Config,
    Mxfp4Config,
)

from myosotis.updates.quantised import method, settings_of
from myosotis.updates.target_modules import read_past
from myosotis.utils import memory
from myosotis.utils.errors import AssetError, ConfigError

AS_PLAIN = {
    "fp8": FineGrainedFP8Config,
    "mxfp8": FineGrainedFP8Config,
    "mxfp4": Mxfp4Config,
}
NOTES = {"nf4": "linear layers in 4 bits (NF4, double quantisation)"}


def note(config: PretrainedConfig, quantization: str | None = None) -> str:
    """What a reader of results must know of the weights; empty for plain ones."""
    if quantization is not None:
        return NOTES[quantization]
    if not (name := method(config)):
        return ""
    return f"weights quantised already ({name})" + (
        ", read as the plain numbers they stand for" if name in AS_PLAIN else ""
    )


def stays(config: PretrainedConfig) -> bool:
    """Whether the weights are still quantised once they are loaded."""
    return method(config) not in ("", *AS_PLAIN)


def require_readable(config: PretrainedConfig, name: str) -> None:
    """Raise `AssetError` where what reads these weights is not at hand."""
    if not method(config):
        return
    shown = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        quantizer: Any = AutoHfQuantizer.from_config(settings_of(config), pre_quantized=True)
        quantizer.validate_environment(device_map=None)
    except (ImportError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise AssetError(
            f"The weights of {name} are quantised ({method(config)}) and cannot be read here: "
            f"{' '.join(str(error).split())[:200]}",
            "Use the model with plain weights; update=qlora keeps them in four bits.",
        ) from None
    finally:
        transformers_logging.set_verbosity(shown)


def require_plain(config: PretrainedConfig, name: str, quantization: str | None) -> None:
    """Raise `ConfigError` where weights that are quantised already are to be quantised again."""
    if quantization is not None and method(config):
        raise ConfigError(
            f"update.quantization={quantization}: the weights of {name} are quantised already "
            f"({method(config)}).",
            "Leave it out (update.quantization=null), or use the model with plain weights.",
        )


def keywords(
    config: PretrainedConfig,
    quantization: str | None,
    dtype: torch.dtype,
    shapes: Callable[[], PreTrainedModel],
) -> dict[str, Any]:
    """Of `from_pretrained`; `shapes` gives the model without weights.

    Raises `ConfigError` where bitsandbytes is needed and not installed.
    """
    if kind := AS_PLAIN.get(method(config)):
        return {"quantization_config": kind(dequantize=True)}
    if quantization is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "update.quantization=nf4 needs bitsandbytes.",
            "pip install 'myosotis[qlora]' brings it.",
        )
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=_kept_plain(shapes()),
    )
    return {"quantization_config": settings}


def _kept_plain(model: PreTrainedModel) -> list[str] | None:
    """The linear layers that are not packed; None for transformers' choice, the output head.

    Of a state-space layer those whose weights are read as they are, without calling the layer.
    """
    past, head = read_past(model), model.get_output_embeddings()
    return [*past, *(n for n, m in model.named_modules() if m is head)] if past else None


def settle(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """What weights need that are quantised, or were, once they are loaded; they compute in
    `dtype`."""
    if not method(model.config):
        model._weight_conversions = None  # type: ignore[assignment]  # or it would be written as read
        return
    _let_go_of_the_file(model)
    _keep_the_order_of_weights(model)
    for module in model.modules():
        if hasattr(module, "compute_dtype"):  # a checkpoint names one of its own
            module.compute_dtype = dtype  # type: ignore[assignment]


def _keep_the_order_of_weights(model: PreTrainedModel) -> None:
    """On a CPU with AVX512-BF16 bitsandbytes sorts the bytes of a four-bit layer anew when it is
    first used without gradients, and from then on multiplies in bf16: a base that looks as if it
    had moved, and that merging would read in the wrong order."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _let_go_of_the_file(model: PreTrainedModel) -> None:
    """What was not quantised still lies in the mapped file, and keeps all of it in memory."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not hasattr(tensor, "quant_state"):
            tensor.data = tensor.data.clone()
    memory.give_back()
