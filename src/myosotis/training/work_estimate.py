"""How much a training computes, and how fast this machine computes it.

Counts follow docs/science.md, section 1. The speed is that of matrix products of a layer's shape;
what a training reaches of it is `EFFICIENCY`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import torch

from myosotis.training.memory_estimate import largest
from myosotis.utils.device import on_gpu

EFFICIENCY = 0.6
"""Of training against matrix products alone: SmolLM2-135M, fp32, one CPU thread."""

UNSURE = 1.5
"""By what factor the time of a training may be off either way, on a machine without other work."""

ROUNDS, ROUND_SECONDS = 7, 0.03


def flops_per_token(parameters: int, trainable: int) -> float:
    """Forward and backward: 6N for full tuning, 4N + 6·N_trained for what is added to N."""
    full = trainable >= parameters
    return 6 * parameters if full else 4 * parameters + 6 * trainable


class Work(NamedTuple):
    """What a model has read: tokens, and pairs of a token and one that it sees."""

    tokens: float = 0.0
    pairs: float = 0.0

    def flops(self, parameters: int, trainable: int, text_config: Any) -> float:
        """Of forward and backward passes. Attention adds two products forward and four backward
        for each pair, head and layer; windows are not looked at, which counts too much there."""
        heads = largest(text_config, "num_attention_heads")
        size = largest(text_config, "head_dim") or int(text_config.hidden_size) // max(1, heads)
        attention = 12 * int(text_config.num_hidden_layers) * heads * size
        return self.tokens * flops_per_token(parameters, trainable) + self.pairs * attention


def mfu(flops: float, seconds: float, peak: float | None) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022, appendix B): the share of the devices' peak
    that the training's own operations took; what is computed again does not count. None where the
    peak is not known."""
    return flops / max(seconds, 1e-9) / peak if peak else None


@dataclass(frozen=True)
class Speed:
    """Floating-point operations a second of the device alone, and the share of its processor that
    this process gets at the moment (1 where nothing else runs)."""

    flops: float
    share: float = 1.0

    def seconds(self, flops: float) -> float:
        """Of a training that computes as many, with the machine for itself."""
        return flops / (EFFICIENCY * self.flops)


def measured_speed(accelerator: str, num_threads: int | None) -> Speed:
    """The median of `ROUNDS` rounds of products, after one that does not count: the first loads and
    chooses kernels. Takes about a quarter second, and the load of a busy machine does not enter:
    on a CPU one thread's own time is counted, which stands still while others have the core.
    """
    if on_gpu(accelerator):
        rounds = _rounds(torch.device("cuda"), 4096, torch.bfloat16)
        return Speed(median(r.flops / r.wall for r in rounds))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds = _rounds(torch.device("cpu"), 512, torch.float32)
    finally:
        torch.set_num_threads(threads)
    own = sum(r.processor for r in rounds) / sum(r.wall for r in rounds)
    one = median(r.flops / r.processor for r in rounds)
    return Speed(one * (num_threads or threads), min(1.0, own))


@dataclass(frozen=True)
class _Round:
    flops: float
    wall: float  # seconds
    processor: float  # seconds of this thread


def _rounds(device: torch.device, size: int, dtype: torch.dtype) -> list[_Round]:
    a = torch.ones(size, size, device=device, dtype=dtype)
    found = []
    for _ in range(1 + ROUNDS):
        wall, own, products = time.perf_counter(), time.thread_time(), 0
        while (taken := time.perf_counter() - wall) < ROUND_SECONDS:
            float((a @ a)[0, 0])  # waits for the device
            products += 1
        spent = max(time.thread_time() - own, 1e-9)
        found.append(_Round(products * 2 * size**3, taken, spent))
    return found[1:]
