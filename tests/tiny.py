"""Tiny random models of many architectures, seeded; the same in every test that wants one."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

VOCAB = 97
SIZE: dict[str, Any] = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    initializer_range=0.3,  # large enough for a leak to show in the scores
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)


def _llama() -> hf.PretrainedConfig:
    return hf.LlamaConfig(**SIZE, tie_word_embeddings=True)


def _qwen3() -> hf.PretrainedConfig:
    return hf.Qwen3Config(**SIZE, head_dim=8)


def _gemma3() -> hf.PretrainedConfig:
    layers = ["sliding_attention", "full_attention"]
    return hf.Gemma3TextConfig(
        **SIZE, head_dim=8, sliding_window=6, layer_types=layers, final_logit_softcapping=5.0
    )


def _mistral() -> hf.PretrainedConfig:
    return hf.MistralConfig(**SIZE, sliding_window=6)


def _phi3() -> hf.PretrainedConfig:
    return hf.Phi3Config(**SIZE, sliding_window=None)


def _gpt2() -> hf.PretrainedConfig:
    return hf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3
    )


def _gpt_neox() -> hf.PretrainedConfig:
    small = {k: v for k, v in SIZE.items() if k != "num_key_value_heads"}
    return hf.GPTNeoXConfig(**small)


def _lfm2() -> hf.PretrainedConfig:
    """A recurrent hybrid: a short convolution in one layer, attention in the other."""
    return hf.Lfm2Config(**SIZE, layer_types=["conv", "full_attention"])


CONFIGS = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gemma3": _gemma3,
    "mistral": _mistral,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "lfm2": _lfm2,
}
PACKS = sorted(set(CONFIGS) - {"lfm2"})
"""Architectures for which packed rows are exact."""


def tiny(name: str = "llama", dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A model in evaluation mode, without dropout."""
    torch.manual_seed(seed)
    config = CONFIGS[name]()
    for key in ("attn_pdrop", "embd_pdrop", "resid_pdrop"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    return hf.AutoModelForCausalLM.from_config(config).to(dtype).eval()
