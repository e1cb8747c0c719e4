"""Run records read from a file, which may be another tool's, or from all that a folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from myosotis.records.schema import (
    HalfResult,
    RetentionRow,
    RunRecord,
    SuiteVerdict,
    TaskQuality,
)
from myosotis.records.verdict import VERDICTS
from myosotis.utils.errors import DataError, MyosotisError
from myosotis.utils.read_file import MOST_DOCUMENT, json_of, read_json, read_text

RECORD = "record.json"


def read_file(path: Path) -> list[RunRecord]:
    """The records in a file: one run record, a list of them, or one a line (.jsonl); see
    docs/reference/record.md.

    A change that is not given is tuned − base. Raises `DataError`, naming the place, for what is no
    record and for numbers that contradict each other.
    """
    try:
        document: Any = _lines(path) if path.suffix == ".jsonl" else read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a JSON file of run records: {error}.") from error
    if isinstance(document, dict):
        return [_whole(RunRecord.from_json(json.dumps(document), str(path)), str(path))]
    if not isinstance(document, list) or not document:
        raise DataError(
            f"{path} holds no run record.",
            "Expected an object, or a list of them: docs/reference/record.md.",
        )
    where = [f"{path}[{number}]" for number in range(len(document))]
    return [
        _whole(RunRecord.from_json(json.dumps(entry), at), at)
        for entry, at in zip(document, where, strict=True)
    ]


def _lines(path: Path) -> list[Any]:
    lines = read_text(path, MOST_DOCUMENT).splitlines()
    return [json_of(line) for line in lines if line.strip()]


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
