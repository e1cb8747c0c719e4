"""KL of two models per token, against a plain log-softmax over whole paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from myosotis import updates
from myosotis.trees.attention import PackingMode
from myosotis.trees.batch import Batch
from myosotis.trees.kl import divergence, kl
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path, Tree
from tests.tiny import VOCAB, tiny
from tests.trees.test_scorer import shapes

Elsewhere = Callable[[], AbstractContextManager[None]]


def elsewhere(model: nn.Module) -> Elsewhere:
    """Other weights inside: the same model, every tensor moved a little (its head too)."""

    @contextmanager
    def other() -> Iterator[None]:
        kept = {name: p.detach().clone() for name, p in model.named_parameters()}
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in model.parameters():
                p += 0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in model.named_parameters():
                    p.copy_(kept[name])

    return other


def plain(model: nn.Module, trees: list[Tree], other: Elsewhere) -> tuple[list[float], list[float]]:
    """Sum of weight * KL over each path on its own, and of the weights, by tree; with nothing of
    our machinery."""

    def predicted(path: Path) -> torch.Tensor:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([path.ids])).logits
        return logits[0, -len(path.ids) :].double().log_softmax(-1)

    paths = [tree.paths() for tree in trees]
    p = [[predicted(path) for path in of_tree] for of_tree in paths]
    with other():
        q = [[predicted(path) for path in of_tree] for of_tree in paths]
    totals, counts = [], []
    for of_tree, p_tree, q_tree in zip(paths, p, q, strict=True):
        total = count = 0.0
        for path, p_TV, q_TV in zip(of_tree, p_tree, q_tree, strict=True):
            kl_T = (q_TV.exp() * (q_TV - p_TV)).sum(-1)
            total += float(sum(w * kl_T[at - 1] for at, w in enumerate(path.weights) if w))
            count += sum(path.weights)
        totals.append(total)
        counts.append(count)
    return totals, counts


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize(
    "backend", [PackingMode("dense", "test"), PackingMode("padded", "test", fast_head=False)]
)
def test_equals_log_softmax_in_float64(family: str, backend: PackingMode) -> None:
    """Every shape of tree, packed and padded, with the fast head (soft-capped) and the slow."""
    model = tiny(family, torch.float64)
    trees = [tree for group in shapes().values() for tree in group]
    scorer = Scorer(model, backend, row_tokens=48, rows_at_once=2)
    model.train()
    found, weight = divergence(scorer, trees, elsewhere(model))
    assert model.training
    model.eval()
    totals, counts = plain(model, trees, elsewhere(model))
    assert found == pytest.approx(totals, abs=1e-9)
    assert weight == pytest.approx(counts)
    assert found.min() > 0.01


def test_by_hand() -> None:
    """q = (1/2, 1/4, 1/4), p = (1/4, 1/2, 1/4): 1/2 ln 2 - 1/4 ln 2 = 0.173287 nats.

    Adding a constant to all logits changes nothing; equal logits give exactly 0.
    """
    q, p = torch.tensor([[2.0, 1.0, 1.0]]).log(), torch.tensor([[1.0, 2.0, 1.0]]).log()
    assert kl(q + 3, p - 5).item() == pytest.approx(0.173287, abs=1e-6)
    assert kl(q, q).item() == 0
    assert kl(q.bfloat16(), q.bfloat16()).dtype == torch.float32


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama", torch.float64)
    trees = [tree for group in shapes().values() for tree in group]
    scorer = Scorer(model, PackingMode("dense", "test"))
    whole, _ = divergence(scorer, trees, elsewhere(model))
    monkeypatch.setattr("myosotis.trees.kl.CHUNK", 3)
    told: list[int] = []
    parts, _ = divergence(scorer, trees, elsewhere(model), told.append)
    assert parts == pytest.approx(whole, abs=1e-12)
    assert sum(told) >= len(trees)


def test_memory_that_runs_out_halves_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama", torch.float64)
    trees = [tree for group in shapes().values() for tree in group]
    scorer = Scorer(model, PackingMode("dense", "test"), row_tokens=40, rows_at_once=4)
    whole, weight = divergence(scorer, trees, elsewhere(model))
    predictor = scorer.predictor

    def crowded(batch: Batch) -> Any:
        if batch.ids_RL.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return predictor(batch)

    monkeypatch.setattr(scorer, "predictor", crowded)
    halved, same = divergence(scorer, trees, elsewhere(model))
    assert scorer.evaluated_at_once < 4
    assert halved == pytest.approx(whole, abs=1e-10) and (same == weight).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "lora", "r": 4},
        {"name": "full"},  # the head is tied to the embeddings and moves with them
        {"name": "prefix", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5},
        {"name": "prompt", "peft_type": "PROMPT_TUNING", "num_virtual_tokens": 5},
    ],
    ids=lambda settings: settings["name"],
)
def test_against_the_base_of_an_update(settings: dict[str, object]) -> None:
    """`update.disabled` is the other model; before training it is 0 where the start is the base."""
    torch.manual_seed(3)
    update = updates.build(settings)
    update.attach(tiny("llama"))
    able = update.capabilities
    backend = PackingMode("dense" if able.packs else "padded", "test", fast_head=able.packs)
    scorer = Scorer(update.model, backend, row_tokens=64)
    trees = [Tree.fork(list(range(3, 3 + n)), [[40 + n, 50, 60 + n, 2]]) for n in range(4, 9)]
    at_start, _ = divergence(scorer, trees, update.disabled)
    if able.identity_at_init:
        assert np.abs(at_start).max() <= 1e-9 * VOCAB
    else:
        assert at_start.min() > 1e-4
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, p in update.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    found, _ = divergence(scorer, trees, update.disabled)
    update.model.eval()
    expected, _ = plain(update.model, trees, update.disabled)
    assert found == pytest.approx(expected, abs=2e-5)
    assert found.min() > 1e-3
