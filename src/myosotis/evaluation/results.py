"""What a run found: two evaluations become the rows of its record.

Pure functions of measurements; nothing here touches a model. What is said of them is in `report/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from myosotis.data.kinds import right
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.records.schema import (
    Baseline,
    HalfResult,
    RetentionRow,
    SuiteVerdict,
    TaskQuality,
)
from myosotis.retention.benchmarks.scores import Measurement, tasks_in_mean
from myosotis.retention.benchmarks.task import Half
from myosotis.retention.budget import Budget
from myosotis.retention.compare import Comparison, compare
from myosotis.retention.statistics.aggregate import Changed, resampled
from myosotis.retention.statistics.paired import LEVEL, forgetting, paired


def retention_rows(
    base: Measurement, tuned: Measurement, budget: Budget, *, level: float = LEVEL
) -> Comparison:
    """The paired change of every task, and of the suite's mean; verdicts are read at `level`."""
    return compare(base.tasks, tuned.tasks, budget, level=level)


def scores_only(measured: Measurement) -> list[RetentionRow]:
    """Rows of a model that there is no base to compare with."""
    return [
        RetentionRow(
            task=name,
            metric=task.metric,
            higher_is_better=task.higher_is_better,
            chance=task.chance,
            n=len(task.items),
            items_of=task.items_of,
            tuned=task.mean,
            note=task.note,
        )
        for name, task in measured.tasks.items()
    ]


def metrics(sitting: EvalResult, base: Measurement | None = None) -> dict[str, float]:
    """`retention/<task>`, `retention/mean` and `task/<metric>` of one sitting; the mean is over the
    tasks of the `base`'s, where this is not the base's own."""
    tasks = sitting.retention.tasks
    found = {f"retention/{name}": task.mean for name, task in tasks.items()}
    like = [tasks[name].mean for name in tasks_in_mean(base.tasks if base else tasks)]
    if like:
        found["retention/mean"] = sum(like) / len(like)
    return found | {f"task/{name}": q.mean for name, q in sitting.quality.items()}


def forgetting_metrics(
    rows: Sequence[RetentionRow], suite: SuiteVerdict | None
) -> dict[str, float]:
    """`forgetting/<task>` and `forgetting/mean`: base minus tuned, positive means worse."""
    found = {
        f"forgetting/{_metric_name(row)}": forgetting(row.base, row.tuned, row.higher_is_better)
        for row in rows
        if row.base is not None and row.tuned is not None
    }
    if suite is not None and suite.delta is not None:
        found["forgetting/mean"] = -suite.delta
    return found


def _metric_name(row: RetentionRow) -> str:
    """Bits per byte stands apart from accuracies in name, too."""
    return f"{row.task}_bpb" if row.metric == "bits_per_byte" else row.task


def task_quality(base: TaskScore, tuned: TaskScore, *, note: str = "") -> TaskQuality:
    """The paired change of task quality over held-out examples, with its 95 % interval."""
    change = changed(base, tuned)
    if change.clusters < change.n:
        shared = (
            f"{change.n} examples share {change.clusters} files or groups: the interval is theirs"
        )
        note = f"{note}; {shared}" if note else shared
    return TaskQuality(
        metric=base.metric,
        higher_is_better=base.higher_is_better,
        base=base.mean,
        tuned=tuned.mean,
        n=len(base.scores),
        delta=change.delta,
        lo=change.lo,
        hi=change.hi,
        unit=base.unit,
        note=note,
    )


def changed(base: TaskScore, tuned: TaskScore) -> Changed:
    """The change of a metric and its interval: of means as everywhere (`statistics/paired.py`), of
    what is no mean by resampling examples, or their clusters, for both sides together."""
    if base.aggregate is None or tuned.aggregate is None:
        found = paired(
            base.scores,
            tuned.scores,
            clusters=tuned.clusters,
            higher_is_better=base.higher_is_better,
        )
        return Changed(found.delta, found.lo, found.hi, found.n, found.clusters)
    return resampled(base.aggregate, tuned.aggregate, len(tuned.scores), tuned.clusters)


