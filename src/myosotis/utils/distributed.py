"""What the ranks of a distributed run tell each other; alone, what they are given.

What lies on devices goes from device to device. Numbers and objects of the host have a way of their
own, by which no device is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn import Parameter

T = TypeVar("T")

PATIENCE = timedelta(hours=4)
"""How long a rank waits for another: at first the first one may be measuring the base."""


def several() -> bool:
    """Whether there are other ranks."""
    return distributed.is_available() and distributed.is_initialized()


def world() -> int:
    """How many ranks there are."""
    return distributed.get_world_size() if several() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if several() else 0


def on_host() -> bool:
    """Whether the ranks compute on hosts, and tell each other everything there."""
    return str(distributed.get_backend()) == "gloo"


def told(what: Any) -> Any:
    """What the first rank says, on every rank."""
    if not several():
        return what
    box = [what]
    distributed.broadcast_object_list(box, src=0, group=_host())
    return box[0]


def gathered(mine: T) -> list[T]:
    """What each rank has, in their order, on every rank."""
    if not several():
        return [mine]
    found: list[Any] = [None] * world()
    distributed.all_gather_object(found, mine, group=_host())
    return found


def total(value: float, *, largest: bool = False) -> float:
    """The sum of a number over the ranks, or the largest of them."""
    return totals([value], largest=largest)[0]


def totals(values: Sequence[float], *, largest: bool = False) -> list[float]:
    """The same of several numbers, in one message."""
    if not several():
        return list(values)
    op = distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM
    shared = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(shared, op=op, group=_host())
    return shared.tolist()  # type: ignore[no-any-return]


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


_hosts: dict[Any, Any] = {}
"""By the group of all ranks, the one of the same ranks for what lies on the host."""


def _host() -> Any:
    """Made where it is first asked for, which all ranks do at one place; gloo serves itself."""
    world = distributed.group.WORLD
    if on_host():
        return world
    if world not in _hosts:
        _hosts.clear()
        _hosts[world] = distributed.new_group(backend="gloo", timeout=PATIENCE)
    return _hosts[world]


def break_off() -> None:
    """Leave at once: what this rank owes the others is given up, and who waits for it on the host
    hears that it is gone."""
    if not several():
        return
    for host in _hosts.values():
        distributed.destroy_process_group(host)
    _hosts.clear()
    if on_host():
        distributed.destroy_process_group()
    else:
        distributed.distributed_c10d._abort_process_group()
