"""Sums over the ranks of a distributed run; alone, what they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn import Parameter


def several() -> bool:
    """Whether there are other ranks."""
    return distributed.is_available() and distributed.is_initialized()


def total(value: float, *, largest: bool = False) -> float:
    """The sum of a number over the ranks, or the largest of them."""
    if not several():
        return value
    op = distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM
    shared = torch.tensor(value, dtype=torch.float64, device=_device())
    distributed.all_reduce(shared, op=op)
    return shared.item()


def on_any(said: bool) -> bool:
    """Whether any rank says so."""
    return bool(total(float(said), largest=True))


def summed(amounts: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars by name, summed in one go. Every rank must have the same names."""
    if not amounts:
        return {}
    values = torch.stack([amount.double() for amount in amounts.values()])
    if several():
        distributed.all_reduce(values)
    return dict(zip(amounts, values.tolist(), strict=True))


def sum_gradients(parameters: Sequence[Parameter]) -> None:
    """One flat all-reduce over the ranks; a rank that had nothing to score adds zeros."""
    if not several():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
    flat = _flatten_dense_tensors(gradients)
    distributed.all_reduce(flat)
    torch._foreach_copy_(gradients, list(_unflatten_dense_tensors(flat, gradients)))


def _device() -> torch.device:
    """Where the ranks exchange numbers: NCCL knows only its own device's."""
    on_gpu = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
