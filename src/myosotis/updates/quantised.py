"""How the weights of a model are quantised, as its configuration says, and what can be put on them.

Reading such weights is `models/quantised.py`'s.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from myosotis.utils.errors import ConfigError


def settings_of(config: PretrainedConfig) -> dict[str, Any]:
    """What the configuration says of quantised weights; empty for plain ones."""
    found = getattr(config, "quantization_config", None) or {}
    return dict(found) if isinstance(found, dict) else found.to_dict()


def method(config: PretrainedConfig) -> str:
    """How the weights were quantised: `bitsandbytes 4-bit nf4`, `gptq`, …; empty for plain ones."""
    settings = settings_of(config)
    if settings.get("load_in_4bit"):
        return f"bitsandbytes 4-bit {settings.get('bnb_4bit_quant_type', 'fp4')}"
    if settings.get("load_in_8bit"):
        return "bitsandbytes 8-bit"
    return str(settings.get("quant_method", "unknown")) if settings else ""


def four_bit(config: PretrainedConfig) -> bool:
    """Whether the linear layers are kept in bitsandbytes' four bits."""
    return bool(settings_of(config).get("load_in_4bit"))


def require_trainable(config: PretrainedConfig, update: str) -> None:
    """Raise `ConfigError` where nothing can be trained beside the quantised weights."""
    if (name := method(config)) and not four_bit(config):
        raise ConfigError(
            f"update={update} cannot be trained on weights that are quantised by {name}.",
            "On bitsandbytes 4-bit weights it can; or use the model with plain weights.",
        )
