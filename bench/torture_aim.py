"""Run in a process before the command that bench/torture.py tortures: counts what it writes, and
dies at one of those writes, or lives with a full disk.

TORTURE_FOLDER   what lies below it counts
TORTURE_AT       the number of the write before which the process kills itself (SIGKILL); 0: never
TORTURE_LOG      where each write is noted, for a run that is only counted
TORTURE_BYTES    no file may grow beyond so many bytes: a full disk where none can be mounted
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

FOLDER = os.environ["TORTURE_FOLDER"]
AT = int(os.environ.get("TORTURE_AT", "0"))
LOG = os.environ.get("TORTURE_LOG")
CHANGES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.truncate",
    "shutil.move",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_count = [0]


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and bool(flags & WRITES)
    else:
        path, writes = (args or ("",))[0], event in CHANGES
    if not writes or not isinstance(path, (str, bytes, os.PathLike)):
        return
    name = str(Path(os.fsdecode(path)).absolute())
    if not name.startswith(FOLDER) or name == LOG:
        return
    _count[0] += 1
    if LOG:
        with Path(LOG).open("a") as file:
            file.write(f"{_count[0]} {event} {os.path.relpath(name, FOLDER)}\n")
    if _count[0] == AT:
        os.kill(os.getpid(), signal.SIGKILL)


if limit := int(os.environ.get("TORTURE_BYTES", "0")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
sys.addaudithook(hook)
