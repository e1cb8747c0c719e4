"""Work in forked processes: in order, with what it raises, and with signals of its own."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

from myosotis.utils.errors import RunError
from myosotis.utils.forked import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_pieces(processes: int) -> None:
    with forked(lambda n: n * n, range(9), processes) as found:
        assert list(found) == [n * n for n in range(9)]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_it_raises_is_raised(processes: int) -> None:
    def work(n: int) -> float:
        return 1 / (n - 2)

    with pytest.raises(ZeroDivisionError), forked(work, range(4), processes) as found:
        list(found)


def test_a_handler_of_the_parent_does_not_keep_them() -> None:
    """A run stops by an exception out of its handler. Inherited by the processes of a pool, it was
    set off in one that had just begun to wait for a piece, and the pool waited for ever."""

    def work(_: int) -> tuple[int, Any, Any]:
        return os.getpid(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with forked(work, range(8), 2) as found:
            told = list(found)
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
    assert {pair[1:] for pair in told} == {(signal.SIG_DFL, signal.SIG_IGN)}
    assert os.getpid() not in {pair[0] for pair in told}


def test_a_process_that_is_killed_is_told() -> None:
    """As the system does where memory runs out; a pool of `multiprocessing` would wait for ever."""

    def work(n: int) -> int:
        if n == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    with pytest.raises(RunError, match="2 processes"), forked(work, range(9), 2) as found:
        list(found)
