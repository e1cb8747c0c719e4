"""A sweep as a whole, in the process that launches its trials: its run in MLflow, what is seen
while it goes on, and how it ends.

What belongs here: the one parent run, and reading the trials' folders. A trial is a run like any
other and may run in any process; its record on disk is all that is known of it here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from myosotis.commands.run_params import place_tags, shown
from myosotis.records.run_folder import SweepFolder, SweepInfo
from myosotis.records.schema import HalfResult, RunRecord, Status
from myosotis.report import decision, terminal
from myosotis.report.scorecard import scorecard
from myosotis.report.selection import best_run
from myosotis.tracking import mlflow_client
from myosotis.tracking.environment import now
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.tracking.null_logger import NullLogger
from myosotis.utils.console import console, progress
from myosotis.utils.duration import duration
from myosotis.utils.errors import ConfigError, MyosotisError

LOOK_EVERY_SECONDS = 1.0
ENDED = ("FINISHED", "FAILED")
"""A trial in another state is running, or was killed and is yet to be taken up again."""


@dataclass(frozen=True)
class Trial:
    """A trial's folder and what its record says."""

    path: Path
    record: RunRecord

    @property
    def measures(self) -> dict[str, float | None]:
        """What a table shows, of all items. quality: the task's score after tuning, in its metric's
        own unit. forgetting: base minus tuned over the suite, positive means worse.
        """
        return _measures(HalfResult(self.record.task, self.record.suite_verdict))

    @property
    def objectives(self) -> dict[str, float | None]:
        """The same as a searching sweeper is told it: of the half of the items that chooses.

        What is reported then had no part in the search. Where that half was too small to say
        anything (a single held-out example), all items speak.
        """
        chosen_on = _measures(self.record.halves.get("selection", HalfResult()))
        return {
            name: value if (half := chosen_on[name]) is None else half
            for name, value in self.measures.items()
        }

    def document(self) -> dict[str, Any]:
        """As the JSON result of a sweep lists it."""
        record = self.record
        given = [w for w in record.command if "=" in w and not w.startswith("hydra.")]
        error = {"error": record.error} if record.error else {}
        return {
            "overrides": given,
            "out": str(self.path),
            "run_id": record.run_id,
            "run_name": record.run_name,
            "status": record.status,
            **self.measures,
            **error,
        }


def _measures(found: HalfResult) -> dict[str, float | None]:
    task, suite = found.task, found.suite
    return {
        "quality": None if task is None else task.tuned,
        "forgetting": None if suite is None or suite.delta is None else -suite.delta,
    }


def trials_of(folder: SweepFolder, known: Sequence[Trial] = ()) -> list[Trial]:
    """The trials of a sweep in the order in which they began; records that cannot be read are not
    trials. Those in `known` that have ended are not read again.
    """
    ended = {t.path: t for t in known if t.record.status in ENDED}
    trials = []
    for run in folder.trials():
        try:
            trials.append(ended.get(run.path) or Trial(run.path, run.load()))
        except MyosotisError:
            continue
    return sorted(trials, key=lambda trial: (trial.record.started, trial.path))


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial that the scorecard would ship; see `report.selection.best_run`."""
    best = best_run([t.record for t in trials])
    return next((t for t in trials if t.record is best), None)


def in_words(trials: Sequence[Trial]) -> str:
    """The result of a sweep, in a few sentences: the scorecard's own."""
    return "\n".join(decision.sentences([t.record for t in trials]))


