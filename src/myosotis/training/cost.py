"""What a run took: time, speed, memory, size."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from myosotis.commands.components import Components
from myosotis.evaluation.evaluator import EvalResult
from myosotis.tracking.run_tracker import RunTracker
from myosotis.training.eval_schedule import EvalSchedule
from myosotis.utils import memory


class Training(NamedTuple):
    """The training alone: what is measured between steps has its own seconds."""

    steps: int
    train_seconds: float
    watch_seconds: dict[str, float]  # by what was measured between the steps
    examples: int
    tokens: int


def of(
    trained: Training,
    kept: RunTracker,
    base: EvalResult,
    tuned: EvalResult,
    bench: Components,
    looks: EvalSchedule,
    began: float,
) -> dict[str, float | None]:
    """The costs of a run that began at `began` (`time.perf_counter`), by name."""
    seconds = max(trained.train_seconds, 1e-9)
    return {
        "train_seconds": trained.train_seconds,
        "total_seconds": time.perf_counter() - began,
        "tokens_per_second": trained.tokens / seconds,
        "examples_per_second": trained.examples / seconds,
        "retention_seconds": trained.watch_seconds["retention"],
        "validation_seconds": trained.watch_seconds["validation"],
        "look_share": trained.watch_seconds["retention"] / seconds,
        "look_share_predicted": looks.expected,
        "base_seconds": base.seconds,
        "final_seconds": tuned.seconds,
        "peak_memory_gb": memory.peak_gb(),
        "trainable_params": float(kept.record.update.trainable or 0),
        "update_bytes": _size(kept.folder.update),
        "rows_at_once": float(bench.scorer.rows_at_once),
    }


def _size(folder: Path) -> float:
    """Bytes of the files in a folder."""
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
