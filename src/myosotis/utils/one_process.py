"""Files that several processes want at once: the first makes one, the others wait for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from myosotis.utils.console import console

T = TypeVar("T")


def kept(
    path: Path, read: Callable[[], T | None], make: Callable[[], T], write: Callable[[T], object]
) -> T:
    """What `read` finds in the file `path`, or what `make` makes and `write` keeps there.

    Of several processes that want it at once one makes it, the others wait for it; nothing is lost
    where it cannot be kept.
    """
    if (found := read()) is not None:
        return found
    with one_process(path) as writable:
        if (found := read()) is None:  # another process may have been first
            found = make()
            if writable:
                write(found)
        return found


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
