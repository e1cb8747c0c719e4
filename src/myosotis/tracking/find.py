"""Run records by what a person calls them: runs, sweeps, folders and files of other tools.

What belongs here: from words on a command line to the records that a scorecard is made of. What
lies on disk comes first; MLflow is asked only where nothing there has the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from myosotis.records.find import UnknownRun, find
from myosotis.records.load import RECORD, read_file, read_folder
from myosotis.records.run_folder import SweepFolder
from myosotis.records.schema import RunRecord, Status
from myosotis.utils.errors import ConfigError, MyosotisError

if TYPE_CHECKING:
    from myosotis.tracking.mlflow_runs import RunInfo
from myosotis.tracking.mlflow_store import REASON


@dataclass(frozen=True)
class Gathered:
    """Records, each run once; `folder` / `stem` and an ending is where their scorecard belongs."""

    records: list[RunRecord]
    folder: Path
    stem: str = "scorecard"


def gather(queries: Sequence[str], uri: str | None = None) -> Gathered:
    """The records of `queries`: folders, files, runs and sweeps by id, prefix or name, `last`.

    Raises `DataError` or `ConfigError` when one of them is nowhere.
    """
    parts = [_gather_one(query, uri) for query in queries]
    records = {_id_of(record): record for part in parts for record in part.records}
    place = parts[0] if len(parts) == 1 else Gathered([], Path())
    return Gathered(list(records.values()), place.folder, place.stem)


def _id_of(record: RunRecord) -> str:
    """What tells two runs apart, also those of tools that number them from one."""
    return f"{record.run_id}\n{record.run_name}\n{record.started}"


def _gather_one(query: str, uri: str | None) -> Gathered:
    path = Path(query)
    if path.is_file():
        stem = "scorecard" if path.name == RECORD else path.stem + "-scorecard"
        return Gathered(read_file(path), path.parent, stem)
    if path.is_dir():
        return Gathered(read_folder(path), path)
    try:
        place = find(query)
    except UnknownRun as not_here:
        try:
            return _from_mlflow(query, uri)
        except (UnknownRun, ConfigError) as nor_there:
            raise not_here from nor_there
    if isinstance(place, SweepFolder):
        return Gathered(read_folder(place.path), place.path)
    return Gathered([place.load()], place.path)


def _from_mlflow(query: str, uri: str | None) -> Gathered:
    """A run's record, or those of a sweep's trials, as MLflow keeps them."""
    from myosotis.tracking import mlflow_runs

    run = mlflow_runs.find_run(uri, query)
    trials = mlflow_runs.children(run)
    records = [_trial(trial) for trial in trials] or [mlflow_runs.load_record(run)]
    return Gathered(records, Path("reports"), run.name)


def _trial(run: RunInfo) -> RunRecord:
    """The record of a trial; where it left none, what MLflow knows of it."""
    from myosotis.tracking import mlflow_runs

    try:
        return mlflow_runs.load_record(run)
    except MyosotisError as error:
        known: dict[str, Status] = {"FAILED": "FAILED", "KILLED": "KILLED", "FINISHED": "FAILED"}
        return RunRecord(
            run.run_id,
            run.name,
            status=known.get(run.status, "RUNNING" if run.alive else "KILLED"),
            error=run.tags.get(REASON) or error.message,
            started=run.started,
            ended=run.ended,
            config_hash=run.tags.get("config_hash", ""),
        )
