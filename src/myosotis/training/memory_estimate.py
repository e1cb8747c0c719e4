"""What a training step takes on a machine: memory by what it holds, and the speed of its products.

Estimates for `plan`, after docs/science.md, section 1 and what this implementation keeps.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch

from myosotis.models.dtype import Precision
from myosotis.training.optim import OptimizerFactory
from myosotis.trees.scorer import CHUNK
from myosotis.utils.device import on_gpu

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Memory:
    """Gigabytes (1e9 bytes) at the peak of a training step, by what they hold.

    `program` is Python, its libraries and the data, where they share memory with the model (CPU).
    """

    program: float
    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


def memory(
    model: PreTrainedModel,
    parameters: int,
    trainable: int,
    precision: Precision,
    *,
    in_four_bits: bool,
    moments: float,
    rows: int,
    row_tokens: int,
    checkpointing: bool,
    accelerator: str,
) -> Memory:
    """Estimated peak of a step in gigabytes. Fp32 full tuning with Adam: 16 bytes per parameter.

    `moments` are the numbers that the optimiser keeps for each trained one, `rows` of `row_tokens`
    tokens go through the model at a time.
    """
    base = precision.weights.itemsize
    compute = precision.compute.itemsize
    # Full tuning trains in fp32 and keeps the base beside what it becomes.
    full = trainable >= parameters
    shared = not on_gpu(accelerator)
    frozen = _frozen_bytes(model, parameters, base, in_four_bits, on_cpu=shared)
    weights = 8 * parameters if full else frozen + 4 * trainable
    tokens = rows * row_tokens
    text = model.config.get_text_config()
    return Memory(
        program=psutil.Process().memory_info().rss / 1e9 if shared else 0.0,
        weights=weights / 1e9,
        gradients=4 * trainable / 1e9,
        optimizer=4 * moments * trainable / 1e9,
        activations=activations(text, tokens, rows, compute, checkpointing),
        # Of a head that trains: a chunk's logits, their log-softmax and the gradient, in fp32. A
        # frozen one never makes them (trees/lm_head.py).
        logits=3 * 4 * CHUNK * int(text.vocab_size) / 1e9 if full else 0.0,
    )


def _frozen_bytes(
    model: PreTrainedModel, parameters: int, itemsize: int, in_four_bits: bool, on_cpu: bool
) -> float:
    """Bytes of the base as it is kept: NF4 takes half a byte and 0.127 bits of constants.

    On a CPU every layer's dequantised weights leave a hole between the activations that are kept,
    which the C library fills no more within the step: once their size (docs/log.md).
    """
    if not in_four_bits:
        return parameters * itemsize
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if type(m) is torch.nn.Linear and m is not head]
    quantised = sum(m.weight.numel() for m in linear if not m.weight.requires_grad)
    holes = quantised * itemsize if on_cpu else 0
    return quantised * (0.5 + 0.127 / 8) + (parameters - quantised) * itemsize + holes


def activations(
    text_config: Any, tokens: int, rows: int, itemsize: int, checkpointing: bool
) -> float:
    """Gigabytes kept for the backward pass of `tokens` tokens in `rows` rows.

    A layer keeps what its norms, projections and gate read: about 8 vectors of the hidden size, the
    keys and values, 4 of the MLP's, and the mask (after Korthikanti et al. 2022, equation 1,
    without its dropouts and with fused attention). With checkpointing only each layer's input, and
    one layer whole.
    """
    hidden = int(text_config.hidden_size)
    heads = _largest(text_config, "num_attention_heads")  # a Mamba has none
    kv_heads = _largest(text_config, "num_key_value_heads") or heads
    head_dim = _largest(text_config, "head_dim") or hidden // max(1, heads)
    inner = _largest(text_config, "intermediate_size") or 4 * hidden
    layers = int(text_config.num_hidden_layers)
    layer = tokens * (8 * hidden + 2 * kv_heads * head_dim + 4 * inner)
    kept = layers * tokens * hidden + layer if checkpointing else layers * layer
    mask = tokens * tokens / max(1, rows)
    return (kept + mask) * itemsize / 1e9


def _largest(text_config: Any, name: str) -> int:
    """A number of the configuration, of its layers the largest; 0 where it has none."""
    found = getattr(text_config, name, None)
    return max(map(int, found)) if isinstance(found, list | tuple) else int(found or 0)


def moments_per_parameter(make: OptimizerFactory) -> float:
    """Numbers the optimiser keeps for each trained one (Adam: 2), found by one step of it."""
    parameter = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = make([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state[parameter].values()
    held = sum(v.numel() for v in state if isinstance(v, torch.Tensor) and v.numel() > 1)
    return held / parameter.numel()


def flops_per_second(accelerator: str, num_threads: int | None) -> float:
    """What this machine does now, in matrix products of a layer's shape; takes a quarter second."""
    fast = on_gpu(accelerator)
    device, size = ("cuda", 4096) if fast else ("cpu", 512)
    dtype = torch.bfloat16 if fast else torch.float32
    if num_threads:
        torch.set_num_threads(num_threads)
    a = torch.ones(size, size, device=device, dtype=dtype)
    products, began = 0, time.perf_counter()
    while time.perf_counter() - began < 0.25:
        float((a @ a)[0, 0])
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - began)
