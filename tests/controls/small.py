"""A tiny model with an update, and steps for its controls, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from myosotis.controls import Step, read, supervised
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path, Tree
from myosotis.updates import build
from tests.tiny import VOCAB, tiny

SETTINGS = {
    "lora": {"r": 2, "lora_alpha": 6},  # s = 3
    "full": {},
    "ia3": {"peft_type": "IA3"},
    "vera": {"peft_type": "VERA", "r": 4},
    "prefix": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2},
}


def attached(method: str = "lora", name: str = "llama") -> Any:
    """An update on a tiny model in float64, not moved yet."""
    torch.manual_seed(0)
    update = build({"name": method, **SETTINGS[method]})
    update.attach(tiny(name, torch.float64))
    for _, parameter in update.parameters():
        parameter.data = parameter.data.double()
    return update


def moved(update: Any, by: float = 0.1) -> Any:
    """The same, away from where it began."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in update.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(by * noise)
    return update


def scorer_of(update: Any, row_tokens: int = 24) -> Scorer:
    packs = update.capabilities.packs
    mode = PackingMode("dense", "test") if packs else PackingMode("padded", "test", fast_head=False)
    return Scorer(update.model, mode, row_tokens=row_tokens, rows_at_once=2)


def trees(count: int, seed: int = 3, scored: int = 4) -> list[Tree]:
    draw = np.random.default_rng(seed)
    found = []
    for k in range(count):
        ids = draw.integers(1, VOCAB, 3 + k % 3 + scored).tolist()
        weights = [0.0] * (len(ids) - scored) + [1.0] * scored
        found.append(Tree.of([Path(ids, weights)]))
    return found


def backward(loss: Tensor, gradient: Tensor | None = None) -> None:
    loss.backward(gradient)


def step(update: Any, given: list[Tree], number: int = 0, **ranks: int) -> Step:
    tokens = [sum(map(size, given)) for size in (supervised, read)]
    mine = given[ranks.get("rank", 0) :: ranks.get("ranks", 1)]
    return Step(number, mine, *tokens, scorer_of(update), backward, **ranks)


def gradient(update: Any) -> Tensor:
    """All gradients in a row, and none are left."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for _, p in update.parameters()]
    flat = torch.cat([g.flatten() for g in found]).clone()
    for _, parameter in update.parameters():
        parameter.grad = None
    return flat
