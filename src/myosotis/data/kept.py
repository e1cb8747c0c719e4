"""What is kept of large data sets in the cache, and under which names.

A folder's name is a hash of all that its content depends on, the code that makes it included; one
that nobody has read for a month is deleted when another is written.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from myosotis.models import wheels
from myosotis.utils.cached_folder import cached_folder
from myosotis.utils.errors import AssetError

FEW = 1024
"""Examples below which keeping them, and another process, cost more than they save."""

UNUSED_SECONDS = 30 * 24 * 3600.0
LIBRARIES = ("transformers", "tokenizers", "jinja2")


def key_of(*about: object) -> str:
    """sha256 of what some content depends on, and of the code that makes it."""
    return hashlib.sha256(json.dumps([*about, _code()], sort_keys=True).encode()).hexdigest()


def kept_folder(kind: str, key: str | None, build: Callable[[Path], None]) -> Path:
    """The folder of this kind and key in the cache; `build(staging)` writes its files where there
    is none. Without a key, or where nothing can be written, a folder of this process alone."""
    if key is not None:
        folder = wheels.cache_dir() / kind / key[:40]
        known = folder.exists()
        with suppress(AssetError):
            cached_folder(folder, key, build)
            if not known:
                _forget_unused(folder.parent)
            with suppress(OSError):
                os.utime(folder)
            return folder
    own = Path(tempfile.mkdtemp(prefix="myosotis-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    build(own)
    return own


def _forget_unused(place: Path) -> None:
    oldest = time.time() - UNUSED_SECONDS
    for folder in place.iterdir():
        with suppress(OSError):
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)


@cache
def _code() -> str:
    """A hash of this package and of what trees are, and the versions of what they rest on."""
    here = Path(__file__).parent
    files = [*here.rglob("*.py"), *(here.parent / "trees").glob("*tree*.py")]
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.read_bytes())
    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    return ", ".join([found.hexdigest(), *versions])
