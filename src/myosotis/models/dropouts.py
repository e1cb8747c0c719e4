"""Dropout that a model brings from its pretraining, and how it is switched off."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

_DROPOUTS = (
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
)


def zero_dropouts(model: PreTrainedModel) -> dict[str, float]:
    """Sets every dropout probability of `model` to 0, in its modules and its config.

    The trainer calls this on the base model before it attaches an update (whose own dropout, such
    as `lora_dropout`, is thus untouched). Some models carry dropout from their pretraining (GPT-2:
    0.1); left on, packed and padded rows would draw different masks, and the gradient of a step
    would depend on how its examples are packed. Returns what was not 0 before, by name, so that
    the run can say what it changed.
    """
    changed: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, _DROPOUTS) and module.p > 0:
            changed[name] = module.p
            module.p = 0.0
        changed |= _zero_attributes(module, f"{name}." if name else "")
    changed |= _zero_attributes(model.config, "config.")
    if (text := model.config.get_text_config()) is not model.config:
        changed |= _zero_attributes(text, "config.text_config.")
    return changed


def _zero_attributes(holder: Any, prefix: str) -> dict[str, float]:
    """The same for plain numbers: attention modules pass theirs to a function."""
    changed: dict[str, float] = {}
    for name, value in list(vars(holder).items()):
        dropout = any(part in name for part in ("dropout", "pdrop", "layerdrop", "drop_prob"))
        if dropout and isinstance(value, float) and value > 0:
            changed[prefix + name] = value
            setattr(holder, name, 0.0)
    return changed
