"""Bounds on what somebody else wrote: they are lifted, whenever the timer rings."""

from __future__ import annotations

import resource
import signal
from typing import Any

import pytest

from myosotis.utils import bounded
from myosotis.utils.bounded import TooMuch, rendered, together


def now() -> Any:
    """Who hears the timer, how often it rings (ours again and again, the one of a test's own limit
    once), and the limit on memory."""
    _, again = signal.getitimer(signal.ITIMER_REAL)
    return signal.getsignal(signal.SIGALRM), again, resource.getrlimit(resource.RLIMIT_AS)


@pytest.fixture
def before() -> Any:
    return now()


def test_what_ends_is_returned(before: Any) -> None:
    assert rendered(lambda: "a") == "a" and together(lambda: [rendered(lambda: "b")]) == ["b"]
    assert now() == before


def test_what_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch, before: Any) -> None:
    def loop() -> None:
        while True:
            pass

    monkeypatch.setattr(bounded, "SECONDS", 0.05)
    for run in (rendered, together):
        with pytest.raises(TooMuch, match=r"longer than 0.05 seconds"):
            run(loop)
    assert now() == before


@pytest.mark.parametrize("ends", ["well", "in want of memory"])
def test_a_timer_that_rings_while_the_bounds_are_lifted(
    ends: str, monkeypatch: pytest.MonkeyPatch, before: Any
) -> None:
    """It rang as a text was done, or as another fault was on its way: that is told as a fault of
    the template, and nothing stays behind that would ring in the midst of something else."""
    rings, truly = [True], signal.setitimer

    def ringing(which: int, seconds: float, again: float = 0.0) -> Any:
        if seconds == 0 and rings:
            rings.pop()
            raise bounded._Late
        return truly(which, seconds, again)

    def render() -> str:
        if ends == "well":
            return "text"
        raise MemoryError

    monkeypatch.setattr(signal, "setitimer", ringing)
    with pytest.raises(TooMuch, match="it takes longer"):
        rendered(render)
    assert not rings and now() == before
