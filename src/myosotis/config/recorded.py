"""A configuration as it is recorded: without what is secret.

`${oc.env:NAME}` stays as it is written, wherever a value refers to it, and is looked up again when
the run is taken up. Users and passwords in addresses are left out. What is not text (a number from
the environment) holds no secret, and is recorded as the number.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from myosotis.utils.escape import redacted

_swapping = threading.Lock()


def recorded(cfg: DictConfig) -> dict[str, Any]:
    """The values of `cfg`, resolved, with the environment left out."""
    with _swapping, _environment_unread():
        values = _values(cfg)
    return {str(key): value for key, value in values.items()}


def literal(cfg: DictConfig) -> DictConfig:
    """The recorded values as a config in which nothing is looked up any more."""
    escaped = OmegaConf.create(_escaped(recorded(cfg)))
    assert isinstance(escaped, DictConfig)
    return escaped


def _escaped(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_escaped(value) for value in node]
    if isinstance(node, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", node)
    return node


def _values(node: Any) -> Any:
    if isinstance(node, DictConfig):
        return {key: _value(node, key) for key in node}
    if isinstance(node, ListConfig):
        return [_value(node, number) for number in range(len(node))]
    return redacted(node) if isinstance(node, str) else node


def _value(node: Any, key: Any) -> Any:
    try:
        return _values(node[key])
    except OmegaConfBaseException:
        pass  # a typed key, which does not take the name of a variable
    _read(True)
    try:
        value = _values(node[key])
    finally:
        _read(False)
    # No text, so no secret; text stays as it was written.
    return node._get_node(key)._value() if isinstance(value, str) else value


@contextmanager
def _environment_unread() -> Iterator[None]:
    _read(False)
    try:
        yield
    finally:
        _read(True)


def _read(really: bool) -> None:
    OmegaConf.register_new_resolver("oc.env", oc.env if really else _as_written, replace=True)


def _as_written(*words: Any) -> str:
    return f"${{oc.env:{','.join(map(_word, words))}}}"


def _word(word: Any) -> str:
    if word is None:
        return "null"
    text = str(word)
    return text if re.fullmatch(r"\w+", text) else json.dumps(text)
