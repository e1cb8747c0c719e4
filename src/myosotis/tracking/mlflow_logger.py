"""The Lightning loggers of a run: one that writes to MLflow, one that writes nowhere.

What belongs here: turning what Lightning and a run hand over into what MLflow accepts (names,
lengths, finite numbers, batches), and a run's life: started, resumed, finished. MLflow itself
is reached through `mlflow_client.py` only. Both loggers offer the same methods, so a run needs no
branch. Everything that writes does so on rank 0 only.

MLflow is a window on the run, not its memory: once started, a store that cannot be written
costs a warning, never the training. `record.json` is the truth.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from myosotis.records.schema import DataInfo, Status
from myosotis.tracking import mlflow_client
from myosotis.utils.errors import ConfigError

log = logging.getLogger(__name__)

PARAM_CHARACTERS, TAG_CHARACTERS, NAME_CHARACTERS = 6000, 8000, 250
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 500
FLUSH_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0  # seconds
CHANGED, NON_FINITE = "myosotis.changed_params", "myosotis.non_finite_metrics"


class NullLogger(Logger):
    """`tracking=none`: every method of `MLflowLogger`, without effect."""

    run_id: str | None = None
    experiment_id: str | None = None

    @property
    def name(self) -> str | None:
        return None

    @property
    def version(self) -> str | None:
        return self.run_id

    def start(self) -> None:
        """Open the store and create or resume the run; raises ConfigError when that fails."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log `metrics` (name: number or one-element tensor) at the optimiser step `step`."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log `params`, a nested mapping, as dotted keys. Log the searchable ones only."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set or replace tags."""

    def log_dataset(self, data: DataInfo) -> None:
        """What the run trains on, as an MLflow dataset input."""

    def log_artifact(self, path: str | os.PathLike[str], folder: str | None = None) -> None:
        """Copy a file, or what is in a folder, to the run's artifacts, under `folder`."""

    def flush(self) -> None:
        """Write what is buffered."""

    @property
    def incomplete(self) -> bool:
        """Whether MLflow lacks something of this run, for `myosotis sync` to bring."""
        return False

    def finish(self, status: Status, reason: str = "") -> None:
        """End the run. A later `start` with its run id takes it up again."""


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
        return self._away or self._missed or bool(self._metrics)

    @property
    def experiment(self) -> Any:
        """The MlflowClient, for what this class does not cover."""
        self.start()
        return self._client

    @rank_zero_only
    def start(self) -> None:
        if self._client is not None or self._away:
            return
        try:
            self._open()
        except ConfigError as error:
            if self._required:
                raise
            log.warning("the run goes on without MLflow: %s", error.message)
            self._away = True
            return
        self.set_tags(_identity() | self._tags)

    def _open(self) -> None:
        """The store, and this run in it; raises ConfigError."""
        self.store = mlflow_client.open_store(self._uri)
        client = mlflow_client.client(self.store)
        try:
            known = self.run_id and (self._required or mlflow_client.exists(client, self.run_id))
            if self.run_id is None or not known:
                self.experiment_id = mlflow_client.experiment_id(self.store, self._experiment)
                run = client.create_run(self.experiment_id, run_name=self._run_name)
                self.run_id = run.info.run_id
            else:
                self.experiment_id = client.get_run(self.run_id).info.experiment_id
                client.update_run(self.run_id, status="RUNNING")
        except mlflow_client.FAILURES as error:
            raise ConfigError(
                f"MLflow cannot {'resume' if self.run_id else 'start'} the run in "
                f"{self.store.uri}: {error}",
                "Check tracking.uri, or use tracking=none.",
            ) from error
        self._client = client

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self.start()
        now, step = int(time.time() * 1000), int(step or 0)
        for name, value in metrics.items():
            number = float(value)
            name = "train/epoch" if name == "epoch" else name  # Lightning adds it unasked
            if math.isfinite(number):
                self._metrics.append((self._mapped(name), number, now, step))
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
            mapped = f"{mapped[: NAME_CHARACTERS - 7]}-{_digest(name)}"
        return mapped

    @rank_zero_only
    def flush(self) -> None:
        if self._client is None:
            return
        self._flushed_at = time.monotonic()
        tags = {}
        if self._flushed_at - self._beat_at > mlflow_client.HEARTBEAT_SECONDS:
            self._beat_at = self._flushed_at
            tags[mlflow_client.HEARTBEAT] = _now()
        if self._non_finite:
            tags[NON_FINITE] = _cut("; ".join(self._non_finite), TAG_CHARACTERS)
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
                log.warning("MLflow cannot be written; the run goes on without it: %s", error)
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
        wanted = {valid_name(key): _cut(text, PARAM_CHARACTERS) for key, text in params.items()}
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
        texts = {valid_name(key): _cut(_text(tag), TAG_CHARACTERS) for key, tag in tags.items()}
        items = list(texts.items())
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
        if client is not None:
            copy = client.log_artifacts if path.is_dir() else client.log_artifact
            self._write_now(copy, self.run_id, str(path), folder)

    def finalize(self, status: str) -> None:
        """Lightning calls this when fit ends; the run itself goes on until `finish`."""
        self.flush()

    @rank_zero_only
    def finish(self, status: Status, reason: str = "") -> None:
        self._try_at = 0.0  # the last chance is taken
        self.flush()
        if self._client is None:
            return
        self.set_tags({mlflow_client.REASON: reason, mlflow_client.HEARTBEAT: _now()})
        self._write_now(self._client.set_terminated, self.run_id, status)


def valid_name(name: str) -> str:
    """`name` as MLflow accepts it: letters, digits, `_ - . : /` and space, at most 250.

    `acc[0]` becomes `acc_0`; a name that is cut keeps a digest of the whole.
    """
    marked = re.sub(r"[^/\w.\- :]+", "\0", str(name))
    parts = (part.strip("\0 ").replace("\0", "_") for part in marked.split("/"))
    clean = "/".join(part for part in parts if part.strip(".")) or "_"
    if len(clean) > NAME_CHARACTERS:
        clean = f"{clean[: NAME_CHARACTERS - 7]}-{_digest(name)}"
    return clean


def flatten(params: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and texts out of nested mappings; None is "null", as in the config."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _text(value)
    return flat


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _cut(text: str, limit: int) -> str:
    """`text` within `limit` characters, saying so where it was cut."""
    if len(text) <= limit:
        return text
    note = f" … (cut; {len(text)} characters in all)"
    return text[: limit - len(note)] + note


def _digest(text: str) -> str:
    return hashlib.sha1(str(text).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:6]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _identity() -> dict[str, str]:
    """The tags every run carries; with pid, host and heartbeat a killed run can be told."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("myosotis")
    except PackageNotFoundError:
        ours = "unknown"
    return {
        mlflow_client.VERSION: ours,
        mlflow_client.PID: str(os.getpid()),
        mlflow_client.HOST: platform.node(),
        mlflow_client.HEARTBEAT: _now(),
        "mlflow.source.name": "myosotis",
        "mlflow.source.type": "LOCAL",
    }
