"""Asking a model: a suite and a scorer in, one score an item and metric out.

What belongs here: turning log-likelihoods into each item's scores. What is kept of them is the
`Measurement` of `scores.py`.

Beside the task's own metrics every multiple-choice item gets continuous metrics (docs/science.md,
section 3). With z_c = log-prob of choice c / its characters (the normalisation of lm-eval's
acc_norm, so that p_gold leads exactly where acc_norm is right) and p = softmax(z):

    p_gold       p of the gold choice (of all gold choices together)
    bits_per_byte  -log2-prob of the gold choice (or of the text) / its bytes in UTF-8

A written answer has lm-eval's metrics by the first of the task's filters, those of further filters
as `metric,filter`, and `answered`: whether an answer was found in the text at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from myosotis.retention.benchmarks.requests import WRITTEN, Answer, Prompt
from myosotis.retention.benchmarks.scores import Floats, Measurement, TaskScores
from myosotis.retention.benchmarks.task import CORPUS_ONLY, Item, Suite, Task
from myosotis.trees.scorer import TreeScore
from myosotis.trees.tree import Tree
from myosotis.utils.errors import DataError, RunError


class TreeScorer(Protocol):
    """What is needed of `myosotis.trees.Scorer`."""

    def evaluate(
        self, trees: Sequence[Tree], advance: Callable[[int], object] | None = None
    ) -> list[TreeScore]: ...


@runtime_checkable
class Writer(Protocol):
    """What a suite with prompts needs beside: see `myosotis.retention.benchmarks.eval_model`."""

    def write(
        self, prompts: Sequence[Prompt], advance: Callable[[int], object] | None = None
    ) -> list[str]: ...


def measure(
    suite: Suite, scorer: TreeScorer, advance: Callable[[int], object] | None = None
) -> Measurement:
    """Ask a model everything in the suite. `advance` counts `suite.size` trees and prompts."""
    return scored(suite, ask(suite, scorer, advance))


def ask(
    suite: Suite, scorer: TreeScorer, advance: Callable[[int], object] | None = None
) -> dict[tuple[str, str], list[Answer]]:
    """The answers to each item's requests, by task and item."""
    answers = suite.request_trees.answers(scorer.evaluate(suite.request_trees.trees, advance))
    answered = {(i.task, i.id): said for i, said in zip(suite.items, answers, strict=True)}
    if not suite.prompts:
        return answered
    if not isinstance(scorer, Writer):
        raise TypeError("a suite with prompts is asked through EvalModel")
    texts = iter(scorer.write(suite.prompts, advance))
    for item in suite.items:
        said = answered[item.task, item.id]
        for place, request in enumerate(item.requests):
            if request.prompt is not None:
                said[place] = Answer(0.0, False, next(texts))
    return answered


def scored(suite: Suite, answers: Mapping[tuple[str, str], list[Answer]]) -> Measurement:
    """The scores of answers to (at least) everything in the suite."""
    return Measurement(
        {t.name: task_scores(t, [answers[i.task, i.id] for i in t.items]) for t in suite}
    )


def task_scores(task: Task, answers: Sequence[Sequence[Answer]]) -> TaskScores:
    """Score the answers to one task's items.

    Metrics that some item has no finite value of are left out; `DataError` if that is the metric
    verdicts rest on, `RunError` if the model's own log-probs are not finite.
    """
    if not all(math.isfinite(answer.logp) for said in answers for answer in said):
        raise RunError(
            f"The model's log-probs on the benchmark {task.name!r} are not finite.",
            "Its weights or activations have overflowed: lower optimizer.lr, or use fp32.",
        )
    given = list(zip(task.items, answers, strict=True))
    verdicts = [item.judge(said) for item, said in given]
    rows = [item_scores(task, *pair, v) for pair, v in zip(given, verdicts, strict=True)]
    written = task.kind == WRITTEN
    scored = [[] if written else said[: len(item.choices) or None] for item, said in given]
    logp = [[answer.logp for answer in said] for said in scored]
    metrics = [
        m for m in (rows[0] if rows else ()) if all(math.isfinite(r.get(m, math.nan)) for r in rows)
    ]
    if task.metric not in metrics:
        raise DataError(
            f"The benchmark {task.name!r} gave no finite {task.metric} for every item "
            f"(it gave {', '.join(metrics) or 'nothing'}).",
            "Leave it out of retention.suite.",
        )
    by_bytes = task.metric == "bits_per_byte"
    return TaskScores(
        task=task.name,
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        accuracy_like=task.accuracy_like,
        items=[item.id for item in task.items],
        aggregates=_aggregates(task, verdicts),
        scores={metric: np.array([row[metric] for row in rows]) for metric in metrics},
        weights=np.array(
            [_bytes(i, v) if by_bytes else 1.0 for i, v in zip(task.items, verdicts, strict=True)]
        ),
        choice=np.array([_taken(task, *x) for x in zip(task.items, logp, strict=True)], np.int64),
        gold=np.array([item.gold[0] if item.gold else -1 for item in task.items], np.int64),
        logp=np.array([value for values in logp for value in values]),
        lengths=np.array([float(n) for item in task.items for n in item.lengths]),
        offsets=np.cumsum([0, *map(len, logp)]).astype(np.int64),
        texts=[said[0].text for said in answers] if written else [],
        **_drawn(task),
    )


