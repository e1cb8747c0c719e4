"""What every test can count on: no network, no colours, and GPU tests only where there is one."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import absl.logging
import hypothesis
import pytest

hypothesis.settings.register_profile("house", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("house")

# Before anything imports them: both are read once, at import.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Container images set it. Each of the processes that tests start would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# absl (rouge-score brings it) closes the stream it was made with when Hydra configures logging
# anew; under pytest that stream is pytest's own capture, and the whole session ends.
absl.logging.PythonHandler.close = logging.Handler.close  # type: ignore[method-assign]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Long files first, so that no worker is left with one at the end (a file stays on its worker).
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages as they look in a terminal of 80 columns, without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of 97 letters, its tokenizer, and 43 records in `data.jsonl`.

    Hidden size 32, MLP 48, 2 layers, 4 heads (2 for keys and values), a context of 128 tokens; a
    record is "NN" and "ok", each letter a token.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    place, size = tmp_path_factory.mktemp("tiny"), 97
    letters = {chr(32 + i): i for i in range(size - 2)}
    words = models.WordLevel({**letters, "<unk>": size - 2, "</s>": size - 1}, unk_token="<unk>")
    raw = Tokenizer(words)
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(place)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    lines = [json.dumps({"prompt": f"{i:02}", "completion": "ok"}) for i in range(43)]
    (place / "data.jsonl").write_text("\n".join(lines))
    return place


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model of two layers and forty questions (tests/world.py)."""
    from tests.world import build

    return build(tmp_path_factory.mktemp("world"))
