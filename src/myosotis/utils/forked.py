"""Work that is done by as many processes as there are cores, where there is enough of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

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
    """`work` of each of the pieces, in their order, each when it is done; raises what it raises."""
    if processes == 1:
        yield map(work, pieces)
        return
    _work.append(work)
    # The tokenizers' own threads do not survive a fork, and say so unless they are told not to be.
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        with get_context("fork").Pool(processes) as pool:
            yield pool.imap(_do, pieces)
    finally:
        _work.pop()
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _do(piece: Any) -> Any:
    return _work[-1](piece)
