"""What a training step holds in memory, worked out from shapes alone: no weights, no device.

Estimates for `plan`, after docs/science.md, section 1 and what this implementation keeps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import psutil
import torch

from myosotis.models.dtype import Precision
from myosotis.training.activation_checkpointing import MLP
from myosotis.training.optim import OptimizerFactory
from myosotis.trees.batch import CHUNK
from myosotis.trees.lm_head import GPU_BYTES
from myosotis.trees.scorer import KEPT_BYTES

NF4_BYTES = 0.5 + 0.127 / 8
"""Of a weight in four bits with double quantisation (docs/science.md, section 1)."""

CUDA_GB = 0.6
"""What CUDA's context and the workspaces of its libraries take of a GPU: assumed, not measured."""

HOST_GB = 0.8
"""What a process that trains on a CPU holds beside the model, at least: its libraries, of which a
plan has not imported all (docs/log.md, 2026-11-22: of the 2.11 predicted for LoRA)."""


@dataclass(frozen=True)
class Memory:
    """Gigabytes (1e9 bytes) at the peak of a training step, by what they hold.

    `program` is Python, its libraries and the data, where they share memory with the model (CPU),
    and CUDA's own part elsewhere. `base_copy` is θ0, which full tuning keeps beside what it
    becomes. `products` are the narrower copies that matrices are multiplied with (`bf16-mixed`).
    """

    program: float
    weights: float
    base_copy: float
    products: float
    gradients: float
    optimizer: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Sizes:
    """How many numbers a model and its update have."""

    base: int
    trainable: int
    own: int  # of the base's own numbers, those that train
    four_bit: int = 0  # of the base's, those that are kept in four bits


@dataclass(frozen=True)
class StepLoad:
    """All that the memory of a step depends on; `rows` of `row_tokens` tokens run at a time."""

    sizes: Sizes
    text: Any  # the language part's configuration
    precision: Precision
    optimizer_bytes: float  # state for each trained number
    rows: int
    row_tokens: int
    checkpointing: bool | str  # as `trainer.gradient_checkpointing`
    on_gpu: bool
    spread: int = 1  # devices over which what is kept is spread (fsdp2)
    base_on_host: bool = False

    def memory(self) -> Memory:
        """Estimated peak in gigabytes. Fp32 full tuning with Adam: 16 bytes a parameter, and 4 for
        θ0 kept aside. Spread over devices, a step may hold less than a model that is measured,
        which is whole on each."""
        step = self._step()
        if self.spread == 1:
            return step
        whole = replace(
            Memory(*[0.0] * len(fields(Memory))),
            program=step.program,
            weights=self._weights() / 1e9,
            base_copy=self._base_copy(),
        )
        return max(self._shares(step), whole, key=lambda memory: memory.total)

    def _shares(self, step: Memory) -> Memory:
        """Of what is kept a share; whole are a layer, twice since the next one is fetched, and what
        stands around the layers."""
        around = 2 * int(self.text.vocab_size) * int(self.text.hidden_size)
        inside = max(0, self.sizes.base - around) / int(self.text.num_hidden_layers)
        kept = 4 if self.sizes.own else self.precision.weights.itemsize
        gathered = kept * around + 2 * self.precision.compute.itemsize * inside
        return replace(
            step,
            weights=step.weights / self.spread + gathered / 1e9,
            base_copy=step.base_copy / self.spread,
            products=self.precision.compute.itemsize * around / 1e9 if step.products else 0.0,
            gradients=step.gradients / self.spread + 4 * inside / 1e9,
            optimizer=step.optimizer / self.spread,
        )

    def _step(self) -> Memory:
        sizes, vocabulary = self.sizes, int(self.text.vocab_size)
        multiplied = self.precision.products
        widths = self.precision.compute.itemsize
        tokens = self.rows * self.row_tokens
        return Memory(
            program=CUDA_GB if self.on_gpu else max(HOST_GB, _resident()),
            weights=self._weights() / 1e9,
            base_copy=self._base_copy(),
            products=multiplied.itemsize * sizes.base / 1e9 if multiplied else 0.0,
            gradients=4 * sizes.trainable / 1e9,
            optimizer=self.optimizer_bytes * sizes.trainable / 1e9,
            activations=activations(
                self.text, tokens, self.rows, widths, self.checkpointing, mask=not self.on_gpu
            ),
            logits=self._logits(vocabulary) / 1e9,
        )

    def _base_copy(self) -> float:
        """θ0; the host's memory is none of a GPU's, and all that a CPU has."""
        return 0.0 if self.base_on_host and self.on_gpu else 4 * self.sizes.own / 1e9

    def _weights(self) -> float:
        """Bytes of the base as it is kept, and of what trains, which is in fp32 always."""
        sizes, itemsize = self.sizes, self.precision.weights.itemsize
        plain = sizes.base - sizes.own - sizes.four_bit
        # On a CPU every layer's dequantised weights leave a hole between the activations that are
        # kept, which the C library fills no more within the step: once their size (docs/log.md).
        holes = 0 if self.on_gpu else sizes.four_bit * itemsize
        return plain * itemsize + sizes.four_bit * NF4_BYTES + holes + 4 * sizes.trainable

    def _logits(self, vocabulary: int) -> float:
        """Bytes of a head that trains: the logits that are kept, and of one chunk its log-softmax
        and its gradient, in fp32. A frozen head has one block of them (trees/lm_head.py), on a CPU
        a small one, and on a GPU the block's narrower copy, too."""
        if self.sizes.own == self.sizes.base:
            chunk = 4 * CHUNK * vocabulary
            tokens = self.rows * self.row_tokens
            return min(KEPT_BYTES + chunk, 4 * tokens * vocabulary) + 2 * chunk
        return 1.5 * GPU_BYTES if self.on_gpu else 0.0


