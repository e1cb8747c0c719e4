"""Records of files that are no JSON Lines: tables of comma- or tab-separated values, one JSON
document, parquet.

Each yields a record, or what is wrong with it, by the number a person finds it at: the line of a
table, the place in a list.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from myosotis.data.records import RecordError, kind, once
from myosotis.utils.errors import DataError

Rows = Iterator[tuple[str, dict[str, Any] | RecordError]]

LONGEST_CELL = 2**27  # characters; Python's own bound of 131,072 is shorter than some texts


def of_csv(path: Path, text: str, delimiter: str) -> Rows:
    """A row is a record, its first line the names of the fields; an empty cell is no field."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader)]
        _require_names(path, names)
        begins = reader.line_num + 1
        for cells in reader:
            where, begins = f"{path.name}:{begins}", reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(names):
                yield where, RecordError(f"{len(cells)} cells, the header has {len(names)}")
            else:
                yield where, {k: v for k, v in zip(names, cells, strict=True) if v}
    except csv.Error as error:
        raise DataError(f"{path.name}:{reader.line_num}: no readable row: {error}") from None


def _require_names(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(names):
        what = f"names {twice[0]!r} twice" if twice and twice[0] else "has a column without a name"
        raise DataError(f"{path.name}: the first line {what}", "it must name each column once")


def of_document(path: Path, text: str) -> Rows:
    """A JSON list of records, or an object in which one list of records stands."""
    try:
        document = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        said = f"{error.msg} (line {error.lineno}, column {error.colno})"
        raise DataError(f"{path} is not valid JSON: {said}") from None
    except RecordError as error:
        raise DataError(f"{path}: {error}") from None
    except (RecursionError, ValueError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path} is not valid JSON: {said}") from None
    for number, record in enumerate(_list_in(path, document), 1):
        fault = RecordError(f"{kind(record)} instead of a JSON object")
        yield f"{path.name}:record {number}", record if isinstance(record, dict) else fault


def _list_in(path: Path, document: Any) -> list[Any]:
    if isinstance(document, list):
        return document
    lists = {k: v for k, v in document.items() if isinstance(v, list) and v and _objects(v)}
    if len(lists) == 1:
        return next(iter(lists.values()))
    if not lists:
        return [document]
    raise DataError(
        f"{path} holds several lists of records: {', '.join(map(repr, lists))}",
        "one list a file is expected",
    )


def _objects(values: list[Any]) -> bool:
    return all(isinstance(value, dict) and "role" not in value for value in values)


def of_parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no readable parquet file: {error}") from None
    classes = _classes(table.schema.metadata or {})
    for number, record in enumerate(table.to_pylist(), 1):
        yield f"{path.name}:{number}", in_words(record, classes)


def in_words(record: dict[str, Any], classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The record with the names of its classes, by column, where it has their numbers; a number of
    no class (-1: not labelled) is absent."""
    named = {
        key: names[record[key]] if 0 <= record[key] < len(names) else None
        for key, names in classes.items()
        if isinstance(record.get(key), int)
    }
    return record | named


def _classes(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of classes by column, as `datasets` writes them into a parquet file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            key: [str(name) for name in about["names"]]
            for key, about in features.items()
            if isinstance(about, dict) and about.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
