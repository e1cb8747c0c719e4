"""How good a model is at telling answers apart: pairs, graded answers, labels.

As in `task_metrics.py` every metric gives a score a tree, so that base and tuned model are compared
in pairs; nothing is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myosotis.evaluation.task_metrics import Advance, Scores, TaskScore, loglik, scored
from myosotis.trees.lm_head import LABEL_HEAD, VALUE_HEAD
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree


def right(margins: NDArray[Any]) -> Scores:
    """1 where a margin is above 0, one half on a tie: a coin is right in half of the ties."""
    return np.where(margins == 0, 0.5, margins > 0).astype(np.float64)


def preferred(
    scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
) -> dict[str, TaskScore]:
    """Of pairs (path 0 chosen, path 1 rejected): how often and by how much the model itself finds
    the chosen answer more likely, the log-likelihood a token of the chosen one, and how far the two
    are apart a token (half of it, as `graded` has it)."""
    found = scorer.evaluate(trees, advance)
    margins = np.array([s.logp[0] - s.logp[1] for s in found])
    tokenwise = np.array([s.logp / s.weight for s in found]).reshape(-1, 2)
    values = {
        "accuracy": right(margins),
        "margin": margins,
        "loglik": tokenwise[:, 0],
        "separation": (tokenwise[:, 0] - tokenwise[:, 1]) / 2,
    }
    return {name: scored(name, scores) for name, scores in values.items()}


def rewarded(
    scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
) -> dict[str, TaskScore]:
    """Of pairs: how often, and by how much, the chosen answer's reward is the higher one.

    A model without a value head gives every answer the same reward.
    """
    margins = np.zeros(len(trees))
    if hasattr(scorer.model, VALUE_HEAD):
        margins = np.array([s.logp[0] - s.logp[1] for s in scorer.evaluate(trees, advance)])
    values = {"accuracy": right(margins), "margin": margins}
    return {name: scored(name, scores) for name, scores in values.items()}


def by_length(trees: Sequence[Tree]) -> tuple[str, TaskScore]:
    """The accuracy of picking the longer answer, or the shorter: what is right more often."""
    chosen, rejected = np.array([tree.depth[tree.leaves] for tree in trees]).T
    longer = right(chosen - rejected)
    which, found = ("longer", longer) if longer.mean() >= 0.5 else ("shorter", 1 - longer)
    return f"a rule that picks the {which} answer", scored("accuracy", found)


def graded(
    scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
) -> dict[str, TaskScore]:
    """Of graded answers: the log-likelihood a token, negated where the answer is not one to give
    (`separation`), and that of the ones to give."""
    every = loglik(scorer, trees, advance).scores
    grades = np.array([tree.grade for tree in trees])
    values = {"separation": grades * every, "loglik": every[grades > 0]}
    return {name: scored(name, scores) for name, scores in values.items()}


def classified(
    scorer: Scorer, trees: Sequence[Tree], labels: int, advance: Advance | None = None
) -> dict[str, TaskScore]:
    """Log-likelihood and accuracy of the label of each tree (a path that ends in a label).

    A model without a classifier is at chance: each of the `labels` is as likely.
    """
    if not hasattr(scorer.model, LABEL_HEAD):
        n = len(trees)
        values = {"loglik": np.full(n, -np.log(labels)), "accuracy": np.full(n, 1 / labels)}
    else:
        found = scorer.evaluate(trees, advance)
        values = {
            "loglik": np.array([s.logp[0] for s in found]),
            "accuracy": np.array([float(s.greedy[0]) for s in found]),
        }
    return {name: scored(name, scores) for name, scores in values.items()}
