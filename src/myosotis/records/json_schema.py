"""The run record as a JSON Schema, for other tools that write one or check one.

What belongs here: the schema, made from the dataclasses of `schema.py`: the two cannot part.
`python -m myosotis.records.json_schema > docs/record.schema.json` writes it anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from typing import Any, Literal

from myosotis.records.codec import written
from myosotis.records.schema import SCHEMA, RunRecord

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def json_schema() -> dict[str, Any]:
    """The schema of one record. Keys that it does not name are allowed, and ignored."""
    parts: dict[str, Any] = {}
    root = _of_dataclass(RunRecord, parts)
    root["properties"]["schema"] = {"const": SCHEMA, "description": "the version of this schema"}
    root["required"] = [*root["required"], "schema"]
    return {"$schema": DIALECT, "title": "myosotis run record", **root, "$defs": parts}


def _of_dataclass(kind: type, parts: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    fields = written(kind)
    return {
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "type": "object",
        "properties": {field.name: _of(hints[field.name], parts) for field in fields},
        "required": [
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ],
    }


def _of(kind: Any, parts: dict[str, Any]) -> dict[str, Any]:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (types.UnionType, typing.Union):
        inner = _of(next(arg for arg in args if arg is not type(None)), parts)
        if isinstance(name := inner.get("type"), str):
            return {**inner, "type": [name, "null"]}
        return {"anyOf": [inner, {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is list:
        return {"type": "array", "items": _of(args[0], parts)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(args[1], parts)}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in parts:
            parts[kind.__name__] = {}  # a dataclass may hold its own kind
            parts[kind.__name__] = _of_dataclass(kind, parts)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": _PLAIN[kind]}


if __name__ == "__main__":
    print(json.dumps(json_schema(), ensure_ascii=False, indent=1))
