"""What MLflow accepts: how long params and tags may be, and which names; what is longer is cut."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

PARAM_CHARACTERS, TAG_CHARACTERS, NAME_CHARACTERS = 6000, 8000, 250
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 500


def valid_name(name: str) -> str:
    """`name` as MLflow accepts it: letters, digits, `_ - . : /` and space, at most 250.

    `acc[0]` becomes `acc_0`; a name that is cut keeps a digest of the whole.
    """
    marked = re.sub(r"[^/\w.\- :]+", "\0", str(name))
    parts = (part.strip("\0 ").replace("\0", "_") for part in marked.split("/"))
    clean = "/".join(part for part in parts if part.strip(".")) or "_"
    if len(clean) > NAME_CHARACTERS:
        clean = f"{clean[: NAME_CHARACTERS - 7]}-{digest(name)}"
    return clean


def flatten(params: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and texts out of nested mappings; None is "null", as in the config."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = text_of(value)
    return flat


def text_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def cut(text: str, limit: int) -> str:
    """`text` within `limit` characters, saying so where it was cut."""
    if len(text) <= limit:
        return text
    note = f" … (cut; {len(text)} characters in all)"
    return text[: limit - len(note)] + note


def digest(text: str) -> str:
    return hashlib.sha1(str(text).encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:6]
