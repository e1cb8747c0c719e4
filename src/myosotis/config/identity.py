"""The hash of a configuration: equal when two runs would give the same result.

What cannot change a result is left out; what a path points to counts by its content, not its name.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import myosotis
from myosotis.config.rates import learning_rate
from myosotis.record import WITHOUT_EFFECT

PATHS = ("data.path", "data.val_path", "data.test_path", "model.path")


def config_hash(cfg: DictConfig) -> str:
    """16 hex digits over all keys that can change a result, and the package version.

    Files named by a path are read; a missing one counts by its name.
    """
    # Unresolved, so that what refers to a path follows when its content takes its place.
    kept = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    assert isinstance(kept, DictConfig)
    kept.optimizer.lr = learning_rate(cfg).value
    for path in PATHS:
        if (value := OmegaConf.select(kept, path)) is not None:
            OmegaConf.update(kept, path, content_of(Path(str(value)).expanduser()))
    for path in WITHOUT_EFFECT:
        parent, _, leaf = path.rpartition(".")
        node = OmegaConf.select(kept, parent) if parent else kept
        if isinstance(node, DictConfig):
            node.pop(leaf, None)
    settings = {
        "version": myosotis.__version__,
        "config": OmegaConf.to_container(kept, resolve=True),
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_of(path: Path) -> Any:
    """sha256 of a file; of a folder, the names and hashes of the files in it."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        return {file.name: content_of(file) for file in files}
    return str(path)
