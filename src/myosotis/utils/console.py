"""What a person sees of a command: what it does on stderr, what it found on stdout.

`console` and the progress bars are for the person who waits; `results` is what was asked for
(`audit`, `plan`, `generate`), and can be sent to a file. With `--json` the document is the result,
and all else goes to stderr. Without a terminal a bar is a line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from myosotis.utils.escape import visible


class SafeConsole(Console):
    """A console on which text can be nothing but text: see `utils/escape.py`.

    What rich itself sends to the terminal (colours, the bars' cursor) is not text. Text that stands
    in markup is to pass `escape.terminal` where the markup is written.
    """

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            segment if segment.control else Segment(visible(segment.text), segment.style)
            for segment in buffer
        )


console = SafeConsole(stderr=True, highlight=False, emoji=False)

results = SafeConsole(highlight=False, emoji=False)

LINE_EVERY_SECONDS = 30.0
"""Where there is no terminal: a log that is followed shows that something moves."""

_line_at = [0.0]  # when the last one was written

# One live display for the process: a bar opened while another runs becomes a line below it.
_shown: list[Progress] = []


def _bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        expand=True,
        disable=not console.is_terminal,
    )


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A progress bar; yields `advance(n=1, now="")`: n more of `total` are done, described anew.

    `total=None` when the length is unknown. Bars may be nested. When stderr is no terminal, a line
    says every half a minute how far it is.
    """
    outermost = not _shown
    if outermost:
        _shown.append(_bars())
        _shown[0].start()
    bars = _shown[0]
    task = bars.add_task(description, total=total)
    if outermost:
        _line_at[0] = time.monotonic()
    done, called = 0, description

    def advance(n: int = 1, now: str = "") -> None:
        nonlocal done, called
        done, called = done + n, now or called
        bars.update(task, advance=n, description=now or None)
        if bars.disable:
            _line(called, done, total)

    try:
        yield advance
    finally:
        bars.remove_task(task)
        if outermost:
            bars.stop()
            _shown.clear()


def _line(description: str, done: int, total: int | None) -> None:
    """How far it is, unless that was said a moment ago."""
    now = time.monotonic()
    if now - _line_at[0] >= LINE_EVERY_SECONDS:
        _line_at[0] = now
        of = "" if total is None else f" of {total:,}"
        console.print(f"{description}: {done:,}{of}", markup=False, soft_wrap=True)
