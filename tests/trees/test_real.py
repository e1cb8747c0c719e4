"""The one road on the real 135M model: packed equals padded in fp32, scores and gradients."""

from __future__ import annotations

import pytest
import torch

from myosotis import models, updates
from myosotis.data import sources
from myosotis.data.templates import Template
from myosotis.models import ModelSource
from myosotis.trees.attention import Backend
from myosotis.trees.score import Scorer
from myosotis.trees.tree import Tree

PADDED, DENSE = Backend("padded", "test", fast_head=False), Backend("dense", "test")
MODEL = ModelSource("wheel", "smollm2-135m")


@pytest.mark.slow
def test_packing_changes_neither_scores_nor_gradients() -> None:
    """DESIGN §2: log-probs within 5e-5 nats a token, gradients within 1e-5 relative.

    The gradients are held against padded rows in float64: in fp32 the padded rows themselves are
    off by several 1e-5, because logits of this model are small differences of large sums.
    """
    base = models.load(MODEL, torch.float32)
    template = Template(base.tokenizer)
    records = sources.docstrings(train_items=6, max_source_chars=400).train
    trees = [Tree.of([template.render(record)]) for record in records]
    first = trees[0].paths()[0].ids
    trees.append(Tree.fork(first[:20], [first[20:26], first[30:33], first[26:40]]))
    torch.manual_seed(0)
    update = updates.build({"name": "lora", "r": 8})
    update.attach(base.model)
    for name, parameter in update.parameters():
        if "lora_B" in name:  # zero at the start, and then no gradient reaches A
            torch.nn.init.normal_(parameter, std=0.02)
    total = sum(tree.scored for tree in trees)

    def measured(backend: Backend) -> tuple[torch.Tensor, list]:
        scorer = Scorer(update.model, backend, row_tokens=512)
        update.model.zero_grad()
        for batch in scorer.batches(trees):
            (-scorer.score(batch).logp_B.sum() / total).backward()
        gradient = torch.cat([p.grad.flatten().double() for _, p in update.parameters()])
        return gradient, [s.logp / s.weight for s in scorer.evaluate(trees)]

    padded, packed = measured(PADDED), measured(DENSE)
    update.model.double()
    exact, _ = measured(PADDED)
    apart = max(abs(a - b).max() for a, b in zip(padded[1], packed[1], strict=True))
    off = {name: ((g - exact).norm() / exact.norm()).item()
           for name, (g, _) in {"padded": padded, "packed": packed}.items()}  # fmt: skip
    print(f"log-probs a token apart by {apart:.2g} nats; gradients off float64 by {off}")
    assert apart <= 5e-5
    assert off["packed"] <= 1e-5
