"""The rows of R: how well one model does the task of every stage of a sequence.

What belongs here: asking a model the held-out examples of all stages, keeping what each scored, and
what rows of them say of a stage. The figures are in `retention/statistics/sequences.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from myosotis.commands.components import tuned_scorer
from myosotis.commands.find_model import of_run
from myosotis.commands.parts import data_of, device_of, evaluator_of, precision_of, scorer_of
from myosotis.commands.rewarding import rewards_of
from myosotis.config import config_hash, instantiate
from myosotis.evaluation import task_metrics
from myosotis.evaluation.evaluator import Evaluator
from myosotis.evaluation.item_files import read_stage_items, write_stage_items
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.models.model_ref import ModelRef
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import Stage, StageScore, Transfer
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.statistics import sequences
from myosotis.retention.statistics.intervals import Clusters
from myosotis.retention.statistics.paired import Paired, paired

Row = list[np.ndarray]
"""The scores of every task's examples by one model, tasks in the order of the stages."""


@dataclass(frozen=True)
class Questions:
    """The held-out examples of every stage, by its name and configuration."""

    stages: Sequence[tuple[str, DictConfig]]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.stages]

    @property
    def cfg(self) -> DictConfig:
        """What the stages have in common: model, device, metric."""
        return self.stages[0][1]

    @cached_property
    def metric(self) -> task_metrics.Metric:
        return task_metrics.metric(self.cfg.task.metric, instantiate.task_metrics(self.cfg))

    @cached_property
    def about(self) -> str:
        """A hash of all that decides what a given model scores: metric, data, model, and what else
        is set in any stage. Only what a stage begins with and what protects it (which changes while
        the stages before it train) is left out."""
        told = []
        for name, cfg in self.stages:
            asked = cfg.copy()
            asked.model.start, asked.control = None, {}
            told.append(f"{name} {config_hash(asked)}")
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]

    @cached_property
    def evaluators(self) -> list[Evaluator]:
        nothing = Suite((), 0, "")
        return [evaluator_of(cfg, data_of(cfg), nothing, rewards_of(cfg)) for _, cfg in self.stages]

    def asked(self, model: ModelRef, after: str) -> list[TaskScore]:
        """Every task's score by one model, loaded for it."""
        loaded, update = model.load(precision_of(self.cfg).weights, device_of(self.cfg))
        scorer = scorer_of(loaded, self.cfg)
        if update is not None:
            scorer = tuned_scorer(scorer, update)
        return [
            one.quality(scorer, f"{name}, {after}", texts=self.metric.generates)[self.metric.name]
            for name, one in zip(self.names, self.evaluators, strict=True)
        ]


def base_row(questions: Questions, at: Path) -> list[TaskScore]:
    """Row 0, of the model that no stage has trained; kept in the file `at`."""
    source = instantiate.model_source(questions.cfg)
    return _kept(questions, at, ModelRef(source.name, source), "base")


def row_after(questions: Questions, folder: RunFolder) -> list[TaskScore]:
    """The row of a finished stage, kept beside its record."""
    return _kept(questions, folder.stage_items, of_run(folder), f"after {folder.path.name}")


def _kept(questions: Questions, at: Path, model: ModelRef, after: str) -> list[TaskScore]:
    about, names = questions.about, questions.names
    if (known := read_stage_items(at, about, names, questions.metric)) is not None:
        return known
    row = questions.asked(model, after)
    write_stage_items(at, about, names, row)
    return row


def stage_of(
    questions: Questions, rows: Sequence[Sequence[TaskScore]], sequence: str, number: int
) -> Stage:
    """What the rows up to stage `number` say of it; `rows[0]` is the base's."""
    metric = questions.metric
    sign = 1.0 if metric.higher_is_better else -1.0
    better = [[sign * np.asarray(score.scores) for score in row] for row in rows]
    clusters = [score.clusters for score in rows[0]]
    return Stage(
        sequence=sequence,
        number=number,
        name=questions.names[number - 1],
        names=questions.names,
        metric=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        scores=[
            _score(name, i, better, clusters[i], sign) for i, name in enumerate(questions.names)
        ],
        backward=_figure(sequences.backward_transfer(better, clusters)),
        forward=_figure(sequences.forward_transfer(better, clusters)),
        forgetting=_figure(sequences.forgetting(better, clusters)),
    )


def _score(name: str, i: int, better: Sequence[Row], clusters: Clusters, sign: float) -> StageScore:
    """Task i after the last of the rows, against the base and against its own stage."""
    now, own = better[-1][i], i + 1
    gained = paired(better[0][i], now, clusters=clusters)
    kept: Paired | None = None
    if own < len(better) - 1:
        kept = paired(better[own][i], now, clusters=clusters)
    return StageScore(
        task=name,
        score=sign * gained.tuned,
        n=gained.n,
        base=sign * gained.base,
        gained=gained.delta,
        gained_lo=gained.lo,
        gained_hi=gained.hi,
        kept=kept and kept.delta,
        kept_lo=kept and kept.lo,
        kept_hi=kept and kept.hi,
    )


def _figure(found: sequences.Effect | None) -> Transfer | None:
    return None if found is None else Transfer(*found)
