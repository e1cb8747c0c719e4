"""What somebody else wrote, run within bounds: a template may loop for ever or write a terabyte.

The bounds are the system's own: a timer, whose signal also ends a long multiplication, and a limit
on the address space, past which an allocation fails. Where there is no such limit (Windows, macOS)
or no signal (other threads than the first), the other one holds.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

SECONDS = 10.0
"""A conversation is rendered in a thousandth of a second."""

MEMORY = 2**30
"""Bytes that rendering one text may take."""

MOST_CHARACTERS = 50_000_000
"""Of one text."""

T = TypeVar("T")


class TooMuch(Exception):
    """What was run took too long, or too much memory; the message says which."""


class _Late(BaseException):
    """Raised by the timer; no `except Exception` of a library may swallow it (Jinja has one around
    the constants that it works out beforehand)."""


def why(error: Exception) -> str:
    """What is told of a program of somebody else's that failed: the bound it met, or its error."""
    return str(error) if isinstance(error, TooMuch) else f"{type(error).__name__}: {error}"


def rendered(render: Callable[[], T]) -> T:
    """What `render` returns, within the bounds above. Raises `TooMuch`; what `render` raises, too,
    and whatever else its author made go wrong, as it came."""
    found = render() if _together else _within(render)
    if isinstance(found, str) and len(found) > MOST_CHARACTERS:
        raise TooMuch(f"it writes more than {MOST_CHARACTERS:,} characters")
    return found


def together(render: Callable[[], T]) -> T:
    """What `render` returns, with one pair of bounds for all that it renders: setting them takes
    longer than a text. Raises `TooMuch`, which is said of all; each alone then tells which one it
    was."""
    _together.append(True)
    try:
        return _within(render)
    finally:
        _together.pop()


_together: list[bool] = []


def _within(render: Callable[[], T]) -> T:
    """What `render` returns, within both bounds.

    The timer may ring again while they are lifted, since it goes on until then: what it raises
    there is caught outside, and they are lifted once more. No context managers, whose own exit it
    could meet before they have lifted anything.
    """
    lift = [_limit_time(), _limit_memory()]
    try:
        try:
            return render()
        finally:
            for one in lift:
                one()
    except _Late:
        for one in lift:
            one()
        raise TooMuch(f"it takes longer than {SECONDS:g} seconds") from None
    except MemoryError:
        raise TooMuch("it takes too much memory") from None
    except RecursionError:
        raise TooMuch("it calls itself for ever") from None


def _limit_time() -> Callable[[], None]:
    """Set the timer; what stops it, which may be called again."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        return lambda: None

    def late(number: int, frame: FrameType | None) -> None:
        raise _Late

    handler = signal.signal(signal.SIGALRM, late)
    left, again = signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    began = time.monotonic()

    def lift() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's timer goes on
            rest = max(left - (time.monotonic() - began), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, rest, again)

    return lift


def _limit_memory() -> Callable[[], None]:
    """Limit the address space; what lifts that, which may be called again."""
    taken = _address_space()
    if taken is None:
        return lambda: None
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = taken + MEMORY
    if before != resource.RLIM_INFINITY:
        most = min(most, before)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _address_space() -> int | None:
    """Bytes of this process's address space; None where the system does not say."""
    try:
        # Asked for each text that is rendered: a file object takes longer than rendering does.
        file = os.open("/proc/self/statm", os.O_RDONLY)
        try:
            pages = os.read(file, 64).split()[0]
        finally:
            os.close(file)
    except (OSError, IndexError):
        return None
    import resource

    return int(pages) * resource.getpagesize()
