"""Which fields of a record are its prompt, its answer, …: `data.fields.prompt=question`.

A field is named, or several are: a list of names, whose texts stand below one another, or a text
with names in braces (`"{contexts}\\n\\nQuestion: {question}"`). `answers.text` is the field `text`
of the object `answers`. Where any is named, only those that are named are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from myosotis.data.records import RecordError, kind
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError

NAMES = (
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "label",
    "messages",
    "text",
    "system",
    "group",
)
BETWEEN = "\n\n"
"""Between the texts of several fields, and of a list of texts."""

_IN_BRACES = re.compile(r"\{([^{}]+)\}")


class Fields:
    """Makes a record of the usual names out of one with names of its own.

    Raises `ConfigError` for a name that no record has a place for.
    """

    def __init__(self, named: Mapping[str, Any] | None = None) -> None:
        given = {k: v for k, v in (named or {}).items() if v is not None}
        for key, value in given.items():
            if key not in NAMES:
                known = f"There is {', '.join(NAMES)}."
                raise ConfigError(
                    f"data.fields.{key}: no such field", did_you_mean(key, NAMES, known)
                )
            listed = isinstance(value, Sequence) and all(isinstance(v, str) for v in value)
            if not value or not (isinstance(value, str) or listed):
                raise ConfigError(
                    f"data.fields.{key}={value}", "the name of a field, or a list of names"
                )
        self.named: dict[str, str | list[str]] = {
            k: v if isinstance(v, str) else list(v) for k, v in given.items()
        }

    def of(self, record: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
        """The record by the usual names, and the keys that nothing was made of.

        Raises `RecordError` where a named field is missing.
        """
        if not self.named:
            return record, set()
        used: set[str] = set()
        made = {name: _value(record, spec, used) for name, spec in self.named.items()}
        return made, record.keys() - used


def _value(record: dict[str, Any], spec: str | list[str], used: set[str]) -> Any:
    if isinstance(spec, list):
        return BETWEEN.join(_text(_get(record, name, used), name) for name in spec)
    if spec not in record and (names := _IN_BRACES.findall(spec)):
        texts = {name: _text(_get(record, name, used), name) for name in names}
        return _IN_BRACES.sub(lambda found: texts[found[1]], spec)
    value = _get(record, spec, used)
    return BETWEEN.join(value) if _texts(value) else value


def _get(record: dict[str, Any], name: str, used: set[str]) -> Any:
    """A field, or a field of an object in one."""
    first, _, rest = name.partition(".")
    if name in record or not rest:
        first, rest = name, ""
    if first not in record:
        raise RecordError(f"no field {name!r}; {_near(first, record)}")
    used.add(first)
    value = record[first]
    for key in filter(None, rest.split(".")):
        if not isinstance(value, dict) or key not in value:
            raise RecordError(f"no field {name!r}: {first!r} is {kind(value)}")
        value = value[key]
    return value


def _near(name: str, record: dict[str, Any]) -> str:
    return did_you_mean(name, record, f"the fields are {', '.join(map(repr, list(record)[:8]))}")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _text(value: Any, name: str) -> str:
    """A value as text to stand among others."""
    if isinstance(value, bool) or value is None or isinstance(value, dict):
        raise RecordError(f"{name!r} is {kind(value)}; expected text")
    if isinstance(value, list):
        if value and not _texts(value):
            raise RecordError(f"{name!r} is {kind(value)}; expected texts")
        return BETWEEN.join(value)
    return str(value)
