"""The records of a data set, wherever it lies: JSON Lines, parquet, or the Hugging Face hub.

mine.jsonl      one JSON object a line
mine.parquet    one record a row
hub:owner/name  a data set of the hub, its split `train`; hub:owner/name#test names another
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from myosotis.utils.did_you_mean import close, either
from myosotis.utils.errors import DataError
from myosotis.utils.read_file import read_bytes

HUB = "hub:"
OTHER_FORMATS = {".csv": "read_csv", ".tsv": "read_table"}


class RecordError(Exception):
    """What is wrong with one record; the file and line are added outside."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    """Where each record stands (file and line), and the record or what is wrong with it. Keys that
    are null are left out.

    Raises `DataError` when the file or data set cannot be read at all.
    """
    if str(path).startswith(HUB):
        found, columns = _of_hub(str(path).removeprefix(HUB)), True
    elif Path(path).suffix.lower() == ".parquet" and Path(path).is_file():
        found, columns = _of_parquet(Path(path)), True
    else:
        found, columns = _of_lines(Path(path)), False
    for where, record in found:
        yield where, record if isinstance(record, RecordError) else present(record, columns)


TOOL_DATA = ("arguments", "parameters")
"""Keys below which a file's own null is a value: of a tool's call, and of its description."""


def present(value: Any, columns: bool) -> Any:
    """The value without the keys that are null, at any depth: null is absent.

    Columns (parquet, the hub) give each object every key that any other has, so there it is so
    within a tool's arguments, too.
    """
    if isinstance(value, list):
        return [present(one, columns) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: one if key in TOOL_DATA and not columns else present(one, columns)
        for key, one in value.items()
        if one is not None
    }


def _of_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    for number, line in lines(path):
        try:
            record: dict[str, Any] | RecordError = parse(line)
        except RecordError as fault:
            record = fault
        yield f"{path.name}:{number}", record


def _of_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no readable parquet file: {error}") from None
    for number, record in enumerate(table.to_pylist(), 1):
        yield f"{path.name}:{number}", record


def _of_hub(name: str) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    import datasets
    from datasets.exceptions import DatasetsError

    repository, _, split = name.partition("#")
    try:
        # Data files only: `datasets` no longer runs a repository's own code.
        records = datasets.load_dataset(repository, split=split or "train")
    except (OSError, ValueError, DatasetsError) as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"the data set {repository} of the hub cannot be loaded: {said[:300]}",
            "without a network: HF_HUB_OFFLINE=1 and a filled cache, or data.path=FILE",
        ) from None
    for number, record in enumerate(records, 1):
        yield f"{repository}:{number}", dict(record)  # type: ignore[call-overload]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank.

    Raises `DataError` when the file is missing, empty, in another format or not UTF-8.
    """
    try:
        raw = read_bytes(path)
    except FileNotFoundError:
        beside = [str(path.parent / name) for name in close(path.name, _names(path.parent), 1)]
        hint = f"Did you mean {either(beside)}?" if beside else ""
        raise DataError(f"there is no data file {path}", hint) from None
    except IsADirectoryError:
        beside = sorted(p.name for p in path.glob("*.jsonl"))[:5]
        hint = f"it holds {', '.join(beside)}" if beside else "a JSON Lines file is expected"
        raise DataError(f"{path} is a folder, not a data file", hint) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if reader := OTHER_FORMATS.get(path.suffix.lower()):
        raise DataError(
            f"{path} is {path.suffix[1:].upper()}; JSON Lines is expected",
            f"pandas.{reader}('{path.name}').to_json('{path.stem}.jsonl', orient='records', "
            "lines=True)",
        )
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16", f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8.jsonl")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if not raw.strip():
        raise DataError(f"{path} is empty", "one JSON object a line is expected")
    if raw.lstrip()[:1] == b"[":
        hint = f"jq -c '.[]' {path.name} > {path.stem}.jsonl"
        raise DataError(f"{path} is one JSON array; one record a line is expected", hint)
    # Only b"\n" ends a line: str.splitlines would also cut at U+2028, which JSON strings may hold.
    for number, line in enumerate(raw.split(b"\n"), 1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            byte = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
            hint = f"if it is Latin-1: iconv -f LATIN1 -t UTF-8 {path.name} > utf8.jsonl"
            raise DataError(f"{path.name}:{number}: not UTF-8 ({byte})", hint) from None
        if text:
            yield number, text


def _names(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir()] if folder.is_dir() else []


def parse(line: str) -> dict[str, Any]:
    """The object on a line. Raises `RecordError`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise RecordError(f"the key {twice!r} appears twice")
        return record

    try:
        record = json.loads(line, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise RecordError(f"not valid JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise RecordError("not valid JSON: nested too deeply") from None
    except ValueError:  # Python's own bound, against numbers that take for ever to convert
        raise RecordError("a number has more than 4300 digits") from None
    if not isinstance(record, dict):
        raise RecordError(f"{kind(record)} instead of a JSON object")
    return record


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list():
            return "a list"
    return "an object"
