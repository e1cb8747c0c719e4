"""Work that is done by as many processes as there are cores, where there is enough of it."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from myosotis.utils.errors import RunError

T = TypeVar("T")
R = TypeVar("R")

MOST_PROCESSES = 16


def cores(pieces: int) -> int:
    """How many processes are worth it for so many pieces of work."""
    if sys.platform != "linux":  # elsewhere a fork of threads is not safe
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), MOST_PROCESSES, pieces))


_work: list[Callable[[Any], Any]] = []
"""What the forked processes inherit: neither data nor tokenizer go through a pipe."""


@contextmanager
def forked(work: Callable[[T], R], pieces: Sequence[T], processes: int) -> Iterator[Iterator[R]]:
    """`work` of each of the pieces, in their order, each when it is done; raises what it raises,
    and `RunError` where one of the processes was killed."""
    if processes == 1:
        yield map(work, pieces)
        return
    _work.append(work)
    # The tokenizers' own threads do not survive a fork, and say so unless they are told not to be.
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pool = ProcessPoolExecutor(processes, get_context("fork"), _settle)
    try:
        yield pool.map(_do, pieces)
    except BrokenProcessPool:
        raise RunError(
            f"One of {processes} processes that worked on the data was killed.",
            "The system does so where memory runs out; with `taskset -c 0` there is only one.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        _work.pop()
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _settle() -> None:
    """In such a process. Not the handlers of who forked it: SIGTERM ends it, and Ctrl-C, which
    reaches them all, is for that one to deal with. What was inherited is not collected, which would
    copy the memory that both share."""
    gc.freeze()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _do(piece: Any) -> Any:
    return _work[-1](piece)
