"""The configuration in a run's folder, as a file: read, whole, and each value of its type.

Composition checks what a person types. A file may have been cut, edited or written by anything:
what belongs here is finding that out before a value of it is used. Whose it is and what it may do
is the business of `strangers.py`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from myosotis.config.schema import Config
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import line
from myosotis.utils.read_file import read_yaml

NAMED = ("update", "objective", "data")
"""Groups without a schema that every run has, and that have a name."""
TYPED = ("model", "trainer", "retention", "tracking", "optimizer")
"""What else no run can be opened without."""


def load(path: Path) -> DictConfig:
    """The configuration, unresolved.

    Raises `ConfigError` when it cannot be read, lacks a part, or holds a value of another type.
    Keys that are not known stay: a run may be of another version.
    """
    try:
        cfg = OmegaConf.create(read_yaml(path))
    except AssertionError:  # OmegaConf's, of a word or a number instead of settings
        cfg = None
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise _unusable(path, line(said)[:200]) from None
    if not isinstance(cfg, DictConfig) or not cfg:
        raise _unusable(path, "it holds no settings")
    for group in (*NAMED, *TYPED):
        node = cfg._get_node(group)
        if not isinstance(node, DictConfig) or not node:
            raise _unusable(path, f"it has no group {group!r}")
        if group in NAMED and not isinstance(node.get("name"), str):
            raise _unusable(path, f"{group}.name is not there")
    _require_types(cfg, path)
    return cfg


def _require_types(cfg: DictConfig, path: Path) -> None:
    values = OmegaConf.to_container(cfg, resolve=False)
    try:
        OmegaConf.merge(OmegaConf.structured(Config), _known(values, Config))
    except (OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        raise _unusable(path, line(str(error).split("\n")[0])[:200]) from None


def _known(values: Any, schema: Any) -> Any:
    """The values that the schema knows: the others are of another version."""
    if not isinstance(values, dict):
        return values
    types = get_type_hints(schema)
    return {
        key: _known(value, types[key]) if dataclasses.is_dataclass(types[key]) else value
        for key, value in values.items()
        if key in types
    }


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"The configuration {path} cannot be used: {why}.",
        "It may have been cut off or edited; the run's record.json holds it, too, under `config`.",
    )
