"""A rank that cannot go on while others wait for it inside of a layer: all end, in seconds, with
what it has to say.

Where weights are spread over ranks, one that leaves a pass leaves the others in an exchange which
they cannot leave, until `PATIENCE` is over. So it writes its reason where all of them read (the
store through which they met), gives up its part of every exchange, and ends. A thread of each rank
reads the store. On a host who waits is woken by the end of the other's process; on GPUs nothing
wakes them but that the thread gives up their own part, too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from myosotis.utils import distributed
from myosotis.utils.console import console
from myosotis.utils.errors import RunError

REASON, ENDED = "myosotis/reason", "the first rank has ended, and said why"
HINT = "a smaller trainer.rows_at_once, or trainer.gradient_checkpointing=true"
EVERY, GRACE, PARTING = 0.5, 30.0, 20.0
"""Seconds: between two looks; from a reason heard until who is still waiting is ended; that a rank
which left stays at most, see `part`."""


class _Listener:
    def __init__(self) -> None:
        from torch.distributed.distributed_c10d import _get_default_store

        self.kept: Any = _get_default_store()  # it lives on the first rank, beyond the groups
        self.store = self.kept.clone()
        self.on_gpu = not distributed.on_host()
        self.rank, self.world = distributed.rank(), distributed.world()
        self.left = False
        self.heard: str | None = None
        self.ended = threading.Event()
        threading.Thread(target=self._listen, daemon=True, name="rank-failure").start()

    def _asked(self) -> str | None:
        with suppress(RuntimeError):  # gone with the first rank
            if not self.store.check([REASON]):
                return None
            reason: str = self.store.get(REASON).decode()
            self.store.set(f"{REASON}/{self.rank}", "heard")
            return reason
        return ENDED

    def leave(self, reason: str) -> None:
        self.left = True
        self.ended.set()
        self.store.set(REASON, reason)
        distributed.break_off()

    def part(self) -> None:
        """Having left: the first rank, on which the store lives, stays until all have heard. On
        GPUs another stays until the first has written its record: Lightning kills it, where another
        process has failed."""
        others = [f"{REASON}/{rank}" for rank in range(1, self.world)]
        with suppress(RuntimeError):  # too late, or gone with the first rank
            if self.rank == 0:
                self.store.wait(others, timedelta(seconds=PARTING))
            elif self.on_gpu:
                self.store.wait([f"{REASON}/never"], timedelta(seconds=PARTING))

    def _listen(self) -> None:
        while not self.ended.wait(EVERY):
            if (reason := self._asked()) is None:
                continue
            self.heard = reason
            if self.on_gpu:
                distributed.break_off()
            if not self.ended.wait(GRACE):
                console.print(f"[red]{reason}[/]", highlight=False)
                os._exit(1)
            return


_listener: Any = None


def listen() -> None:
    """Inside of `heard`, from now on a rank that leaves is heard of. On all, once they have met."""
    global _listener
    _listener = _Listener() if distributed.several() else None


def left_alone(error: RuntimeError) -> RunError:
    """Leave the others, whose weights are spread over this rank, too; what is to be raised."""
    message = (
        f"out of memory on rank {distributed.rank()}; where weights are spread over ranks, a pass "
        "that one of them leaves cannot begin anew"
    )
    if _listener is not None:
        _listener.leave(message)
    return RunError(message, HINT)


@contextmanager
def heard() -> Iterator[None]:
    """What a rank that was left raises is told as the reason of the one that left it."""
    global _listener
    try:
        yield
    except RuntimeError as error:
        if _listener is None or (reason := _reason_soon(_listener)) is None:
            raise
        raise RunError(reason, "" if reason == ENDED else HINT) from error
    except RunError:
        if _listener is not None and _listener.left:
            _listener.part()
        raise
    finally:
        if _listener is not None:
            _listener.ended.set()
        _listener = None


def _reason_soon(listener: _Listener) -> str | None:
    """Why it was left, which may be on its way."""
    for _ in range(4):
        if listener.heard is not None:
            break
        time.sleep(EVERY)
    return listener.heard
