"""The files of items that lie beside a record: what base and tuned model scored on each.

What belongs here: writing them, as parquet. They are read by `records/items.py`; those of the
stages of a sequence, which nothing else reads, here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from myosotis.data.example import pair_key
from myosotis.data.sft import Example
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.task_metrics import Metric, TaskScore
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.sequential_eval import CONTINUOUS_METRICS
from myosotis.utils.atomic_write import replacing
from myosotis.utils.read_file import require_regular

BENCHMARK_COLUMNS = (
    "task",
    "item",
    "half",
    "cluster",
    "weight",  # in the task's mean: bytes of a text, more where items were drawn less often
    "metric",
    "gold",
    "base",
    "tuned",
    *(f"{metric}_{side}" for metric in CONTINUOUS_METRICS for side in ("base", "tuned")),
    "choice_base",
    "choice_tuned",
)
STAGE_COLUMNS = ("task", "cluster", "score")
ABOUT = "about"
"""Under this name a file of a stage keeps what decides its scores."""

EXAMPLE_COLUMNS = ("task", "item", "half", "cluster", "base", "tuned")


def write_benchmark_items(path: Path, base: Measurement, tuned: Measurement) -> None:
    """Every item of every benchmark. `weight` is how much an item counts in the task's mean (items
    of which the base was unsure may be asked more often)."""
    columns: dict[str, list[Any]] = {name: [] for name in BENCHMARK_COLUMNS}
    for name, before in base.tasks.items():
        after = tuned.tasks[name]
        n = len(before.items)
        columns["task"] += [name] * n
        columns["item"] += before.items
        columns["half"] += before.halves
        columns["cluster"] += before.clusters
        columns["metric"] += [before.metric] * n
        columns["weight"] += before.item_weights.tolist()
        columns["gold"] += before.gold.tolist()
        for side, scores in (("base", before), ("tuned", after)):
            columns[side] += scores.primary.tolist()
            for metric in CONTINUOUS_METRICS:
                found = scores.scores.get(metric, np.full(n, np.nan))
                columns[f"{metric}_{side}"] += found.tolist()
            columns[f"choice_{side}"] += scores.choice.tolist()
    _write(path, columns)


def write_example_items(
    path: Path, examples: Sequence[Example], base: EvalResult, tuned: EvalResult
) -> None:
    """Every held-out example by every metric, which stands in the column `task`. An example goes by
    a hash of its content, so that settings are compared on the same ones; a score that is not of
    one example, by its place."""
    names = [hashlib.sha256(pair_key(e).encode()).hexdigest()[:16] for e in examples]
    columns: dict[str, list[Any]] = {name: [] for name in EXAMPLE_COLUMNS}
    for metric, after in tuned.quality.items():
        before, n = base.quality[metric], len(after.scores)
        first = set(after.halves()[0])
        columns["task"] += [metric] * n
        columns["item"] += names[:n] if n <= len(names) else [str(i) for i in range(n)]
        columns["half"] += ["selection" if i in first else "report" for i in range(n)]
        columns["cluster"] += after.clusters if after.clusters is not None else [None] * n
        columns["base"] += before.scores.tolist()
        columns["tuned"] += after.scores.tolist()
    _write(path, columns)


def write_stage_items(
    path: Path, about: str, tasks: Sequence[str], row: Sequence[TaskScore]
) -> None:
    """Every held-out example of every task of a sequence, as one model scores it; `about` says what
    decides the scores."""
    columns: dict[str, list[Any]] = {name: [] for name in STAGE_COLUMNS}
    for task, score in zip(tasks, row, strict=True):
        n = len(score.scores)
        columns["task"] += [task] * n
        columns["cluster"] += score.clusters if score.clusters is not None else [None] * n
        columns["score"] += score.scores.tolist()
    _write(path, columns, {ABOUT: about})


def read_stage_items(
    path: Path, about: str, tasks: Sequence[str], metric: Metric
) -> list[TaskScore] | None:
    """The same, read; None where there is no such file, or it is about something else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        require_regular(path)
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None
    if (table.schema.metadata or {}).get(ABOUT.encode()) != about.encode():
        return None
    read = table.to_pydict()
    row = []
    for task in tasks:
        places = [i for i, name in enumerate(read["task"]) if name == task]
        names = [read["cluster"][i] for i in places]
        scores = np.array([read["score"][i] for i in places], float)
        found = TaskScore(metric.name, metric.higher_is_better, metric.unit, scores)
        row.append(found.clustered(names))
    return row


def _write(path: Path, columns: dict[str, list[Any]], about: dict[str, str] | None = None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as partial:
        pq.write_table(pa.table(columns).replace_schema_metadata(about), partial)
