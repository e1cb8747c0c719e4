"""What a person may set of an update; an unknown name is answered with the nearest one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError

LORA_OF_PEFT: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "target_parameters": None,
    "use_rslora": False,
    "use_dora": False,
    "init_lora_weights": True,
}
"""LoRA's settings that an adapter file of PEFT holds, and their defaults."""

LORA_OF_OURS: dict[str, Any] = {"lr_ratio": 1.0, "quantization": None}
"""Those that PEFT does not know."""

_WHOLE = "Rows of the embedding, those of added tokens among them, are trained by update=full."
EMBEDDINGS: dict[str, str] = dict.fromkeys(("modules_to_save", "trainable_token_indices"), _WHOLE)
"""What PEFT has for whole modules and single tokens beside an adapter."""


def check_names(update: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigError` for the first setting that `update` does not have."""
    known = list(known)
    for key in sorted(set(given) - set(known)):
        hint = did_you_mean(key, known, f"It has {', '.join(known)}.")
        raise ConfigError(
            f"update.{key}: update {update} has no such setting", EMBEDDINGS.get(key, hint)
        )
