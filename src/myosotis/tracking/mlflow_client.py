"""MLflow: the layout of docs/guides/mlflow.md, writing a run into it and finding one again.

What belongs here: everything that talks to MLflow, and nothing else does. The Lightning side is
`mlflow_logger.py`; where the store is and whether it can be used is `mlflow_store.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

# Read when MLflow is imported. A fine-tuning run calls no one it was not told to call.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# About half a minute of MLflow's own retries a request, instead of four: training waits for them.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")

import psutil
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as mlflow_database
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from myosotis.records.schema import RunRecord
from myosotis.tracking import mlflow_store as stores
from myosotis.tracking.mlflow_store import Store
from myosotis.utils.atomic_write import replacing
from myosotis.utils.did_you_mean import near
from myosotis.utils.errors import ConfigError, DataError

RECORD = "record.json"
PID, HOST, HEARTBEAT = "myosotis.pid", "myosotis.host", "myosotis.heartbeat"
REASON, FOLDER, VERSION = "myosotis.reason", "myosotis.out", "myosotis.version"
HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
"""A RUNNING run on another host counts as dead when its heartbeat is older than this."""

FAILURES = (MlflowException, OSError)
"""What a store raises when it cannot be written now: server gone, database locked, disk full."""


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


def open_store(uri: str | None = None, *, create: bool = True) -> Store:
    """The store `uri` names (see `store.resolve`), checked, and made if there is none.

    A new sqlite database is built beside its place and moved in whole, under a file lock: two
    MLflows creating one file crash, and a creation that was killed would look foreign.

    Raises ConfigError when the store cannot be used, does not exist and `create` is false, or
    is of another MLflow version.
    """
    found = stores.resolve(uri)
    path = found.database
    if not stores.check(found, write=create):
        assert path is not None  # only a sqlite store can be absent
        if not create:
            raise ConfigError(
                f"There are no runs yet: {path} does not exist.",
                "Run `myosotis train` here, or point MLFLOW_TRACKING_URI at your store.",
            )
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not stores.check(found):  # another process may have been first
                _create(found, path)
    if path is not None:
        _check_version(path)
    return found


def _create(store: Store, path: Path) -> None:
    try:
        with replacing(path) as partial, _quiet():
            made = SqlAlchemyStore(f"sqlite:///{partial}", store.artifacts or "")
            made.engine.dispose()
    except (OSError, MlflowException) as error:
        raise ConfigError(f"The MLflow database {path} cannot be made: {error}.") from error


def _check_version(path: Path) -> None:
    """Refuse a database of another MLflow version, which MLflow would migrate unasked."""
    head = mlflow_database._get_latest_schema_revision()
    found = stores.schema_version(path)
    if found != head:
        raise ConfigError(
            f"The MLflow database {path} belongs to another version of MLflow "
            f"(schema {found}, this version has {head}).",
            f"Back it up, then: mlflow db upgrade sqlite:///{path}. Or use another tracking.uri.",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No migration log; and put back the root handlers alembic's `fileConfig` replaces."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)


def client(store: Store) -> MlflowClient:
    """A client of `store`, whatever MLFLOW_TRACKING_URI says."""
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def experiment_id(store: Store, name: str) -> str:
    """The id of the experiment `name`, made if there is none; safe when several make it at once.

    Raises ConfigError when an experiment of that name lies in MLflow's trash.
    """
    mlflow = client(store)
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        tags = {"mlflow.experimentKind": "custom_model_development"}
        folder = re.sub(r"[^a-zA-Z0-9._-]+", "-", name).strip(".-")[:80] or "experiment"
        # Without a location MLflow would put artifacts wherever the process happens to stand.
        root = Path(store.artifacts, folder).as_uri() if store.artifacts else None
        with contextlib.suppress(MlflowException):  # another process made it just now
            return mlflow.create_experiment(name, artifact_location=root, tags=tags)
        found = mlflow.get_experiment_by_name(name)
    if found is None:
        raise ConfigError(f"tracking.experiment={name!r} cannot be made in {store.uri}.")
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"The MLflow experiment {name!r} is in the trash.",
            f"mlflow experiments restore -x {found.experiment_id}, or another tracking.experiment.",
        )
    return found.experiment_id


def log_batch(
    mlflow: MlflowClient,
    run_id: str,
    metrics: Sequence[tuple[str, float, int, int]] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log what MLflow takes in one go: metrics as (name, value, milliseconds, step)."""
    mlflow.log_batch(
        run_id,
        metrics=[Metric(*metric) for metric in metrics],
        params=[Param(key, value) for key, value in (params or {}).items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )


def log_dataset(
    mlflow: MlflowClient, run_id: str, name: str, digest: str, counts: Mapping[str, int]
) -> None:
    """The data of a run as an input of it: `counts` is examples by split."""
    dataset = Dataset(
        name=name or "data",
        digest=digest[:36],  # MLflow takes no more
        source_type="myosotis",
        source=json.dumps({"name": name, "hash": digest}),
        profile=json.dumps(dict(counts)),
    )
    mlflow.log_inputs(
        run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
    )


def steps_of(mlflow: MlflowClient, run_id: str, metric: str) -> set[int]:
    """The steps at which a metric of a run is known."""
    return {point.step for point in mlflow.get_metric_history(run_id, metric)}


def exists(mlflow: MlflowClient, run_id: str) -> bool:
    """Whether the store has a run of this id. Raises what the store raises when it is away."""
    try:
        mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise
    return True


def find_run(uri: str | Store | None, query: str) -> RunInfo:
    """The run `query` names: `last`, a run id, a unique prefix of one, or a run name.

    Raises ConfigError with near matches when there is none, and with the candidates when there
    are several.
    """
    store = uri if isinstance(uri, Store) else open_store(uri, create=False)
    runs = [_info(store, run) for run in _all_runs(client(store))]
    if not runs:
        raise ConfigError(f"There are no runs in {store.uri}.", "Run `myosotis train` first.")
    if query == "last":
        return runs[0]
    for matches in (
        [run for run in runs if run.run_id == query],
        [run for run in runs if run.name == query],
        [run for run in runs if query and run.run_id.startswith(query.lower())],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ConfigError(
                f"{query!r} could be any of {len(matches)} runs:\n{_listing(matches)}",
                "Give more of the run id.",
            )
    names = {run.name: run for run in reversed(runs)} | {run.run_id: run for run in runs}
    meant = near(query, names)
    shown = [names[name] for name in meant] or runs[:3]
    raise ConfigError(
        f"There is no run {query!r} in {store.uri}.",
        f"{'Did you mean' if meant else 'The newest are'}:\n{_listing(shown)}",
    )


def children(run: RunInfo) -> list[RunInfo]:
    """The trials of a sweep's run, oldest first; none of a run that is no sweep."""
    found = _search(
        client(run.store), [run.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'"
    )
    return [_info(run.store, child) for child in reversed(found)]


def _all_runs(mlflow: MlflowClient) -> list[Run]:
    """Every run myosotis made, in any experiment, newest first."""
    experiments = [e.experiment_id for e in mlflow.search_experiments()]
    return _search(mlflow, experiments, f"tags.`{VERSION}` LIKE '%'")


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


def _listing(runs: list[RunInfo]) -> str:
    lines = [f"  {run.run_id[:12]}  {run.name}  {run.status}  {run.started}" for run in runs[:10]]
    return "\n".join([*lines, "  …"] if len(runs) > 10 else lines)


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
