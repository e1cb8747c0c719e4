"""A record as such: one JSON object, what is wrong with one, and what its null keys mean."""

from __future__ import annotations

import json
from typing import Any

TOOL_DATA = ("arguments", "parameters")
"""Keys below which a file's own null is a value: of a tool's call, and of its description."""


class RecordError(Exception):
    """What is wrong with one record; the file and line are added outside."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def present(value: Any, columns: bool) -> Any:
    """The value without the keys that are null, at any depth: null is absent.

    Columns (parquet, the hub) give each object every key that any other has, so there it is so
    within a tool's arguments, too; and what is missing among numbers is NaN there.
    """
    if isinstance(value, list):
        return [present(one, columns) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: one if key in TOOL_DATA and not columns else present(one, columns)
        for key, one in value.items()
        if one is not None and not (columns and one != one)
    }


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no key appears twice. Raises `RecordError`."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(f"the key {twice!r} appears twice")
    return record


def parse(line: str) -> dict[str, Any]:
    """The object on a line. Raises `RecordError`."""
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
