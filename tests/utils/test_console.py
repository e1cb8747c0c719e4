"""What a person sees where there is no terminal: a line now and then, and results on stdout."""

from __future__ import annotations

import pytest

from myosotis.utils import console as shown


def test_a_line_a_minute_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two things at once, a step a second: 125 seconds are two lines, with what is left."""
    clock = [1000.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(shown, "_told_at", [1000.0])
    assert not shown.console.is_terminal
    with shown.progress("training", total=240) as outer, shown.progress("held out", 500) as inner:
        for _ in range(125):
            clock[0] += 1
            outer()
            inner(2)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 60 of 240, 3 min 00 s left",
        "training: 120 of 240, 2 min 00 s left",
    ]


def test_results_stand_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    shown.results.print("what was asked for")
    shown.console.print("what goes on meanwhile")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("what was asked for\n", "what goes on meanwhile\n")
