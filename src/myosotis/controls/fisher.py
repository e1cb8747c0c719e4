"""How much each weight matters for a text: the diagonal of the empirical Fisher information.

    F = (1/T) · Σ over texts (∂ log p(text) / ∂θ)²      T: scored tokens of all texts

at θ0, with the texts' own words (Kirkpatrick et al. 2017; the gradient of a text is squared on its
own, which the square of a batch's gradient is not). For LoRA and its like θ is the weight that the
model computes with, θ0 + Δθ: what a text needs of a weight does not depend on how it is moved.

Kept in half precision (bf16: two bytes a weight), since an estimate from some dozen texts is far
less certain than that; in memory, and in the cache by content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from myosotis.controls import Given
from myosotis.models import wheels
from myosotis.trees.scorer import Scorer, evaluating, scorer_version
from myosotis.trees.tree import Tree, digest
from myosotis.updates.change import Change
from myosotis.utils.atomic_write import replacing
from myosotis.utils.console import progress
from myosotis.utils.one_process import kept


def fisher(scorer: Scorer, changes: Sequence[Change], trees: Sequence[Tree]) -> list[Tensor]:
    """The Fisher information of each weight, of its shape, in fp32 or wider.

    The model must be at θ0. A text at a time, and of each gradient only the square stays.
    """
    sums = [torch.zeros_like(c.weight, dtype=_wide(c.weight)) for c in changes]
    said = progress("Fisher information of the base", total=len(trees))
    with _gradients_squared_into(scorer, changes, sums), said as advance:
        for tree in trees:
            for batch in scorer.batches([tree]):
                scorer.score(batch).logp_B.sum().backward()
            advance(1)
    tokens = sum(tree.scored for tree in trees)
    return [total / tokens for total in sums]


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


@contextmanager
def _gradients_squared_into(
    scorer: Scorer, changes: Sequence[Change], sums: Sequence[Tensor]
) -> Iterator[None]:
    """Only these weights require gradients, and each gradient is squared as it comes and let go."""
    flags = [(p, p.requires_grad) for p in scorer.model.parameters()]
    hooks = []
    with evaluating(scorer.model), torch.enable_grad():
        try:
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            for change, total in zip(changes, sums, strict=True):
                change.weight.requires_grad_(True)

                def square(weight: Tensor, total: Tensor = total) -> None:
                    assert weight.grad is not None
                    gradient = weight.grad.to(total.dtype)
                    total.addcmul_(gradient, gradient)
                    weight.grad = None

                hooks.append(change.weight.register_post_accumulate_grad_hook(square))
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for parameter, requires_grad in flags:
                parameter.requires_grad_(requires_grad)


def kept_fisher(given: Given, changes: Sequence[Change], trees: Sequence[Tree]) -> list[Tensor]:
    """The same in bf16, from the cache where it holds it. Nothing is lost when it cannot be
    written."""
    path = _place(given, changes, trees)
    device = changes[0].weight.device

    def make() -> list[Tensor]:
        return [one.to(torch.bfloat16) for one in fisher(given.scorer, changes, trees)]

    def write(made: Sequence[Tensor]) -> None:
        named = {c.name: f.cpu() for c, f in zip(changes, made, strict=True)}
        with suppress(OSError, SafetensorError), replacing(path) as unfinished:
            save_file(named, unfinished)

    found = kept(path, partial(_read, path, changes), make, write)
    return [one.to(device) for one in found]


def _place(given: Given, changes: Sequence[Change], trees: Sequence[Tree]) -> Path:
    about = [given.model, given.dtype, given.scorer.conditions(), scorer_version(), "fisher 1"]
    key = digest("\n".join([*about, *(c.name for c in changes)]), trees)
    return wheels.cache_dir() / "fisher" / f"{key[:40]}.safetensors"


def _read(path: Path, changes: Sequence[Change]) -> list[Tensor] | None:
    try:
        named = load_file(path)
    except (OSError, SafetensorError):
        return None
    if any(c.name not in named or named[c.name].shape != c.weight.shape for c in changes):
        return None
    return [named[c.name] for c in changes]
