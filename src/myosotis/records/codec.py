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
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

from myosotis.utils.errors import DataError

NOT_WRITTEN = {"written": False}
"""Metadata of a field that is no part of the document."""


@cache
def written(kind: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that its document has."""
    return [f for f in dataclasses.fields(kind) if f.metadata.get("written", True)]


def plain(value: Any) -> Any:
    """`value` in JSON's own types: NaN and infinities become None, numpy scalars numbers."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A model may write half of a surrogate pair, which UTF-8 cannot carry.
        text = str(value)
        return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in written(type(value))}
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
    try:
        return _reader(kind)(value)
    except _Wrong as error:
        raise DataError(f"{where}{''.join(reversed(error.place))}: {error}") from None


Reader = Callable[[Any], Any]
"""From a value out of JSON to one of a type; raises `_Wrong`."""


class _Wrong(Exception):
    """What is wrong with a value; `place` is where it stands, the innermost part first.

    The place is put together only where something is wrong: a record has a thousand values.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.place: list[str] = []


@cache
def _reader(kind: Any) -> Reader:
    """The reader of a type, made once: looking at a type takes longer than reading a value."""
    if kind is Any:
        return lambda value: value
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _optional(_reader(next(arg for arg in args if arg is not type(None))))
    if origin is Literal:
        return _checked(lambda value: value in args, " or ".join(map(repr, args)))
    if origin is list:
        return _list(_reader(args[0]), kind)
    if origin is dict:
        return _dict(_reader(args[1]), kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind)
    if kind is float:
        return _float
    if kind is int:
        return _checked(lambda value: type(value) is int, "int")
    if kind in (str, bool):
        return _checked(lambda value: type(value) is kind, kind.__name__)
    return _checked(lambda value: False, str(kind))


def _wrong(wanted: str, value: Any) -> _Wrong:
    return _Wrong(f"expected {wanted}, found {value!r:.80}.")


def _checked(fits: Callable[[Any], bool], wanted: str) -> Reader:
    def reader(value: Any) -> Any:
        if fits(value):
            return value
        raise _wrong(wanted, value)

    return reader


def _float(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    # An int may be larger than any float.
    if type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    raise _wrong("float", value)


def _optional(reader: Reader) -> Reader:
    def optional(value: Any) -> Any:
        # Python's json reads the NaN and Infinity that others write; here they are missing.
        if value is None or (type(value) is float and not math.isfinite(value)):
            return None
        return reader(value)

    return optional


def _list(reader: Reader, kind: Any) -> Reader:
    def read_list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong(getattr(kind, "__name__", str(kind)), value)
        made: list[Any] = []
        try:
            for item in value:
                made.append(reader(item))
        except _Wrong as error:
            error.place.append(f"[{len(made)}]")
            raise
        return made

    return read_list


def _dict(reader: Reader, kind: Any) -> Reader:
    def read_dict(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(getattr(kind, "__name__", str(kind)), value)
        made: dict[str, Any] = {}
        key = ""
        try:
            for key, item in value.items():
                made[key] = reader(item)
        except _Wrong as error:
            error.place.append(f".{key}")
            raise
        return made

    return read_dict


def _dataclass(kind: Any) -> Reader:
    needed = [
        part.name
        for part in written(kind)
        if part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
    ]
    readers: dict[str, Reader] = {}

    def read_dataclass(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong(kind.__name__, value)
        if not readers:  # when it is first needed: a type may hold itself
            hints = typing.get_type_hints(kind)
            readers.update((part.name, _reader(hints[part.name])) for part in written(kind))
        given: dict[str, Any] = {}
        name = ""
        try:
            for name, reader in readers.items():
                if name in value:
                    given[name] = reader(value[name])
        except _Wrong as error:
            error.place.append(f".{name}")
            raise
        for name in needed:
            if name not in given:
                raise _Wrong(f"the field {name!r} is missing.")
        return kind(**given)

    return read_dataclass