def _resident() -> float:
    """Gigabytes that this process has in memory."""
    return float(psutil.Process().memory_info().rss) / 1e9


def activations(
    text_config: Any,
    tokens: int,
    rows: int,
    itemsize: int,
    checkpointing: bool | str,
    *,
    mask: bool,
) -> float:
    """Gigabytes kept for the backward pass of `tokens` tokens in `rows` rows, with a `mask` of each
    row's square or, by the kernels that a GPU has for rows of trees, without.

    A layer keeps what its norms, projections and gate read: about 8 vectors of the hidden size, the
    keys and values, 4 of the MLP's, and the mask (after Korthikanti et al. 2022, equation 1,
    without its dropouts and with fused attention). With checkpointing only each layer's input, and
    one layer whole; of MLPs alone all but theirs, and one of them.
    """
    hidden = int(text_config.hidden_size)
    heads = largest(text_config, "num_attention_heads")  # a Mamba has none
    kv_heads = largest(text_config, "num_key_value_heads") or heads
    head_dim = largest(text_config, "head_dim") or hidden // max(1, heads)
    inner = largest(text_config, "intermediate_size") or 4 * hidden
    layers = int(text_config.num_hidden_layers)
    attention = tokens * (8 * hidden + 2 * kv_heads * head_dim)
    mlp = tokens * 4 * inner
    kept = layers * (attention + mlp)
    if checkpointing == MLP:
        kept = layers * attention + mlp
    elif checkpointing:
        kept = layers * tokens * hidden + attention + mlp
    squares = tokens * tokens / max(1, rows) if mask else 0.0
    return (kept + squares) * itemsize / 1e9


def largest(text_config: Any, name: str) -> int:
    """A number of the configuration, of its layers the largest; 0 where it has none."""
    found = getattr(text_config, name, None)
    return max(map(int, found)) if isinstance(found, list | tuple) else int(found or 0)


def optimizer_bytes(make: OptimizerFactory) -> float:
    """Bytes the optimiser keeps for each trained number (Adam: 8, in eight bits: 2), found by one
    step of it on a matrix of a layer's size."""
    parameter = torch.nn.Parameter(torch.zeros(512, 512))
    optimizer = make([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [v for v in optimizer.state[parameter].values() if isinstance(v, torch.Tensor)]
    return sum(v.nbytes for v in held if v.numel() > 1) / parameter.numel()
