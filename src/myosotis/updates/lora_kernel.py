"""A linear layer with low-rank additions, in as few passes over memory as it takes.

PEFT's own layer multiplies by the scale and adds the two branches in passes of their own, forward
and backward. On a CPU, and for small models on a GPU, those passes cost as much as the low-rank
products. Here scale and sum are part of the products (`addmm`). PEFT's layer is used for all the
rest: names, files, dropout, merging, mixed dtypes.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor
from torch.nn import functional as F


class LowRankLinear(Linear):
    """PEFT's LoRA layer on `torch.nn.Linear`, computed by `LowRank` where that is the same."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        adapter = self._plain(x, args, kwargs)
        if adapter is None:
            return super().forward(x, *args, **kwargs)
        base = self.get_base_layer()
        a, b = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        scale = self.scaling[adapter]
        # Kept in fp32 where the base is in bf16, and multiplied as the base is.
        a, b = a.to(x.dtype), b.to(x.dtype)
        return LowRank.apply(x, base.weight, base.bias, a, b, scale)  # type: ignore[no-any-return]

    def _plain(self, x: Tensor, args: Any, kwargs: Any) -> str | None:
        """The one active adapter, when nothing but W·x + s·B·A·x in W's dtype is asked for."""
        active = self.active_adapters
        if self.disable_adapters or self.merged or args or kwargs or len(active) != 1:
            return None
        (name,) = active
        weight = self.get_base_layer().weight
        if name not in self.lora_A or name in self.lora_variant or self.lora_bias.get(name):
            return None
        if type(self.get_base_layer()) is not torch.nn.Linear or weight.requires_grad:
            return None
        if not isinstance(self.lora_dropout[name], torch.nn.Identity):
            return None
        one_dtype = x.dtype == weight.dtype
        return name if one_dtype and not torch.is_autocast_enabled(x.device.type) else None


class LowRank(torch.autograd.Function):
    """y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ with W and b frozen (Hu et al. 2021, equation 3).

    Shapes: x (…, d_in), W (d_out, d_in), b (d_out) or None, A (r, d_in), B (d_out, r).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y = F.linear(flat, weight, bias)
        low = flat @ a.T
        y.addmm_(low, b.T, alpha=scale)
        ctx.save_for_backward(flat, low, weight, a, b)
        ctx.scale = scale
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        x, low, weight, a, b = ctx.saved_tensors
        flat = dy.reshape(-1, dy.shape[-1])
        dlow = flat @ b
        da = (dlow.T @ x).mul_(ctx.scale) if ctx.needs_input_grad[3] else None
        db = (flat.T @ low).mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        dx = None
        if ctx.needs_input_grad[0]:
            dx = flat @ weight
            dx.addmm_(dlow, a, alpha=ctx.scale)
            dx = dx.view(*dy.shape[:-1], dx.shape[-1])
        return dx, None, None, da, db, None