def task_summary(base: EvalResult, tuned: EvalResult, primary: str) -> TaskQuality:
    """The primary metric, with the others as its `extra`."""
    rows = {name: task_quality(base.quality[name], tuned.quality[name]) for name in tuned.quality}
    first = rows.pop(primary)
    if (rewards := _reward_accuracy(base, tuned)) is not None:
        rows["reward_accuracy"] = rewards
    return replace(first, extra=list(rows.values()))


def task_sources(
    base: EvalResult, tuned: EvalResult, primary: str, sources: Sequence[str]
) -> dict[str, TaskQuality]:
    """The primary metric for each of several sources; `sources[i]` is that of held-out example i.

    Empty for one source alone, and for scores that are not one an example.
    """
    before, after = base.quality[primary], tuned.quality[primary]
    sources = sources[: len(after.scores)]  # the first few alone are answered in words
    if len(set(sources)) < 2 or len(sources) != len(after.scores):
        return {}
    places = {
        name: [i for i, one in enumerate(sources) if one == name] for name in sorted(set(sources))
    }
    return {
        name: task_quality(before.taking(members), after.taking(members))
        for name, members in places.items()
    }


def _reward_accuracy(base: EvalResult, tuned: EvalResult) -> TaskQuality | None:
    """Of pairs: the share whose chosen answer gained more on the base than the rejected one."""
    if not {"margin", "loglik"} <= base.quality.keys():  # a reward model's accuracy is this one
        return None
    gain = tuned.quality["margin"].scores - base.quality["margin"].scores
    even, unit = np.full(len(gain), 0.5), "share of pairs"
    return task_quality(
        TaskScore("reward_accuracy", True, unit, even),
        TaskScore(
            "reward_accuracy", True, unit, right(gain), clusters=tuned.quality["margin"].clusters
        ),
        note="the base has gained nothing on itself: one in two",
    )


def halves(
    base: EvalResult, tuned: EvalResult, primary: str, budget: Budget, level: float = LEVEL
) -> dict[str, HalfResult]:
    """Task quality and the suite's verdict on each half of the items, which share none.

    Every other held-out example belongs to one half; clusters of them are not divided. A half of
    fewer than two examples, or of no benchmark item, says nothing of its part.
    """
    found: dict[str, HalfResult] = {}
    before, after = base.quality[primary], tuned.quality[primary]
    for name, places in zip(get_args(Half), after.halves(), strict=True):
        parts = [before.taking(places), after.taking(places)]
        task = task_quality(*parts) if len(parts[0].scores) > 1 else None
        sides = base.retention.half(name), tuned.retention.half(name)
        _, suite = retention_rows(*sides, budget, level=level) if sides[0].tasks else ([], None)
        found[name] = HalfResult(task, suite)
    return found


PROMPTED = {
    "solved": "the base with {examples} in its prompt",
    "retrieved": "the base with {examples} like the question in its prompt",
    "instruction": "the base with an instruction",
}


def baselines(base: EvalResult, tuned: EvalResult) -> list[Baseline]:
    """The tuned model against what it has to beat without training: the base that was asked
    otherwise, and rules that need no model."""
    found = []
    for prompted in base.prompted:
        k = prompted.shots
        name = PROMPTED[prompted.way].format(examples=f"{k} solved example{'s' * (k != 1)}")
        fewer = prompted.fewest < k
        note = f"{prompted.fewest} where there was no room for more" if fewer else ""
        found += [_baseline(name, q, base, tuned, note) for q in prompted.quality.values()]
    found += [_baseline(name, rule, base, tuned) for name, rule in base.rules.items()]
    return found


def _baseline(
    name: str, shown: TaskScore, base: EvalResult, tuned: EvalResult, note: str = ""
) -> Baseline:
    change = changed(shown, tuned.quality[shown.metric])
    gained = changed(base.quality[shown.metric], shown)
    return Baseline(
        name=name,
        metric=shown.metric,
        value=shown.mean,
        delta=change.delta,
        lo=change.lo,
        hi=change.hi,
        n=len(shown.scores),
        note=note,
        gained=gained.delta,
        gained_lo=gained.lo,
        gained_hi=gained.hi,
    )