class Sweep:
    """A sweep while its trials run; entered by the process that launches them.

    `total` is the number of trials, where that is known beforehand.
    """

    def __init__(
        self,
        folder: SweepFolder,
        name: str,
        command: list[str],
        mlflow: dict[str, Any] | None,
        total: int | None,
    ) -> None:
        self.folder, self.name = folder, name
        self._trials = trials_of(folder)
        self._there = {t.path for t in self._trials if t.record.status == "FINISHED"}
        added = total is not None and len(self._there) > total  # other settings, in the same folder
        self.total = None if added else total
        self._told = set(self._there)
        self._best = self._best_so_far()
        self._ended_before = {t.path: t.record.ended for t in self._trials}
        self._began = time.monotonic()
        self._mlflow = self._parent(mlflow)
        known = folder.load()
        self.info = SweepInfo(
            name,
            shown(command),
            known.started if known else now(),
            self._mlflow.run_id or "",
            self._mlflow.store.shown if isinstance(self._mlflow, MLflowLogger) else "",
        )
        folder.save(self.info)
        self._over = threading.Event()
        self._bar = ExitStack()
        self._watching = threading.Thread(target=self._watch, name="sweep", daemon=True)

    def _parent(self, settings: dict[str, Any] | None) -> NullLogger:
        """The sweep's run in MLflow: the one its folder names if the store has it, or a new one."""
        if settings is None:
            return NullLogger()
        tags = {**settings["tags"], **place_tags(self.folder, self.name)}
        settings = {**settings, "run_name": self.name, "tags": tags}
        known = self.folder.load()
        if known is not None and known.run_id:
            again = MLflowLogger(**settings, run_id=known.run_id)
            try:
                again.start()
                return again
            except ConfigError:  # another store than last time: the one below says what is wrong
                pass
        new = MLflowLogger(**settings)
        new.start()
        return new

    def __enter__(self) -> Sweep:
        if self._there:
            known = f"finished already: {len(self._there)} trials, in {self.folder.path}"
            console.print(known, soft_wrap=True, markup=False)
        bar = progress(f"sweep {self.name}", total=self.total)
        self._advance = self._bar.enter_context(bar)
        self._advance(len(self._there))
        self._watching.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, _: Any) -> None:
        self._over.set()
        self._watching.join()
        self._bar.close()
        self._look()
        stopped = "KILLED" if kind and issubclass(kind, KeyboardInterrupt) else "FAILED"
        self._end(stopped if kind else None)

    @property
    def trials(self) -> list[Trial]:
        return self._trials

    def failed(self) -> list[Trial]:
        return [trial for trial in self._trials if _failed(trial)]

    def document(self) -> dict[str, Any]:
        """The result of the sweep, as JSON."""
        made = self.folder.scorecard
        return {
            "sweep": {"name": self.name, "out": str(self.folder.path), "run_id": self.info.run_id},
            "runs": [trial.document() for trial in self._trials],
            **({"scorecard": str(made)} if made.exists() else {}),
        }

    def _watch(self) -> None:
        """Tell each trial's end as it comes, until the sweep is over."""
        beat = time.monotonic()
        while not self._over.wait(LOOK_EVERY_SECONDS):
            told = len(self._told)
            self._look()
            self._advance(len(self._told) - told, self._standing())
            if time.monotonic() - beat > mlflow_client.HEARTBEAT_SECONDS:
                beat = time.monotonic()
                self._mlflow.set_tags({mlflow_client.HEARTBEAT: now()})

    def _look(self) -> None:
        """Read the trials anew, and tell those that ended since."""
        told = len(self._told)
        self._trials = trials_of(self.folder, [t for t in self._trials if t.path in self._told])
        for trial in self._trials:
            record = trial.record
            again = record.ended == self._ended_before.get(trial.path)
            if trial.path not in self._told and record.status in ENDED and not again:
                self._told.add(trial.path)
                terminal.trial(record, len(self._told), self.total)
        if len(self._told) > told:
            self._best = self._best_so_far()

    def _standing(self) -> str:
        """The bar's own words: the best so far, and the time left."""
        return f"sweep {self.name}{self._best}{self._time_left()}"

    def _best_so_far(self) -> str:
        best = best_of(self._trials)
        if best is None or (quality := best.measures["quality"]) is None:
            return ""
        return f", best {best.record.run_name} {quality:.3f}"

    def _time_left(self) -> str:
        ended = len(self._told) - len(self._there)
        if self.total is None or not ended:
            return ""
        seconds = (time.monotonic() - self._began) / ended * max(self.total - len(self._told), 0)
        return f", {duration(seconds)} left"

    def _end(self, status: Status | None) -> None:
        """What is shown of the trials, here and in MLflow."""
        conclude(self._mlflow, self.folder, self._trials, status)
        if self._trials:
            terminal.table([trial.record for trial in self._trials], self.folder.scorecard)
            console.print(Text(in_words(self._trials)))


def conclude(
    mlflow: NullLogger, folder: SweepFolder, trials: Sequence[Trial], status: Status | None = None
) -> None:
    """End a sweep's own run: its scorecard, the summary metrics and the result in words."""
    said = in_words(trials)
    mlflow.log_metrics(summary_metrics(trials), 0)
    mlflow.set_tags({"mlflow.note.content": said})
    if trials:
        scorecard([trial.record for trial in trials], folder.scorecard)
        mlflow.log_artifact(folder.scorecard)
    mlflow.finish(status or ("FAILED" if any(map(_failed, trials)) else "FINISHED"), said)


def summary_metrics(trials: Sequence[Trial]) -> dict[str, float]:
    """What the parent run of a sweep shows in the run list."""
    metrics: dict[str, float | None] = {
        "sweep/trials": len(trials),
        "sweep/finished": sum(t.record.status == "FINISHED" for t in trials),
        "sweep/failed": sum(map(_failed, trials)),
    }
    if (best := best_of(trials)) is not None:
        metrics |= {f"best/{name}": value for name, value in best.measures.items()}
    return {name: float(value) for name, value in metrics.items() if value is not None}


def _failed(trial: Trial) -> bool:
    return trial.record.status == "FAILED"
