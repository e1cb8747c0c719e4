"""Tensors of a model as such: counted, compared, copied, kept from a backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.trees.attention import text_config
from myosotis.trees.scorer import device_of, evaluating
from myosotis.utils.errors import RunError


def num_parameters(model: PreTrainedModel) -> int:
    """How many numbers a model has; tied tensors count once, a byte of four-bit weights twice."""
    return sum(
        p.numel() * (2 if hasattr(p, "quant_state") and p.dtype == torch.uint8 else 1)
        for p in model.parameters()
    )


def sample_logits(model: PreTrainedModel) -> Tensor:
    """(1, 16, V) logits of a few tokens in fp32, in evaluation mode; by which two models, or one in
    two states, are held against each other. The model's mode is left as it was. The tokens come
    from all over the vocabulary: its first ones may be markers that no text holds, which make
    rounding a hundred times larger (docs/log.md)."""
    size = text_config(model).vocab_size
    ids = torch.arange(1, 17, device=device_of(model))[None] * size // 18
    with evaluating(model):
        return model(input_ids=ids).logits.float()


def plain_weight(weight: Tensor) -> Tensor:
    """A weight as numbers, in fp32 at least; four-bit ones are dequantised."""
    if (state := getattr(weight, "quant_state", None)) is not None:
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, state)
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))


@contextmanager
def no_backward(parameters: Iterable[Parameter]) -> Iterator[None]:
    """No gradients inside, and a backward pass through `parameters` raises `RuntimeError`.

    `no_grad` alone would let a graph made before be run backward here.
    """

    def refuse(_: Tensor) -> None:
        raise RuntimeError("backward inside disabled() or scaled(): other weights are in place")

    hooks = [p.register_hook(refuse) for p in parameters if p.requires_grad]
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def copy_exactly(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], source_name: str
) -> None:
    """Copy tensors by name in place, all or none; `RunError` lists every one that does not fit."""
    faults = {
        "missing": sorted(target.keys() - source.keys()),
        "unknown": sorted(source.keys() - target.keys()),
        "of another shape": sorted(
            f"{n} {tuple(source[n].shape)} for {tuple(target[n].shape)}"
            for n in source.keys() & target.keys()
            if source[n].shape != target[n].shape
        ),
    }
    problems = [f"{what}: {', '.join(which)}" for what, which in faults.items() if which]
    if problems:
        raise RunError(f"{source_name} does not fit this model", "\n".join(problems))
    with torch.no_grad():
        for name, tensor in target.items():
            own(tensor).copy_(share_of(source[name], tensor))


def whole(tensor: Any) -> Tensor:
    """A tensor that is spread over ranks (sharded.py) whole again: every rank must ask. Of any
    other, itself."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def own(tensor: Any) -> Tensor:
    """What this rank keeps of a tensor, sharing its memory."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def share_of(whole: Tensor, like: Any) -> Tensor:
    """The rows of a whole tensor that this rank keeps of `like`, as `torch.chunk` deals them out;
    sharing its memory."""
    if not hasattr(like, "device_mesh"):
        return whole
    mesh, rows = like.device_mesh, len(whole)
    each = -(-rows // mesh.size())
    first = mesh.get_local_rank() * each
    return whole[first : first + each]


@torch.no_grad()
def exchange(a: Tensor, b: Tensor) -> None:
    """What `a` holds and what `b` holds change places, to the bit, where they are."""
    kept = a.clone()
    a.copy_(b)
    b.copy_(kept)


def fingerprint(tensor: Tensor) -> int:
    """Sum of the tensor's bits as integers: exact, so equal on every device; 0 on meta."""
    if tensor.is_meta:
        return 0
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return int(tensor.detach().contiguous().view(whole).sum(dtype=torch.int64))
