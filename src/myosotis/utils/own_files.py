"""What a command may write over: files of its own, in folders that hold files.

A folder from elsewhere can hold links to any file of the user's; written through, that file is
gone, and read through, it is copied into a record. It can hold pipes, on which a reader and a
writer wait for ever. And a mistyped `--out` names a file that is not
ours. Both are refused before anything is written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from myosotis.utils.errors import ConfigError

_ELSEWHERE = "Choose another place (--out, or out= of a run), or change its permissions."


def refuse_links(folder: Path) -> None:
    """Raise `ConfigError` when anything below `folder` is a symbolic link (it itself may be), or
    no file: a pipe, a device, a socket."""
    for place, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(place, name)
            if path.is_symlink():
                raise ConfigError(
                    f"{path} is a symbolic link: nothing is read or written through one in there.",
                    "Remove it, or put a copy in its place.",
                )
            if name in files and not path.is_file():
                raise ConfigError(f"{path} is no regular file, and has no place there.")


def require_place(path: Path) -> None:
    """Raise `ConfigError` when nothing can be written at `path`, before there is anything to write:
    a file stands where a folder is needed, or the folder is read-only. Makes nothing."""
    try:
        above = next(place for place in path.absolute().parents if os.path.lexists(place))
        blocked = "is a file" if not above.is_dir() else "cannot be written"
        effective = os.access in os.supports_effective_ids
        if above.is_dir() and os.access(above, os.W_OK | os.X_OK, effective_ids=effective):
            with suppress(FileNotFoundError):
                path.lstat()  # raises for a name that is too long
            return
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{str(path)[:200]} cannot be written: {said}.", _ELSEWHERE) from None
    raise ConfigError(f"{path} cannot be written: {above} {blocked}.", _ELSEWHERE)


def refuse_link(path: Path) -> None:
    """Raise `ConfigError` when a result would be written through a symbolic link."""
    if path.is_symlink():
        raise ConfigError(
            f"{path} is a symbolic link: nothing is written through it.", "Choose another --out."
        )


def refuse_foreign(path: Path, ours: bool, what: str = "scorecard") -> None:
    """Raise `ConfigError` when `path` is there and is not `ours`."""
    refuse_link(path)
    if path.exists() and not ours:
        raise ConfigError(
            f"{path} is there already, and is no {what} of ours: it was not written over.",
            "Choose another --out, or move that file away.",
        )
