"""Files that several processes want at once: the first makes one, the others wait for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from myosotis.utils.console import console


@contextlib.contextmanager
def one_process(path: Path) -> Iterator[bool]:
    """Hold the lock beside the file `path`; yields False, without it, where nothing can be written.

    Of several processes that want the same file, the first makes it and the others wait.
    """
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        console.print(f"Nothing can be kept in {path.parent}: {error}", markup=False)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
