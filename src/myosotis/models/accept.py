"""Which models are accepted: asked of the configuration alone, before any weights load.

Every command reads a configuration through `load.py`, which asks here, so a plan and a training
agree. What only shows when a model runs (a causal class that reads ahead all the same) is found by
`trees/packing_check.py`; whether an update can be put on a model, by attaching it to the model
without weights.
"""

from __future__ import annotations

from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig

from myosotis.models import quantised
from myosotis.utils.errors import AssetError

NEEDED = "A causal language model is needed: one that predicts each token from those before it."


def require(config: PretrainedConfig, name: str, *, remote_code: bool = False) -> None:
    """Raise `AssetError` unless a model of this configuration is a causal language model whose
    weights can be read here. `name` is what messages call it; with `remote_code` the class comes
    with the model."""
    if config.is_encoder_decoder:
        raise AssetError(
            f"{name} is an encoder–decoder model ({config.model_type}), not a causal language "
            "model.",
            NEEDED,
        )
    if not remote_code and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise AssetError(f"{name} ({config.model_type}) is not a causal language model.", NEEDED)
    if sign := _reads_ahead(config.get_text_config()):
        raise AssetError(
            f"{name} ({config.model_type}) reads ahead: its configuration has {sign}, so that "
            "every token sees those behind it.",
            NEEDED,
        )
    quantised.require_readable(config, name)


def _reads_ahead(config: Any) -> str:
    """The setting under which every token sees those behind it, as it is written; or nothing.

    Encoders with a causal class are those that can be given cross-attention (BERT and its kin).
    """
    if hasattr(config, "add_cross_attention") and getattr(config, "is_decoder", None) is False:
        return "is_decoder=false"
    for key, value in (("causal", False), ("attn_type", "bi")):
        if getattr(config, key, None) == value:
            return f"{key}={str(value).lower()}"
    both_ways = getattr(config, "use_bidirectional_attention", None)
    if both_ways is True or both_ways == "all":
        return f"use_bidirectional_attention={str(both_ways).lower()}"
    return ""


def num_embeddings(config: PretrainedConfig) -> int:
    """Rows of the input embedding: token ids from here on mean nothing to the model."""
    return int(config.get_text_config().vocab_size)
