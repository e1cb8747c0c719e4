"""The hash of a configuration: equal when two runs would give the same result.

What cannot change a result is left out; what a path points to counts by its content, not its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import myosotis
from myosotis.config.default_lr import learning_rate
from myosotis.config.schema import fresh
from myosotis.data.template_names import is_file
from myosotis.records.schema import WITHOUT_EFFECT
from myosotis.utils.errors import ConfigError

FILES = ("path", "val_path", "test_path", "deploy")
PATHS = (*(f"data.{name}" for name in FILES), "model.path")
REFERRING = tuple(f"data.source.{name}" for name in FILES)
"""What refers to a path in a configuration that is composed, and is a path itself in one that was
recorded: a run that is resumed keeps its hash."""


def config_hash(cfg: DictConfig) -> str:
    """16 hex digits over all keys that can change a result, and the package version.

    Files named by a path are read; a missing one counts by its name. A configuration that cannot be
    resolved, which `check` will refuse, counts as it is written.
    """
    try:
        settings = {"version": myosotis.__version__, "config": _with_effect(cfg)}
    except (ConfigError, OmegaConfBaseException):
        written = OmegaConf.to_container(cfg, resolve=False)
        assert isinstance(written, dict)
        settings = {key: value for key, value in written.items() if key != "hydra"}
    return _digest(json.dumps(settings, sort_keys=True, default=str))


def _with_effect(cfg: DictConfig) -> Any:
    """The resolved values of all keys that can change a result."""
    # Unresolved, so that what refers to a path follows when its content takes its place.
    kept = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    assert isinstance(kept, DictConfig)
    kept.optimizer.lr = learning_rate(cfg).value
    if is_file(str(kept.data.get("template"))):
        kept.data.template = content_of(Path(str(kept.data.template)).expanduser())
    texts = [f"control.{name}.texts" for name in kept.get("control") or {}]
    for path in (*PATHS, *REFERRING, *_listed(kept), *texts):
        value = OmegaConf.select(kept, path)
        if value is not None and not OmegaConf.is_config(value):
            OmegaConf.update(kept, path, content_of(Path(str(value)).expanduser()))
    for path in ("hydra", *WITHOUT_EFFECT):
        parent, _, leaf = path.rpartition(".")
        node = OmegaConf.select(kept, parent) if parent else kept
        if isinstance(node, DictConfig):
            node.pop(leaf, None)
    return OmegaConf.to_container(kept, resolve=True)


def _listed(cfg: DictConfig) -> list[str]:
    """The paths of several sources: of those that are listed, not of what refers to the list."""
    paths = []
    for parent in ("data", "data.source"):
        node = OmegaConf.select(cfg, parent)
        if isinstance(node, DictConfig) and not OmegaConf.is_interpolation(node, "sources"):
            paths += [f"{parent}.sources[{i}].path" for i in range(len(node.get("sources") or []))]
    return paths


def register_resolvers() -> None:
    """`${sweep_name:…}` and `${trial_name:}`, for the folders of a sweep in conf/train.yaml."""
    # Kept for the sweep, as Hydra keeps `now`: a trial's own overrides must not rename its sweep.
    OmegaConf.register_new_resolver("sweep_name", sweep_name, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "trial_name", lambda *, _root_: config_hash(_root_), replace=True
    )


def sweep_name(config_name: str, overrides: Sequence[str]) -> str:
    """What a sweep's folder is called: the study and its overrides, so that the same command finds
    it again; of `train -m` the time and an id, so that each is a sweep of its own.
    """
    if config_name == "train":
        return f"{datetime.now():%Y-%m-%d/%H-%M-%S}-{fresh()}"
    given = "\n".join(sorted(overrides))
    return f"{config_name}-{_digest(given)[:8]}" if given else config_name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_of(path: Path) -> Any:
    """sha256 of a file; of a folder, the names and hashes of the files in it."""
    if path.is_file():
        stat = path.stat()
        return _hash_of_file(path, stat.st_size, stat.st_mtime_ns)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        return {file.name: content_of(file) for file in files}
    return str(path)


@cache
def _hash_of_file(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
