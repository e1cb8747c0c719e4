"""Dataclasses as JSON documents, and back: every field by its annotated type.

Numbers that are not finite become null, and are missing when read back. What is wrong with a
document is said with the place of the field.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from myosotis.utils.errors import DataError

NOT_WRITTEN = {"written": False}
"""Metadata of a field that is no part of the document."""


def written(kind: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that its document has."""
    return [f for f in dataclasses.fields(kind) if f.metadata.get("written", True)]


def plain(value: Any) -> Any:
    """`value` in JSON's own types: NaN and infinities become None, numpy scalars numbers."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A model may write half of a surrogate pair, which UTF-8 cannot carry.
        return str(value).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in written(value)}
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value))
    if callable(tolist := getattr(value, "tolist", None)):  # numpy, torch: neither is imported
        return plain(tolist())
    raise TypeError(f"a run record cannot hold a {type(value).__name__}: {value!r}")


def read(kind: Any, value: Any, where: str) -> Any:
    """`value`, out of JSON, as the annotated type `kind`; raises DataError naming the field."""
    if kind is Any:
        return value
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        # Python's json reads the NaN and Infinity that others write; here they are missing.
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return None
        return read(next(arg for arg in args if arg is not type(None)), value, where)
    if origin is Literal and value in args:
        return value
    if origin is list and isinstance(value, list):
        return [read(args[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: read(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _read_dataclass(kind, value, where)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number and abs(value) <= sys.float_info.max:  # an int may be larger
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (str, bool) and isinstance(value, kind):
        return value
    wanted = " or ".join(map(repr, args)) if origin is Literal else getattr(kind, "__name__", kind)
    raise DataError(f"{where}: expected {wanted}, found {value!r:.80}.")


@cache
def _types(kind: Any) -> dict[str, Any]:
    """A dataclass's fields with their types: evaluated from their text once."""
    return typing.get_type_hints(kind)


def _read_dataclass(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints = _types(kind)
    given: dict[str, Any] = {}
    for part in written(kind):
        if part.name in value:
            given[part.name] = read(hints[part.name], value[part.name], f"{where}.{part.name}")
        elif part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING:
            raise DataError(f"{where}: the field {part.name!r} is missing.")
    return kind(**given)
