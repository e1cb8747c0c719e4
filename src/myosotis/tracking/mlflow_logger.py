"""The Lightning logger that writes a run to MLflow.

What belongs here: a run's life in MLflow (started, resumed, finished), and handing on what
Lightning and a run log, in batches and within the limits of `mlflow_limits.py`. MLflow itself is
reached through `mlflow_client.py` only. Everything that writes does so on rank 0 only.

MLflow is a window on the run, not its memory: once started, a store that cannot be written
costs a warning, never the training. `record.json` is the truth.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only
from mlflow import MlflowClient

from myosotis.records.schema import DataInfo, Status
from myosotis.tracking import mlflow_client
from myosotis.tracking.environment import now, versions
from myosotis.tracking.mlflow_limits import (
    METRICS_AT_ONCE,
    NAME_CHARACTERS,
    PARAM_CHARACTERS,
    PARAMS_AT_ONCE,
    TAG_CHARACTERS,
    cut,
    digest,
    flatten,
    text_of,
    valid_name,
)
from myosotis.tracking.mlflow_store import FOLDER, REASON, VERSION, without_credentials
from myosotis.tracking.null_logger import NullLogger
from myosotis.utils.errors import ConfigError

log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0  # seconds
CHANGED, NON_FINITE = "myosotis.changed_params", "myosotis.non_finite_metrics"


class MLflowLogger(NullLogger):
    """A run in MLflow, created at `start` (or first use) or, with `run_id`, taken up again.

    A store that cannot be used at the start stops the run; unless `required` is false, when the run
    goes on without it. One that fails later costs a warning, and what it missed is `incomplete`.

    `changed_params` holds (old, new) of params that a resumed run has otherwise: MLflow keeps
    the old value for ever, so the change is recorded in a tag instead.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "myosotis",
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        parent_run_id: str | None = None,
        required: bool = True,
    ) -> None:
        super().__init__()
        self._uri, self._experiment, self._run_name = uri, experiment, run_name
        self._tags = dict(tags or {})
        if parent_run_id:
            self._tags["mlflow.parentRunId"] = parent_run_id
        self.run_id = run_id
        self.no_files = ""
        self.changed_params: dict[str, tuple[str, str]] = {}
        self._client: Any = None
        self._metrics: list[tuple[str, float, int, int]] = []
        self._names: dict[str, str] = {}
        self._non_finite: list[str] = []
        self._flushed_at = self._beat_at = time.monotonic()
        self._required = required
        self._away = False  # not there at the start: this run does without
        self._missed = False
        self._pause_seconds = 0.0  # of not trying, after a failure
        self._try_at = 0.0

    @property
    def name(self) -> str | None:
        return self._experiment

    @property
    def incomplete(self) -> bool:
        return self._away or self._missed or bool(self._metrics) or bool(self.no_files)

    @property
    def experiment(self) -> Any:
        """The MlflowClient, for what this class does not cover."""
        self.start()
        return self._client

    @rank_zero_only
    def start(self, record_id: str = "", *, again: bool = False) -> None:
        if self._client is not None or self._away:
            return
        try:
            self._open(record_id, again)
        except ConfigError as error:
            if self._required:
                raise
            log.warning("the run goes on without MLflow: %s", error.message)
            self._away = True
            return
        self.set_tags(_identity() | self._tags)

    def _open(self, record_id: str, again: bool) -> None:
        """The store, and this run in it; raises ConfigError."""
        self.store = mlflow_client.open_store(self._uri)
        client = mlflow_client.client(self.store)
        try:
            if self.run_id is None and again:
                place = self._tags.get(FOLDER)
                self.run_id = mlflow_client.run_of_record(client, record_id, place)
            known = self.run_id and (self._required or mlflow_client.exists(client, self.run_id))
            if self.run_id is None or not known:
                self.experiment_id = mlflow_client.experiment_id(self.store, self._experiment)
                # With its tags at once: a kill in between would leave a run that nobody finds.
                tags = _texts({mlflow_client.RECORD: record_id} | _identity() | self._tags)
                run = client.create_run(self.experiment_id, run_name=self._run_name, tags=tags)
                self.run_id = run.info.run_id
            else:
                self.experiment_id = client.get_run(self.run_id).info.experiment_id
                self._take_up(client, self.run_id)
        except mlflow_client.FAILURES as error:
            raise ConfigError(
                f"MLflow cannot {'resume' if self.run_id else 'start'} the run in "
                f"{self.store.shown}: {without_credentials(str(error))}",
                "Check tracking.uri, or use tracking=none.",
            ) from error
        self._client = client

    def _take_up(self, client: MlflowClient, run_id: str) -> None:
        if mlflow_client.in_trash(client, run_id):
            client.restore_run(run_id)
            log.warning("the run had been deleted in MLflow; it goes on, so it was restored there")
        client.update_run(run_id, status="RUNNING")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self.start()
        milliseconds, step = int(time.time() * 1000), int(step or 0)
        for name, value in metrics.items():
            number = float(value)
            name = "train/epoch" if name == "epoch" else name  # Lightning adds it unasked
            if math.isfinite(number):
                self._metrics.append((self._mapped(name), number, milliseconds, step))
            else:
                # MLflow stores infinity as 1.8e308, which flattens the whole chart.
                self._non_finite.append(f"{name} = {number} at step {step}")
        elapsed = time.monotonic() - self._flushed_at
        if elapsed > FLUSH_SECONDS or len(self._metrics) >= METRICS_AT_ONCE:
            self.flush()

    def _mapped(self, name: str) -> str:
        """A name MLflow accepts, and that no other name of this run was mapped to."""
        mapped = valid_name(name)
        if self._names.setdefault(mapped, name) != name:
            mapped = f"{mapped[: NAME_CHARACTERS - 7]}-{digest(name)}"
        return mapped

    @rank_zero_only
    def flush(self) -> None:
        if self._client is None:
            return
        self._flushed_at = time.monotonic()
        tags = {}
        if self._flushed_at - self._beat_at > mlflow_client.HEARTBEAT_SECONDS:
            self._beat_at = self._flushed_at
            tags[mlflow_client.HEARTBEAT] = now()
        if self._non_finite:
            tags[NON_FINITE] = cut("; ".join(self._non_finite), TAG_CHARACTERS)
        while self._metrics or tags:
            batch = self._metrics[:METRICS_AT_ONCE]
            if not self._write(
                mlflow_client.log_batch, self._client, self.run_id, metrics=batch, tags=tags
            ):
                return  # kept, and tried again with the next batch
            del self._metrics[: len(batch)]
            tags = {}

    def _write(self, call: Any, *args: Any, **kwargs: Any) -> bool:
        """Whether `call` succeeded. After a failure the store is left alone for a while, longer
        each time: a server that is away would otherwise hold up every step by its retries.
        """
        if time.monotonic() < self._try_at:
            return False
        try:
            call(*args, **kwargs)
        except mlflow_client.FAILURES as error:
            if not self._pause_seconds:
                why = without_credentials(str(error))
                log.warning("MLflow cannot be written; the run goes on without it: %s", why)
            self._pause_seconds = min(max(2 * self._pause_seconds, FIRST_PAUSE), LONGEST_PAUSE)
            self._try_at = time.monotonic() + self._pause_seconds
            return False
        self._pause_seconds = 0.0
        return True

    def _write_now(self, call: Any, *args: Any, **kwargs: Any) -> None:
        """Write what is not buffered: when it fails, it is missed."""
        if self._client is not None and not self._write(call, *args, **kwargs):
            self._missed = True

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.start()
        if self._client is None:
            return
        params = flatten(vars(params) if not isinstance(params, Mapping) else params)
        wanted = {valid_name(key): cut(text, PARAM_CHARACTERS) for key, text in params.items()}
        try:
            known = self._client.get_run(self.run_id).data.params
        except mlflow_client.FAILURES:
            known = {}
        changed = {
            key: (known[key], text) for key, text in wanted.items() if known.get(key, text) != text
        }
        new = [(key, text) for key, text in wanted.items() if key not in known]
        for i in range(0, len(new), PARAMS_AT_ONCE):
            batch = dict(new[i : i + PARAMS_AT_ONCE])
            self._write_now(mlflow_client.log_batch, self._client, self.run_id, params=batch)
        if changed:
            self.changed_params |= changed
            self.set_tags({CHANGED: json.dumps(self.changed_params, sort_keys=True)})

    @rank_zero_only
    def set_tags(self, tags: Mapping[str, Any]) -> None:
        self.start()
        items = list(_texts(tags).items())
        for i in range(0, len(items), PARAMS_AT_ONCE):
            batch = dict(items[i : i + PARAMS_AT_ONCE])
            self._write_now(mlflow_client.log_batch, self._client, self.run_id, tags=batch)

    @rank_zero_only
    def log_dataset(self, data: DataInfo) -> None:
        self.start()
        self._write_now(
            mlflow_client.log_dataset, self._client, self.run_id, data.name, data.hash, data.counts
        )

    @rank_zero_only
    def log_artifact(self, path: str | os.PathLike[str], folder: str | None = None) -> None:
        self.start()
        path, client = Path(path), self._client
        if client is None or self.no_files:
            return
        copy = client.log_artifacts if path.is_dir() else client.log_artifact
        try:
            copy(self.run_id, str(path), folder)
        except Exception as error:  # noqa: BLE001 - each kind of artifact store has its own
            self._no_file(error)

    def _no_file(self, error: Exception) -> None:
        """A file could not be copied: the store is away, or takes all but files."""
        if not self._write(self._client.get_run, self.run_id):
            self._missed = True
            return
        why = " ".join(without_credentials(f"{type(error).__name__}: {error}").split())
        self.no_files = why[:300]
        log.warning("MLflow takes no files, which stay in the run's folder: %s", self.no_files)

    def finalize(self, status: str) -> None:
        """Lightning calls this when fit ends; the run itself goes on until `finish`."""
        self.flush()

    @rank_zero_only
    def finish(self, status: Status, reason: str = "") -> None:
        self._try_at = 0.0  # the last chance is taken
        self.flush()
        if self._client is None:
            return
        self.set_tags({REASON: reason, mlflow_client.HEARTBEAT: now()})
        self._write_now(self._client.set_terminated, self.run_id, status)


def _texts(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {valid_name(key): cut(text_of(tag), TAG_CHARACTERS) for key, tag in tags.items()}


def _identity() -> dict[str, str]:
    """The tags every run carries; with pid, host and heartbeat a killed run can be told."""
    return {
        VERSION: versions().get("myosotis", "unknown"),
        mlflow_client.PID: str(os.getpid()),
        mlflow_client.HOST: platform.node(),
        mlflow_client.HEARTBEAT: now(),
        "mlflow.source.name": "myosotis",
        "mlflow.source.type": "LOCAL",
    }
