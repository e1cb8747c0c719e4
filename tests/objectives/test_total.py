"""The loss of a step and that of held-out examples are one sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from myosotis import updates
from myosotis.data.chat_template import ChatRenderer
from myosotis.evaluation.evaluator import Evaluator
from myosotis.objectives import Objective
from myosotis.objectives.kto import KTO
from myosotis.objectives.preference import DPO
from myosotis.objectives.reference_logprobs import live
from myosotis.objectives.reward_model import Reward
from myosotis.objectives.sft import SFT
from myosotis.objectives.total import kl_estimate, total
from myosotis.retention.benchmarks.task import Suite
from myosotis.training.module import FineTuning
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path, Target, Tree
from tests.retention.small import byte_tokenizer
from tests.tiny import tiny

DENSE = PackingMode("dense", "test")


def answers() -> list[Tree]:
    return [Tree.fork([3, 4, 5 + k], [[9 + k, 8] + [7] * k]) for k in range(5)]


def pairs() -> list[Tree]:
    return [Tree.fork([3, 4, 5 + k], [[9 + k] * (k + 1), [20 + k, 2]]) for k in range(5)]


def graded() -> list[Tree]:
    return [
        replace(tree, grade=(-1) ** k, other=Tree.fork([3, 4, 5 + k], [[30 + k, 31]]))
        for k, tree in enumerate(answers())
    ]


def rewarded() -> list[Tree]:
    return [
        Tree.of(Path(p.ids, [0.0] * len(p.ids), Target.VALUE) for p in tree.paths())
        for tree in pairs()
    ]


def moved(needs_value_head: bool) -> updates.Update:
    """An update that does something, so that nothing is 0 by being the base."""
    torch.manual_seed(1)
    head = {"value_head": 1.0} if needs_value_head else {}
    update = updates.build({"name": "lora", "r": 4, **head})
    update.attach(tiny("llama", torch.float64))
    with torch.no_grad():
        for _, parameter in update.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return update


class Step(FineTuning):
    """The training step's own sum, without a trainer around it."""

    def optimizers(self, *args: Any, **kwargs: Any) -> Any:
        return torch.optim.SGD([p for _, p in self.update.parameters()], lr=0.0)

    def manual_backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()

    def _no_sync(self) -> Any:
        return torch.enable_grad()


@pytest.mark.parametrize(
    ("objective", "trees"),
    [
        (SFT(label_smoothing=0.1), answers()),
        (DPO(), pairs()),
        (KTO(beta=0.3), graded()),
        (Reward(), rewarded()),
    ],
    ids=["sft", "dpo", "kto", "reward"],
)
def test_training_and_held_out_loss_are_the_same_number(
    objective: Objective, trees: Sequence[Tree]
) -> None:
    """Of the same weights and examples, with all metrics of the objective."""
    update = moved(objective.needs_value_head)
    scorer = Scorer(update.model, DENSE, row_tokens=16)
    if objective.needs_reference:
        with update.disabled():
            trees = live(trees, scorer)
    renderer = ChatRenderer(byte_tokenizer(), "none")
    evaluator = Evaluator(Suite((), 0, ""), renderer, [], [], validation=trees)
    held_out = evaluator.held_out(scorer, objective)
    words: dict[str, Any] = {"optimizer": None, "schedule": None}
    step = Step(update, objective, scorer, **words)
    normalizer = sum(objective.normalizer(tree) for tree in trees)
    loss = step._accumulate(step._with_reference(trees), normalizer)
    trained = {"loss": float(loss)} | {name: float(value) for name, value in step.metrics.items()}
    assert len(scorer.batches(trees)) > 1  # the sum is one of several batches
    assert abs(loss) > 1e-3
    assert trained == pytest.approx(held_out, rel=1e-6, abs=1e-9)


def test_a_total_does_not_depend_on_rows_and_empty_batches_add_nothing() -> None:
    update, objective, trees = moved(needs_value_head=False), SFT(), answers()
    losses = []
    for row_tokens, empty in ((8, 0), (512, 0), (16, 3)):
        scorer = Scorer(update.model, DENSE, row_tokens=row_tokens)
        shares: list[float] = []
        loss, metrics = total(
            scorer,
            objective,
            trees,
            [*scorer.batches(trees), *[scorer.empty()] * empty],
            normalizer=20.0,
            kl_estimate=0.0,
            each=lambda batch, share, shares=shares: shares.append(float(share)),
        )
        assert (float(loss), metrics) == (pytest.approx(sum(shares)), {})
        assert shares[len(shares) - empty :] == [0.0] * empty
        losses.append(float(loss))
    by_hand = -sum(s.logp[0] for s in scorer.evaluate(trees)) / 20
    assert losses == pytest.approx([by_hand] * 3, rel=1e-6)


def test_the_kl_estimate_is_shared_by_all_ranks() -> None:
    """Two ranks with the same trees: the mean gain of both is that of one."""
    update, objective = moved(needs_value_head=False), KTO()
    scorer = Scorer(update.model, DENSE)
    with update.disabled():
        trees = live(graded(), scorer)
    alone = kl_estimate(scorer, objective, trees)
    assert abs(alone) > 1e-3
    doubled = kl_estimate(scorer, objective, trees, lambda x: 2 * x)
    assert doubled == pytest.approx(alone, rel=1e-12)
    assert kl_estimate(scorer, SFT(), trees) == 0.0
    assert kl_estimate(scorer, objective, []) == 0.0
