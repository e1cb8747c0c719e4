"""Which fields of a record are its prompt, its answer, …: `data.fields.prompt=question`.

A field is named, or several are: a list of names, whose texts stand below one another, or a text
with names in braces (`"{contexts}\\n\\nQuestion: {question}"`). `answers.text` is the field `text`
of the object `answers`. Where any is named, only those that are named are read.

`data.group_key=hospital` names the field that says what a record shares with others.
"""

from __future__ import annotations

import math
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
    "history",
    "tools",
    "tests",
)
AS_THEY_ARE = ("history", "tools")
"""Fields that are lists of their own kind, and no texts to be put together; a record may lack
them."""
GROUP = "group"
"""The usual name of the field that says what a record shares with others."""

TURNS = ("prompt", "question", "instruction", "input", "system")
"""Fields that a turn is made of even where they name the group, too."""
BETWEEN = "\n\n"
"""Between the texts of several fields, and of a list of texts."""

_IN_BRACES = re.compile(r"\{([^{}]+)\}")


class Fields:
    """Makes a record of the usual names out of one with names of its own.

    `group_key` is the field that becomes the record's `group`. Raises `ConfigError` for a name that
    no record has a place for.
    """

    def __init__(
        self, named: Mapping[str, Any] | None = None, group_key: str | None = None
    ) -> None:
        self.group_key = group_key
        given = {k: v for k, v in (named or {}).items() if v is not None}
        for key, value in given.items():
            if key not in NAMES:
                known = f"There is {', '.join(NAMES)}."
                raise ConfigError(
                    f"data.fields.{key}: no such field", did_you_mean(key, NAMES, known)
                )
            listed = isinstance(value, Sequence) and all(isinstance(v, str) for v in value)
            listed = listed and key not in AS_THEY_ARE
            if not value or not (isinstance(value, str) or listed):
                raise ConfigError(
                    f"data.fields.{key}={value}",
                    "the name of a field" + ", or a list of names" * (key not in AS_THEY_ARE),
                )
        self.named: dict[str, str | list[str]] = {
            k: v if isinstance(v, str) else list(v) for k, v in given.items()
        }

    def of(self, record: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
        """The record by the usual names, and the keys that nothing was made of.

        Raises `RecordError` where a named field is missing, or a group is neither text nor number.
        """
        if not self.named and self.group_key is None:
            return record, set()
        used: set[str] = set()
        if not self.named:
            made = dict(record)
        else:
            made = {
                name: _get(record, str(spec), used)
                if name in AS_THEY_ARE
                else _value(record, spec, used)
                for name, spec in self.named.items()
                if name not in AS_THEY_ARE or str(spec) in record
            }
        if (key := self.group_key) is None:
            return made, _left(record, used)
        group = _group(record, key, used)
        if not self.named:
            # What names the group is nothing else, unless a turn is made of it.
            first = key if key in record else key.partition(".")[0]
            made = {k: v for k, v in made.items() if k not in {first, GROUP} - set(TURNS)}
            used |= made.keys()
        return made | {GROUP: group}, _left(record, used)


def _left(record: Mapping[str, Any], used: set[str]) -> set[str]:
    """The keys of a record that are not `used`; of an object of which some are, the others."""
    left: set[str] = set()
    for key, value in record.items():
        inside = {name.removeprefix(f"{key}.") for name in used if name.startswith(f"{key}.")}
        if inside and isinstance(value, dict) and key not in used:
            left |= {f"{key}.{name}" for name in _left(value, inside)}
        elif key not in used:
            left.add(key)
    return left


def _group(record: dict[str, Any], key: str, used: set[str]) -> str:
    value = _get(record, key, used)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RecordError(f"{key!r} is {kind(value)}; expected the name of a group")
    _require_finite(value, key)
    return str(value)


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
    used.add(name)
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
    _require_finite(value, name)
    return str(value)


def _require_finite(value: str | float, name: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{name!r} is {kind(value)}; expected text")
