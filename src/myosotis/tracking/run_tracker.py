"""The life of a run as others see it: started, and in every case ended with a status and a reason.

The record on disk is the truth and is written whole each time; MLflow gets the same. Leaving the
context writes FINISHED, KILLED (Ctrl-C, SIGTERM) or FAILED with what went wrong.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

from lightning.pytorch.loggers.logger import Logger

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord, Status
from myosotis.tracking import loggers
from myosotis.tracking.environment import git_state, host, now, versions
from myosotis.tracking.jsonl_logger import JsonlLogger
from myosotis.tracking.mlflow_store import without_credentials
from myosotis.tracking.null_logger import NullLogger
from myosotis.utils.console import console
from myosotis.utils.errors import Interrupted, MyosotisError, RunError
from myosotis.utils.escape import terminal


class RunTracker:
    """A run folder, its record, its curves, its MLflow run and what other loggers it has."""

    def __init__(self, folder: RunFolder, record: RunRecord, mlflow: NullLogger) -> None:
        self.folder = folder
        self.record = record
        self.mlflow = mlflow
        self.jsonl = JsonlLogger(folder.metrics)
        self.loggers: list[Logger] = [self.jsonl, mlflow]  # and the user's own

    def warn(self, text: str) -> None:
        """Tell the person now, and the record for ever."""
        if text not in self.record.warnings:
            self.record.warnings.append(text)
            console.print(f"[yellow]![/] {terminal(text)}", highlight=False)

    def log(self, metrics: dict[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(metrics, step)

    def save(self) -> None:
        self.record.curves = self.jsonl.points()
        self.record.save(self.folder.record)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        if path.exists():
            self.mlflow.log_artifact(path, folder)

    def publish(self, render: Callable[[RunRecord, Path], Any], update: Path | None = None) -> None:
        """The page that `render` makes, and what else a finished run leaves, as artifacts too.

        The record says FINISHED from here on, so that what is made of it does too.
        """
        self.record.status, self.record.ended = "FINISHED", now()
        self.save()
        render(self.record, self.folder.scorecard)
        for path in self.folder.published:
            self.artifact(path)
        if update is not None:
            self.artifact(update, "update")

    def _end(self, status: Status, error: str = "") -> None:
        error = without_credentials(error)
        self.record.status, self.record.error = status, error
        self.record.ended = self.record.ended or now()
        with suppress(RunError):  # a full disk: the reason still reaches MLflow and the screen
            self.save()
        self.artifact(self.folder.record)
        self.mlflow.set_tags(verdict_tag(self.record))
        self.mlflow.finish(status, error)
        for logger in self.loggers:
            loggers.finish(logger, status)
        if self.mlflow.incomplete:
            console.print(self._lacking(), soft_wrap=True)

    def _lacking(self) -> str:
        """What MLflow was not told, and what brings it."""
        later = f"myosotis sync {self.record.run_id[:8]}"
        if self.mlflow.no_files:
            return (
                f"[yellow]MLflow lacks this run's files[/] ({terminal(self.mlflow.no_files)}); "
                f"they are in {terminal(self.folder.path)}. When its artifacts can be written: "
                f"{later}"
            )
        return f"[yellow]MLflow lacks part of this run.[/] When its store is back: {later}"


class SilentTracker(RunTracker):
    """Of a rank that only trains: it keeps nothing and tells nobody."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder, RunRecord(run_id=""), NullLogger())

    def warn(self, text: str) -> None: ...

    def log(self, metrics: dict[str, float], step: int) -> None: ...

    def save(self) -> None: ...

    def artifact(self, path: Path, folder: str | None = None) -> None: ...

    def publish(
        self, render: Callable[[RunRecord, Path], Any], update: Path | None = None
    ) -> None: ...


def verdict_tag(record: RunRecord) -> dict[str, str]:
    """What the run came to, as a tag to filter by; none where nothing was judged."""
    suite = record.suite_verdict
    return {"verdict": suite.verdict} if suite is not None and suite.verdict else {}


@contextmanager
def track(
    folder: Path,
    mlflow: NullLogger,
    *,
    run_name: str,
    command: list[str],
    config: dict[str, Any],
    config_hash: str,
) -> Iterator[RunTracker]:
    """Follow one run in `folder` to its end; a record found there is taken up again.

    The first record is written before MLflow is told, so that whatever a kill leaves there has a
    folder to be found from. Raises `RunError` when the folder cannot be written, and leaves no
    record when MLflow cannot be used.
    """
    paths = RunFolder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MyosotisError(
            f"the run folder {folder} cannot be made: {error.strerror}", "choose another with out="
        ) from None
    before = paths.load() if paths.record.exists() else None
    record = RunRecord(
        run_id=before.run_id if before else uuid4().hex,
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
    tracker = RunTracker(paths, record, mlflow)
    _begin(tracker, again=before is not None)
    try:
        tracker.save()
        with _sigterm_as_exception():
            yield tracker
    except Interrupted as stop:
        tracker._end("KILLED", stop.message)
        raise
    except KeyboardInterrupt:
        tracker._end("KILLED", "stopped by SIGINT")
        raise Interrupted(signal.SIGINT, 0) from None
    except MyosotisError as error:
        tracker._end("FAILED", error.message)
        raise
    except BaseException as error:
        tracker._end("FAILED", f"{type(error).__name__}: {error}")
        raise
    tracker._end("FINISHED")


def _begin(tracker: RunTracker, *, again: bool) -> None:
    """The run in MLflow, whose id becomes the record's."""
    if not again:
        tracker.save()
    try:
        tracker.mlflow.start(tracker.record.run_id, again=again)
    except BaseException:
        if not again:
            tracker.folder.record.unlink(missing_ok=True)
        raise
    tracker.record.run_id = tracker.mlflow.run_id or tracker.record.run_id


@contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    def handle(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum, 0)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
