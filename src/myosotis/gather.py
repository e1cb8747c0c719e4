"""Run records by what a person calls them: runs, sweeps, folders and files of other tools.

What belongs here: from words on a command line to the records that a scorecard is made of. No
models, and MLflow only where nothing on disk has the name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from myosotis.errors import DataError, MyosotisError
from myosotis.record import RunRecord, Status
from myosotis.runs import find

if TYPE_CHECKING:
    from myosotis.tracking import RunInfo

RECORD = "record.json"


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
    found = [_one(query, uri) for query in queries]
    records = {id_of(record): record for part in found for record in part.records}
    first = found[0]
    if len(found) > 1:
        first = Gathered([], Path())
    return Gathered(list(records.values()), first.folder, first.stem)


def id_of(record: RunRecord) -> str:
    """What tells two runs apart, also those of tools that number them from one."""
    return f"{record.run_id}\n{record.run_name}\n{record.started}"


def _one(query: str, uri: str | None) -> Gathered:
    path = Path(query)
    if path.is_file():
        return Gathered(read_file(path), path.parent, _stem(path))
    if path.is_dir():
        return Gathered(read_folder(path), path)
    try:
        folder = find(query)
    except DataError as not_here:
        try:
            return _from_mlflow(query, uri)
        except MyosotisError as nor_there:
            raise not_here from nor_there
    return Gathered([folder.load()], folder.path)


def _stem(path: Path) -> str:
    return "scorecard" if path.name == RECORD else path.stem + "-scorecard"


def read_file(path: Path) -> list[RunRecord]:
    """The records in a file: one run record, or a list of them. Raises `DataError`."""
    try:
        text = path.read_text(encoding="utf-8")
        document: Any = json.loads(text)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a JSON file of run records: {error}.") from error
    if isinstance(document, dict):
        return [RunRecord.from_json(text, str(path))]
    if not isinstance(document, list) or not document:
        raise DataError(
            f"{path} holds no run record.", "Expected an object, or a list of them: docs/record.md."
        )
    return [
        RunRecord.from_json(json.dumps(entry), f"{path}[{number}]")
        for number, entry in enumerate(document)
    ]


def read_folder(folder: Path) -> list[RunRecord]:
    """Every run at or below `folder`, by path. Raises `DataError` when there is none.

    A record that cannot be read is a trial, too: it stands as failed, with the reason. Copies that
    MLflow keeps as artifacts are read only where there is nothing else.
    """
    paths = sorted(folder.rglob(RECORD))
    own = [path for path in paths if "artifacts" not in path.relative_to(folder).parts]
    records = []
    for path in own or paths:
        try:
            records.append(RunRecord.load(path))
        except MyosotisError as error:
            name = path.parent.name
            records.append(RunRecord(str(path), name, status="FAILED", error=error.message))
    if not records:
        raise DataError(f"There is no run record ({RECORD}) in {folder} or below it.")
    return records


def _from_mlflow(query: str, uri: str | None) -> Gathered:
    from myosotis import tracking

    run = tracking.find_run(uri, query)
    trials = tracking.children(run)
    if not trials:
        return Gathered([tracking.load_record(run)], Path("reports"), run.name)
    return Gathered([_trial(trial) for trial in trials], Path("reports"), run.name)


def _trial(run: RunInfo) -> RunRecord:
    """The record of a trial; where it left none, what MLflow knows of it."""
    from myosotis import tracking

    try:
        return tracking.load_record(run)
    except MyosotisError as error:
        known: dict[str, Status] = {"FAILED": "FAILED", "KILLED": "KILLED", "FINISHED": "FAILED"}
        status = known.get(run.status, "RUNNING" if run.alive else "KILLED")
        reason = run.tags.get(tracking.REASON) or error.message
        return RunRecord(
            run.run_id,
            run.name,
            status=status,
            error=reason,
            started=run.started,
            ended=run.ended,
            config_hash=run.tags.get("config_hash", ""),
        )
