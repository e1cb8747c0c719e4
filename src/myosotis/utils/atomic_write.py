"""Files that are there whole, as they were or as they are to be, whenever a process is killed.

What belongs here: writing beside a file and putting the result in its place in one step. A reader
sees the old content or the new. What fails, a full disk included, leaves the old file and nothing
beside it, and raises the `OSError` as it came: the caller knows what to say. Folders that are
checked as well are the business of `cached_folder.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, *, partial: Path | None = None) -> Iterator[Path]:
    """A path to write to, beside `path`, whose content takes its place at the end.

    The folder is made if need be. By default the path beside has a name of its own, so that several
    processes may write at once (the last one stays); a kill then leaves that file behind. Where
    there is one writer, a fixed `partial` keeps large files from piling up.

    Not `tempfile`: its files are private, and a cache may be shared.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial or _beside(path)
    try:
        yield partial
        _to_disk(partial)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """`Path.write_bytes`, in one step."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """`Path.write_text` in UTF-8, in one step; line ends stay as they are."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, beside `path`, that becomes `path` at the end.

    If another process was first, its folder stays and this one goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    partial.mkdir()
    try:
        yield partial
        try:
            partial.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def _to_disk(path: Path) -> None:
    """A swap that outlives a power cut while the content does not would leave an empty file."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
