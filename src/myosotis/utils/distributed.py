"""Sums over the ranks of a distributed run; alone, what they are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn import Parameter

T = TypeVar("T")


def several() -> bool:
    """Whether there are other ranks."""
    return distributed.is_available() and distributed.is_initialized()


def world() -> int:
    """How many ranks there are."""
    return distributed.get_world_size() if several() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if several() else 0


def told(what: Any) -> Any:
    """What the first rank says, on every rank."""
    box = [what]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def gathered(mine: T) -> list[T]:
    """What each rank has, in their order, on every rank."""
    found: list[Any] = [None] * world()
    distributed.all_gather_object(found, mine)
    return found


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


def summed(amounts: Mapping[str, Tensor], alike: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars by name, summed in one go, and those that are `alike` on all ranks as they are: the
    device is waited for once. Every rank must have the same names."""
    if not amounts and not alike:
        return {}
    device = next(iter((*alike.values(), *amounts.values()))).device
    wide = torch.float32 if device.type == "mps" else torch.float64
    values = torch.stack([x.to(device, wide) for x in (*amounts.values(), *alike.values())])
    if several():
        distributed.all_reduce(values[: len(amounts)])
    return dict(zip((*amounts, *alike), values.tolist(), strict=True))


BUCKET_BYTES = 2**28
"""Of gradients that are summed together: their copies take no more room than this."""


def sum_gradients(parameters: Sequence[Parameter]) -> None:
    """Sum over the ranks, a bucket at a time; a rank that had nothing to score adds zeros. What is
    spread over the ranks was summed on its way back."""
    if not several():
        return
    own = [parameter for parameter in parameters if not hasattr(parameter, "to_local")]
    for parameter in own:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for gradients in _buckets([p.grad for p in own if p.grad is not None]):
        flat = _flatten_dense_tensors(gradients)
        distributed.all_reduce(flat)
        torch._foreach_copy_(gradients, list(_unflatten_dense_tensors(flat, gradients)))


def send(tensors: Sequence[Tensor]) -> None:
    """Give every rank what these tensors of the first one hold."""
    if several():
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one dtype that have `BUCKET_BYTES` together, and one tensor at least."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        held = sum(other.nbytes for other in bucket)
        full = bucket and held + tensor.nbytes > BUCKET_BYTES
        if full or (bucket and bucket[0].dtype != tensor.dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _device() -> torch.device:
    """Where the ranks exchange numbers: NCCL knows only its own device's."""
    on_gpu = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
