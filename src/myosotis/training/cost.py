"""What a run took: time, speed, memory, size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from myosotis.controls import Spent
from myosotis.evaluation.evaluator import EvalResult
from myosotis.records.run_folder import bytes_in
from myosotis.training.eval_schedule import EvalSchedule
from myosotis.training.work_estimate import mfu
from myosotis.utils import memory


class Training(NamedTuple):
    """The training alone: what is measured between steps has its own seconds."""

    steps: int
    train_seconds: float
    eval_seconds: dict[str, float]  # by what was measured between the steps
    examples: int
    tokens: int  # read on all ranks
    flops: float  # of its forward and backward passes, on all ranks
    peak_flops: float | None  # a second, of all devices together; None: not known
    rehearsed: Mapping[str, Spent]  # text that controls read, by their names
    stopped: str = ""  # who of the user's callbacks ended it before its time, as a sentence


def of(
    trained: Training,
    base: EvalResult,
    tuned: EvalResult,
    schedule: EvalSchedule,
    *,
    total_seconds: float,
    trainable: int,
    update_folder: Path,
    rows_at_once: int,
) -> dict[str, float | None]:
    """The costs of a run, by name."""
    seconds = max(trained.train_seconds, 1e-9)
    used = mfu(trained.flops, seconds, trained.peak_flops)
    return {
        "train_seconds": trained.train_seconds,
        "total_seconds": total_seconds,
        "tokens_per_second": trained.tokens / seconds,
        "examples_per_second": trained.examples / seconds,
        "tflop_per_second": trained.flops / seconds / 1e12,
        "retention_seconds": trained.eval_seconds["retention"],
        "validation_seconds": trained.eval_seconds["validation"],
        "look_share": trained.eval_seconds["retention"] / seconds,
        "look_share_predicted": schedule.expected,
        "base_seconds": base.seconds,
        "final_seconds": tuned.seconds,
        "peak_memory_gb": memory.peak_gb(),
        "trainable_params": float(trainable),
        "update_bytes": float(bytes_in(update_folder)),
        "rows_at_once": float(rows_at_once),
        **({"mfu": used} if used is not None else {}),
        **{f"{name}_tokens": float(read.tokens) for name, read in trained.rehearsed.items()},
    }
