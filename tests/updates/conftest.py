"""Tiny random models of every family the updates are tested on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

VOCAB = 64
_LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_LLAMA, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**_LLAMA, head_dim=8),
    "gemma3": lambda: Gemma3TextConfig(**_LLAMA, head_dim=8, sliding_window=8),
    "mistral": lambda: MistralConfig(**_LLAMA, sliding_window=None),
    "phi3": lambda: Phi3Config(**_LLAMA),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2,
    ),
    "gpt_neox": lambda: GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
    ),
}  # fmt: skip


def make(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model, the same on each call; weights large enough to tell logits apart."""
    torch.manual_seed(0)
    config = CONFIGS[family]()
    config.initializer_range = 0.2
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@pytest.fixture(scope="session", name="make")
def _make() -> Callable[..., PreTrainedModel]:
    return make


@pytest.fixture(params=CONFIGS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def ids() -> torch.Tensor:
    return torch.randint(3, VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))
