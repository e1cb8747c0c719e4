"""The life of a run as others see it: started, and in every case ended with a status and a reason.

The record on disk is the truth and is written whole each time; MLflow gets the same. Leaving the
context writes FINISHED, KILLED (Ctrl-C, SIGTERM) or FAILED with what went wrong.
"""

from __future__ import annotations

import platform
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import psutil
import torch

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import GitState, RunRecord, Status
from myosotis.tracking.jsonl_logger import JsonlLogger
from myosotis.tracking.mlflow_logger import NullLogger
from myosotis.training.callbacks import Interrupted
from myosotis.utils.console import console
from myosotis.utils.errors import MyosotisError, RunError

PACKAGES = (
    "myosotis", "torch", "transformers", "peft", "lightning", "lm_eval", "mlflow", "hydra-core"
)  # fmt: skip


class RunTracker:
    """A run folder, its record, its curves and its MLflow run."""

    def __init__(self, folder: RunFolder, record: RunRecord, mlflow: NullLogger) -> None:
        self.folder = folder
        self.record = record
        self.mlflow = mlflow
        self.history = JsonlLogger(folder.metrics)

    def warn(self, text: str) -> None:
        """Tell the person now, and the record for ever."""
        if text not in self.record.warnings:
            self.record.warnings.append(text)
            console.print(f"[yellow]![/] {text}", highlight=False)

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.history.log_metrics(metrics, step)
        self.mlflow.log_metrics(metrics, step)

    def save(self) -> None:
        self.record.curves = self.history.points()
        self.record.save(self.folder.record)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        if path.exists():
            self.mlflow.log_artifact(path, folder)

    def publish(self, update: Path | None = None) -> None:
        """The scorecard and what else a finished run leaves, as artifacts too.

        The record says FINISHED from here on, so that what is made of it does too.
        """
        from myosotis.report.scorecard import scorecard

        self.record.status, self.record.ended = "FINISHED", now()
        self.save()
        scorecard([self.record], self.folder.scorecard)
        for path in (self.folder.scorecard, self.folder.items):
            self.artifact(path)
        if update is not None:
            self.artifact(update, "update")

    def _end(self, status: Status, error: str = "") -> None:
        self.record.status, self.record.error = status, error
        self.record.ended = self.record.ended or now()
        with suppress(RunError):  # a full disk: the reason still reaches MLflow and the screen
            self.save()
        self.artifact(self.folder.record)
        self.mlflow.finish(status, error)
        if self.mlflow.incomplete:
            console.print(
                "[yellow]MLflow lacks part of this run.[/] When its store is back: "
                f"myosotis sync {self.record.run_id[:8]}"
            )


class SilentTracker(RunTracker):
    """Of a rank that only trains: it keeps nothing and tells nobody."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder, RunRecord(run_id=""), NullLogger())

    def warn(self, text: str) -> None: ...

    def log(self, metrics: dict[str, float], step: int) -> None: ...

    def save(self) -> None: ...

    def artifact(self, path: Path, folder: str | None = None) -> None: ...

    def publish(self, update: Path | None = None) -> None: ...


@contextmanager
def journal(
    folder: Path,
    mlflow: NullLogger,
    *,
    run_name: str,
    command: list[str],
    config: dict[str, Any],
    config_hash: str,
) -> Iterator[RunTracker]:
    """Keep the journal of one run in `folder`; a record found there is taken up again.

    Raises `RunError` when the folder cannot be written.
    """
    paths = RunFolder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MyosotisError(
            f"the run folder {folder} cannot be made: {error.strerror}", "choose another with out="
        ) from None
    before = paths.load() if paths.record.exists() else None
    mlflow.start()
    record = RunRecord(
        run_id=mlflow.run_id or (before.run_id if before else uuid4().hex),
        run_name=run_name,
        started=before.started if before else now(),
        command=command,
        config=config,
        config_hash=config_hash,
        versions=versions(),
        git=git_state(),
        host=host(),
    )
    if before:
        record = replace(record, warnings=before.warnings)
    kept = RunTracker(paths, record, mlflow)
    try:
        kept.save()
        with _sigterm_as_exception():
            yield kept
    except Interrupted as stop:
        kept._end("KILLED", stop.message)
        raise
    except KeyboardInterrupt:
        kept._end("KILLED", "stopped by SIGINT")
        raise Interrupted(signal.SIGINT, 0) from None
    except MyosotisError as error:
        kept._end("FAILED", error.message)
        raise
    except BaseException as error:
        kept._end("FAILED", f"{type(error).__name__}: {error}")
        raise
    kept._end("FINISHED")


@contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    def handle(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum, 0)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def git_state() -> GitState:
    """Commit of the folder the command runs in, if it is a git checkout."""

    def git(*args: str) -> str:
        with suppress(OSError, subprocess.SubprocessError):
            command = ["git", *args]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=5, check=True
            ).stdout.strip()
        return ""

    commit = git("rev-parse", "HEAD")
    return GitState(commit, bool(commit and git("status", "--porcelain", "-uno")))


def host() -> dict[str, Any]:
    """What the figures were measured on; no names of people or machines."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "accelerator": accelerator or "none",
    }
