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

from myosotis.records.run_folder import find
from myosotis.records.schema import (
    HalfResult,
    RetentionRow,
    RunRecord,
    Status,
    SuiteVerdict,
    TaskQuality,
)
from myosotis.records.verdict import VERDICTS
from myosotis.utils.errors import DataError, MyosotisError

if TYPE_CHECKING:
    from myosotis.tracking.mlflow_client import RunInfo

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
    """The records in a file: one run record, or a list of them; see docs/record.md.

    A change that is not given is tuned − base. Raises `DataError`, naming the place, for what is no
    record and for numbers that contradict each other.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a JSON file of run records: {error}.") from error
    if isinstance(document, dict):
        return [_whole(RunRecord.from_json(json.dumps(document), str(path)), str(path))]
    if not isinstance(document, list) or not document:
        raise DataError(
            f"{path} holds no run record.", "Expected an object, or a list of them: docs/record.md."
        )
    where = [f"{path}[{number}]" for number in range(len(document))]
    return [
        _whole(RunRecord.from_json(json.dumps(entry), at), at)
        for entry, at in zip(document, where, strict=True)
    ]


Change = TaskQuality | RetentionRow | SuiteVerdict


def _whole(record: RunRecord, where: str) -> RunRecord:
    """The record with its changes filled in; what was not written by us may contradict itself."""
    parts: list[tuple[str, Change]] = []
    for at, half in {"": HalfResult(record.task, record.suite_verdict), **record.halves}.items():
        prefix = f"halves.{at}." if at else ""
        if half.task is not None:
            parts.append((f"{prefix}task", half.task))
        if half.suite is not None:
            parts.append((f"{prefix}{'suite' if at else 'suite_verdict'}", half.suite))
    parts += [(f"retention[{i}] ({row.task})", row) for i, row in enumerate(record.retention)]
    for name, part in parts:
        _fill(part, f"{where}.{name}")
    return record


def _fill(part: Change, where: str) -> None:
    if part.base is not None and part.tuned is not None:
        change = part.tuned - part.base
        if part.delta is None:
            part.delta = change
        elif abs(part.delta - change) > 0.002 * max(abs(part.base), abs(part.tuned)):
            raise DataError(f"{where}: delta {part.delta:g} is not tuned − base ({change:g}).")
    if part.lo is not None and part.hi is not None and part.lo > part.hi:
        raise DataError(f"{where}: lo {part.lo:g} is above hi {part.hi:g}.")
    verdict = "" if isinstance(part, TaskQuality) else part.verdict
    if verdict and verdict not in VERDICTS:
        raise DataError(
            f"{where}: verdict {verdict!r} is none of {', '.join(VERDICTS)}.",
            "Leave it out where there is none.",
        )


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
    from myosotis.tracking import mlflow_client

    run = mlflow_client.find_run(uri, query)
    trials = mlflow_client.children(run)
    if not trials:
        return Gathered([mlflow_client.load_record(run)], Path("reports"), run.name)
    return Gathered([_trial(trial) for trial in trials], Path("reports"), run.name)


def _trial(run: RunInfo) -> RunRecord:
    """The record of a trial; where it left none, what MLflow knows of it."""
    from myosotis.tracking import mlflow_client

    try:
        return mlflow_client.load_record(run)
    except MyosotisError as error:
        known: dict[str, Status] = {"FAILED": "FAILED", "KILLED": "KILLED", "FINISHED": "FAILED"}
        status = known.get(run.status, "RUNNING" if run.alive else "KILLED")
        reason = run.tags.get(mlflow_client.REASON) or error.message
        return RunRecord(
            run.run_id,
            run.name,
            status=status,
            error=reason,
            started=run.started,
            ended=run.ended,
            config_hash=run.tags.get("config_hash", ""),
        )
