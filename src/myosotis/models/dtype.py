"""In which numbers a run computes: Lightning's precision names, and what they mean here.

Weights that train are always kept in fp32: at fine-tuning learning rates a plain bf16 weight
swallows small updates, which looks like "no forgetting". A run has one arithmetic: training,
references, looks and benchmarks multiply in the same numbers, or the loss of DPO would not be ln 2
at the first step and a base would seem to have moved. So the scorer owns it, and Lightning's
Trainer is always told `32-true`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from myosotis.utils.device import on_gpu
from myosotis.utils.errors import ConfigError

PRECISIONS = ("auto", "32-true", "bf16-true", "bf16-mixed")


@dataclass(frozen=True)
class Precision:
    """`weights` is the dtype the base is loaded in; `products` the one in which the scorer
    multiplies by autocast, where that is another."""

    weights: torch.dtype
    products: torch.dtype | None = None

    @property
    def name(self) -> str:
        """For records, and for the keys of what is cached."""
        weights = str(self.weights).removeprefix("torch.")
        if self.products is None:
            return weights
        return f"{weights}, products in {str(self.products).removeprefix('torch.')}"

    @property
    def compute(self) -> torch.dtype:
        """The dtype of matrix products and activations."""
        return self.products or self.weights


def resolve(name: str, *, update: str, accelerator: str) -> Precision:
    """`32-true` computes in fp32; `bf16-mixed` keeps fp32 weights and multiplies in bf16;
    `bf16-true` also loads the frozen weights in bf16; `auto` is fp32 on a CPU, so that a result
    does not depend on which CPU it was, and bf16 on a GPU that computes in it. Raises `ConfigError`
    for unknown names, and for `bf16-true` with full tuning.
    """
    if name not in PRECISIONS:
        raise ConfigError(
            f"There is no trainer.precision={name}.", f"Known: {', '.join(PRECISIONS)}."
        )
    if name == "auto":
        name = by_default(update, bf16=computes_bf16(accelerator))
    if name == "32-true":
        return Precision(torch.float32)
    if name == "bf16-true" and update == "full":
        raise ConfigError(
            "trainer.precision=bf16-true would lose small updates of the full weights.",
            "Use trainer.precision=bf16-mixed: it keeps fp32 weights and multiplies in bf16.",
        )
    if name == "bf16-true":
        return Precision(torch.bfloat16)
    return Precision(torch.float32, products=torch.bfloat16)


def by_default(update: str, *, bf16: bool) -> str:
    """What `auto` means where the device computes in bf16, and where it does not."""
    if not bf16:
        return "32-true"
    return "bf16-mixed" if update == "full" else "bf16-true"


def computes_bf16(accelerator: str) -> bool:
    """Whether the run is on a GPU that multiplies in bf16 rather than imitating it."""
    return on_gpu(accelerator) and torch.cuda.is_bf16_supported(including_emulation=False)
