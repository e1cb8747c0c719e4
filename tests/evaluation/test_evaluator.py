"""The evaluator asks each part of the data as what it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from myosotis import updates
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.kinds import Grades, Pairs
from myosotis.evaluation.evaluator import EvalResult, Evaluator
from myosotis.evaluation.interpolation import turn
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.budget import Budget
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates import Update
from tests.retention.small import byte_tokenizer
from tests.tiny import tiny

TEST = [Tree.fork([3, 4, 5 + k], [[9 + k, 8], [20 + k, 2, 7]]) for k in range(4)]
VALIDATION = [
    replace(Tree.fork([3, 4, 5 + k], [[9 + k, 8]]), grade=(-1) ** k, other=TEST[0])
    for k in range(6)
]


def evaluator() -> Evaluator:
    """Of a run on pairs taken apart: graded answers choose, pairs are reported."""
    renderer = ChatRenderer(byte_tokenizer(), "none")
    return Evaluator(
        Suite((), 0, ""),
        renderer,
        [],
        TEST,
        kind=Pairs(),
        validation=VALIDATION,
        validation_kind=Grades(),
    )


def moved() -> tuple[Update, Scorer]:
    torch.manual_seed(1)
    update = updates.build({"name": "lora", "r": 4})
    update.attach(tiny("llama", torch.float64))
    with torch.no_grad():
        for _, parameter in update.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return update, Scorer(update.model, PackingMode("dense", "test"))


def test_each_half_is_scored_as_what_it_is() -> None:
    """By hand from the log-probs: graded answers with their sign, pairs by what lies between."""
    _, scorer = moved()
    asked = evaluator()
    select = asked.sit_half(scorer, "selection", "tuned").quality
    both = zip(VALIDATION, scorer.evaluate(VALIDATION), strict=True)
    signed = [tree.grade * s.logp[0] / 2 for tree, s in both]
    assert select["separation"].scores == pytest.approx(signed)
    assert select["loglik"].scores == pytest.approx(signed[::2])
    report = asked.sit_half(scorer, "report", "tuned").quality
    margins = [s.logp[0] - s.logp[1] for s in scorer.evaluate(TEST)]
    assert report["margin"].scores == pytest.approx(margins)
    asked.validation = []
    assert asked.half_of_task("selection") == (Pairs(), TEST)


@pytest.mark.parametrize(
    ("metric", "read_in"), [("accuracy", "separation"), ("loglik", "loglik"), ("chrf", "loglik")]
)
def test_a_strength_is_chosen_by_what_both_halves_have(metric: str, read_in: str) -> None:
    update, scorer = moved()
    asked = evaluator()
    with update.disabled():
        base = EvalResult(asked.retention(scorer, "base"), asked.quality(scorer, "base"))
    tuned = EvalResult(asked.retention(scorer, "tuned"), asked.quality(scorer, "tuned"))
    words = {"budget": Budget.of(0.02, "retained"), "strengths": [0.5], "refine": False}
    dialled = turn(asked, scorer, update, base, tuned, metric=metric, **words)  # type: ignore[arg-type]
    assert dialled.choice.metric == read_in
    assert [point.alpha for point in dialled.points] == [0.5, 1.0]
    assert all(point.task is not None for point in dialled.points)
