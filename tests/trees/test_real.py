"""The one road on the real 135M model: packed equals padded in fp32, scores and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from myosotis import updates
from myosotis.data import sources
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.tokenize import sides
from myosotis.models.load import ModelSource, load_base_model, load_tokenizer
from myosotis.objectives import with_reference
from myosotis.objectives.preference import DPO
from myosotis.objectives.reference_logprobs import live
from myosotis.trees.attention import PackingMode
from myosotis.trees.batch import Batch
from myosotis.trees.scorer import BranchLogProbs, Scorer
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update

PADDED, DENSE = PackingMode("padded", "test", fast_head=False), PackingMode("dense", "test")
MODEL = ModelSource("wheel", "smollm2-135m")


@pytest.fixture
def update() -> Update:
    """A LoRA of rank 8 on the real model, away from its start: with B at zero no gradient reaches
    A."""
    base = load_base_model(MODEL, torch.float32)
    torch.manual_seed(0)
    update = updates.build({"name": "lora", "r": 8})
    update.attach(base.model)
    for name, parameter in update.parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return update


def gradient(
    update: Update,
    backend: PackingMode,
    trees: list[Tree],
    loss: Callable[[BranchLogProbs, Batch], torch.Tensor],
) -> torch.Tensor:
    """Of the mean over the trees, all parameters as one vector in float64."""
    scorer = Scorer(update.model, backend, row_tokens=512)
    update.model.zero_grad()
    for batch in scorer.batches(trees):
        (loss(scorer.score(batch), batch) / len(trees)).backward()
    return torch.cat([p.grad.flatten().double() for _, p in update.parameters()])


@pytest.mark.slow
def test_packing_changes_neither_scores_nor_gradients(update: Update) -> None:
    """docs/architecture.md: log-probs within 5e-5 nats a token, gradients within 1e-5 relative.

    The gradients are held against padded rows in float64: in fp32 the padded rows themselves are
    off by several 1e-5, because logits of this model are small differences of large sums.
    """
    template = ChatRenderer(load_tokenizer(MODEL))
    records = sources.docstrings(train_items=6, max_source_chars=400).train
    trees = [Tree.of([template.render(record)]) for record in records]
    first = trees[0].paths()[0].ids
    trees.append(Tree.fork(first[:20], [first[20:26], first[30:33], first[26:40]]))
    total = sum(tree.scored for tree in trees)

    def measured(backend: PackingMode) -> tuple[torch.Tensor, list]:
        scorer = Scorer(update.model, backend, row_tokens=512)
        found = gradient(update, backend, trees, lambda b, _: -b.logp_B.sum() * len(trees) / total)
        return found, [s.logp / s.weight for s in scorer.evaluate(trees)]

    padded, packed = measured(PADDED), measured(DENSE)
    update.model.double()
    exact, _ = measured(PADDED)
    apart = max(abs(a - b).max() for a, b in zip(padded[1], packed[1], strict=True))
    off = {name: ((g - exact).norm() / exact.norm()).item()
           for name, (g, _) in {"padded": padded, "packed": packed}.items()}  # fmt: skip
    print(f"log-probs a token apart by {apart:.2g} nats; gradients off float64 by {off}")
    assert apart <= 5e-5
    assert off["packed"] <= 1e-5


@pytest.mark.slow
def test_pairs_that_share_their_prompt_have_the_gradients_of_separate_rows(update: Update) -> None:
    """DPO on real pairs, the prompt computed once, within 1e-5 relative of each answer in a row of
    its own. Separate rows are in float64, for the reason above."""
    template = ChatRenderer(load_tokenizer(MODEL))
    words = {"train_items": 6, "max_source_chars": 300, "hard_by": "text"}
    pairs = sources.docstring_pairs(**words).train
    trees = [Tree.of([template.render(side) for side in sides(pair)]) for pair in pairs]
    trees = live(trees, Scorer(update.model, DENSE, row_tokens=512))
    trees = [replace(tree, reference=tree.reference - [1.0, 0.0]) for tree in trees]

    def loss(branches: BranchLogProbs, batch: Batch) -> torch.Tensor:
        return DPO().loss(with_reference(branches, batch, trees, DPO()))

    packed = gradient(update, DENSE, trees, loss)
    update.model.double()
    rows = gradient(update, PADDED, trees, loss)
    off = ((packed - rows).norm() / rows.norm()).item()
    print(f"gradients of packed pairs off those of separate rows by {off:.2g}")
    assert off <= 1e-5
