"""Runs as MLflow knows them: found, whether they still live, their records and artifacts."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from myosotis.records.find import Candidate, choose
from myosotis.records.load import RECORD
from myosotis.records.schema import RunRecord
from myosotis.tracking.mlflow_client import (
    HEARTBEAT,
    HOST,
    PID,
    client,
    open_store,
)
from myosotis.tracking.mlflow_store import FOLDER, VERSION, Store
from myosotis.utils.errors import DataError

STALE_SECONDS = 600.0
"""A RUNNING run on another host counts as dead when its heartbeat is older than this."""


@dataclass(frozen=True)
class RunInfo:
    """One MLflow run. Times are ISO 8601 in UTC; `status` is MLflow's word for it."""

    run_id: str
    name: str
    status: str
    experiment_id: str
    started: str
    ended: str
    artifact_uri: str
    store: Store
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether a RUNNING run still has its process; a killed one keeps that status."""
        if self.status != "RUNNING":
            return False
        try:
            beat = datetime.fromisoformat(self.tags[HEARTBEAT])
        except (KeyError, ValueError):
            return False
        if self.tags.get(HOST) == platform.node() and self.tags.get(PID, "").isdigit():
            try:  # a process of that number that began after the last sign of life is another
                return psutil.Process(int(self.tags[PID])).create_time() <= beat.timestamp() + 1
            except psutil.NoSuchProcess:
                return False
        return (datetime.now(UTC) - beat).total_seconds() < STALE_SECONDS


def all_runs(store: Store) -> list[RunInfo]:
    """Every run myosotis made, in any experiment, newest first."""
    mlflow = client(store)
    experiments = [e.experiment_id for e in mlflow.search_experiments()]
    return [_info(store, run) for run in _search(mlflow, experiments, f"tags.`{VERSION}` LIKE '%'")]


def find_run(uri: str | Store | None, query: str) -> RunInfo:
    """The run that `query` means, in the order of `records/find.py`.

    Raises `UnknownRun` with near matches when there is none, `DataError` with the candidates when
    there are several, `ConfigError` when there is no store or it cannot be used.
    """
    store = uri if isinstance(uri, Store) else open_store(uri, create=False)
    candidates = [
        Candidate(run.run_id, run.name, run.status, run.started, run) for run in all_runs(store)
    ]
    return choose(query, candidates, f"in {store.shown}")


def children(run: RunInfo) -> list[RunInfo]:
    """The trials of a sweep's run, oldest first; none of a run that is no sweep."""
    parent = f"tags.`mlflow.parentRunId` = '{run.run_id}'"
    trials = _search(client(run.store), [run.experiment_id], parent)
    return [_info(run.store, trial) for trial in reversed(trials)]


def _search(mlflow: MlflowClient, experiments: list[str], filter_string: str) -> list[Run]:
    """All pages of a search, newest first."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = mlflow.search_runs(
            experiments,
            filter_string=filter_string,
            run_view_type=ViewType.ACTIVE_ONLY,
            max_results=1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _info(store: Store, run: Run) -> RunInfo:
    return RunInfo(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        started=_iso(run.info.start_time),
        ended=_iso(run.info.end_time),
        artifact_uri=run.info.artifact_uri or "",
        store=store,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


def _iso(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def download_artifact(run: RunInfo, path: str, to: Path) -> Path:
    """Copy the artifact `path` of `run` into the folder `to`. Raises DataError if absent."""
    try:
        to.mkdir(parents=True, exist_ok=True)
        return Path(client(run.store).download_artifacts(run.run_id, path, str(to)))
    except (MlflowException, OSError) as error:
        raise DataError(
            f"The run {run.name} ({run.run_id[:12]}, {run.status}) has no artifact {path}.",
            f"Its artifacts are at {run.artifact_uri}.",
        ) from error


def load_record(run: RunInfo) -> RunRecord:
    """The run record of `run`: its artifact, or the one in its run folder if it never got there.

    Raises DataError when there is neither, or when it cannot be read.
    """
    folder = run.tags.get(FOLDER, "")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return RunRecord.load(download_artifact(run, RECORD, Path(scratch)))
        except DataError:
            if folder and (Path(folder) / RECORD).is_file():
                return RunRecord.load(Path(folder) / RECORD)
            raise