def as_drawn(scores: TaskScores, task: Task) -> TaskScores:
    """The same scores, with what the suite says of how its items were drawn: a measurement from the
    cache, or one that was made in parts, may have been drawn otherwise."""
    return replace(scores, **_drawn(task), whole=None)


def _drawn(task: Task) -> dict[str, Any]:
    """What is the suite's to say of a task's scores, in the order of its items."""
    return {
        "chance": task.chance,  # of the items at hand: some have more choices than others
        "items_of": task.population,
        "note": task.substitution,
        "identity": task.identity(),
        "clusters": [item.cluster for item in task.items],
        "halves": [item.half for item in task.items],
        "stratum": [item.stratum for item in task.items] if task.shares else [],
        "shares": list(task.shares),
    }


def _aggregates(task: Task, verdicts: Sequence[dict[str, Any]]) -> dict[str, float]:
    """lm-eval's own figure for each metric, where it can be computed on these items."""
    figures: dict[str, float] = {}
    for metric, aggregate in task.aggregations.items():
        values = [verdict[metric] for verdict in verdicts if metric in verdict]
        try:
            figures[metric] = float(aggregate(values))
        except Exception:  # noqa: BLE001  (f1 of one class, an empty mean ...: no figure then)
            continue
    return figures


def item_scores(
    task: Task, item: Item, answers: Sequence[Answer], verdict: dict[str, Any]
) -> dict[str, float]:
    """Every number that is a score of this one item: lm-eval's, and the continuous metrics."""
    own = {
        metric: float(value)
        for metric, value in verdict.items()
        if metric not in CORPUS_ONLY and isinstance(value, (int, float, np.number))
    }
    if task.kind == "multiple_choice":
        logp = np.array([answer.logp for answer in answers[: len(item.choices)]])
        right = float(int(np.argmax(logp)) in item.gold)
        return {"acc": right, **own, **continuous_metrics(logp, item)}
    if task.kind == WRITTEN:
        return own
    total = sum(answer.logp for answer in answers)
    bits = -total / math.log(2) / _bytes(item, verdict)
    return {**own, "nll": -total, "bits_per_byte": bits}


def continuous_metrics(logp: Floats, item: Item) -> dict[str, float]:
    """Of a multiple-choice item, beside its accuracy; see the head of this file."""
    if not item.gold:
        return {}
    z = logp / np.array(item.lengths, float)
    p = softmax(z)
    gold = np.isin(np.arange(len(z)), item.gold)
    best = max(item.gold, key=lambda choice: logp[choice])
    return {
        "p_gold": float(p[gold].sum()),
        "bits_per_byte": float(-logp[best] / math.log(2) / item.num_bytes[best]),
    }


def softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max())
    return e / e.sum()


def _taken(task: Task, item: Item, logp: list[float]) -> int:
    """The choice that the primary metric calls the model's answer."""
    if not item.choices:
        return -1
    by = np.array(item.lengths, float) if task.metric == "acc_norm" else 1.0
    return int(np.argmax(np.array(logp) / by))


def _bytes(item: Item, verdict: dict[str, Any]) -> float:
    """Bytes that a text's bits are spread over: lm-eval's count where the task gives one."""
    given = verdict.get("bits_per_byte")
    return float(given[1]) if isinstance(given, tuple) else float(sum(item.num_bytes))
