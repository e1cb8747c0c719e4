"""MLflow: a store opened, and what is written into it.

What belongs here: making the store, an experiment in it, and the single writes that a run is made
of. What is read back is `mlflow_runs.py`; the Lightning side is `mlflow_logger.py`; where the store
is and whether it can be used is `mlflow_store.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Read when MLflow is imported. A fine-tuning run calls no one it was not told to call.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# About half a minute of MLflow's own retries a request, instead of four: training waits for them.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as mlflow_database
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from myosotis.tracking import mlflow_store as stores
from myosotis.tracking.mlflow_store import FOLDER, Store
from myosotis.utils.atomic_write import replacing
from myosotis.utils.errors import ConfigError

PID, HOST, HEARTBEAT = "myosotis.pid", "myosotis.host", "myosotis.heartbeat"
RECORD = "myosotis.record"  # the id that the record had before there was a run in MLflow
HEARTBEAT_SECONDS = 30.0

FAILURES = (MlflowException, OSError)
"""What a store raises when it cannot be written now: server gone, database locked, disk full."""


def open_store(uri: str | None = None, *, create: bool = True) -> Store:
    """The store `uri` names (see `mlflow_store.resolve`), checked, and made if there is none.

    A new sqlite database is built beside its place and moved in whole, under a file lock: two
    MLflows creating one file crash, and a creation that was killed would look foreign.

    Raises ConfigError when the store cannot be used, does not exist and `create` is false, or
    is of another MLflow version.
    """
    store = stores.resolve(uri)
    path = store.database
    if not stores.check(store, write=create):
        assert path is not None  # only a sqlite store can be absent
        if not create:
            raise ConfigError(
                f"There are no runs yet: {path} does not exist.",
                "Run `myosotis train` here, or point MLFLOW_TRACKING_URI at your store.",
            )
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not stores.check(store):  # another process may have been first
                _create(store, path)
    if path is not None:
        _check_version(path)
    return store


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
    theirs = stores.schema_version(path)
    if theirs != head:
        raise ConfigError(
            f"The MLflow database {path} belongs to another version of MLflow "
            f"(schema {theirs}, this version has {head}).",
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
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        tags = {"mlflow.experimentKind": "custom_model_development"}
        folder = re.sub(r"[^a-zA-Z0-9._-]+", "-", name).strip(".-")[:80] or "experiment"
        # Without a location MLflow would put artifacts wherever the process happens to stand.
        root = Path(store.artifacts, folder).as_uri() if store.artifacts else None
        with contextlib.suppress(MlflowException):  # another process made it just now
            return mlflow.create_experiment(name, artifact_location=root, tags=tags)
        experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        raise ConfigError(f"tracking.experiment={name!r} cannot be made in {store.shown}.")
    if experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"The MLflow experiment {name!r} is in the trash.",
            f"mlflow experiments restore -x {experiment.experiment_id}, "
            "or another tracking.experiment.",
        )
    return experiment.experiment_id


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


def run_of_record(mlflow: MlflowClient, record_id: str, folder: str | None) -> str | None:
    """The run that a record of this id belongs to, whether or not the record was told of it: a kill
    can come between. Then it has to name the `folder`, too, where one is given: a copied folder is
    another run. Raises what the store raises when it is away.
    """
    if exists(mlflow, record_id):
        return record_id
    experiments = [one.experiment_id for one in mlflow.search_experiments()]
    named = f"tags.`{RECORD}` = '{record_id}'"
    found = mlflow.search_runs(experiments, filter_string=named, max_results=100)
    its = (run for run in found if folder in (None, run.data.tags.get(FOLDER)))
    return next((run.info.run_id for run in its), None)


def exists(mlflow: MlflowClient, run_id: str) -> bool:
    """Whether the store has a run of this id. Raises what the store raises when it is away."""
    try:
        mlflow.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise
    return True


def in_trash(mlflow: MlflowClient, run_id: str) -> bool:
    """Whether a person deleted the run: it is kept, and nothing can be written to it."""
    return exists(mlflow, run_id) and mlflow.get_run(run_id).info.lifecycle_stage == "deleted"
