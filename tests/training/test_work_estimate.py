"""What a training computes and how much of a device that is, by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig

from myosotis.training.work_estimate import Work, mfu
from myosotis.utils import distributed
from myosotis.utils.device import peak_flops
from tests.training.test_module import Steps, fit, module

TEXT = LlamaConfig(hidden_size=32, num_attention_heads=4, head_dim=8, num_hidden_layers=2)


def test_operations_by_hand() -> None:
    """100 tokens through 1,000 numbers: 6 each where all train; 4, and 6 for each of 10, where 10
    are added. 50 pairs in 2 layers of 4 heads of 8: 12 · 64 each."""
    read = Work(tokens=100, pairs=50)
    attention = 50 * 12 * 64
    assert read.flops(1000, 1000, TEXT) == 100 * 6000 + attention
    assert read.flops(1000, 10, TEXT) == 100 * 4060 + attention


def test_utilisation_by_hand() -> None:
    """989 TFLOP in 4 seconds on two devices of 989 TFLOP/s: an eighth."""
    peak = peak_flops("NVIDIA H200", torch.bfloat16)
    assert peak == 989e12
    assert mfu(989e12, 4.0, 2 * peak) == pytest.approx(1 / 8)
    assert mfu(1e12, 1.0, None) is None


def test_a_device_that_is_not_known_has_no_peak() -> None:
    assert peak_flops("NVIDIA L40S", torch.bfloat16) == 362e12
    assert peak_flops("NVIDIA L4", torch.bfloat16) == 121e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", torch.bfloat16) == 312e12
    assert peak_flops("cpu", torch.bfloat16) is None
    assert peak_flops("NVIDIA H200", torch.float32) is None


def test_a_run_counts_the_tokens_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone what its own rows hold; with a second rank that reads as much, twice that."""
    alone = module("lora")
    fit(alone, steps=2)
    layouts = [b.layout for trees in list(Steps())[:2] for b in alone.scorer.batches(trees)]
    expected = Work(sum(x.tokens for x in layouts), sum(x.pairs for x in layouts))
    assert alone.work == expected and expected.pairs > expected.tokens > 0
    monkeypatch.setattr(
        distributed,
        "totals",
        lambda values, largest=False: [v if largest else 2 * v for v in values],
    )
    two = module("lora")
    monkeypatch.setattr(
        "myosotis.training.module.batches_on_all_ranks", lambda s, trees: s.batches(trees)
    )
    fit(two, steps=2)
    assert two.work == Work(2 * expected.tokens, 2 * expected.pairs)
