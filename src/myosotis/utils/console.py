"""What a person sees of a command: how far it is, on `console` (stderr) with its progress bars, and
what it was asked for on `results` (stdout), to be piped and kept.

With `--json` stdout holds the document alone, and the results stand on stderr with the rest.
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

from myosotis.utils.duration import duration
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


LINE_SECONDS = 60.0
"""Between two lines that tell how far a command is, where there is no terminal for a bar."""

_told_at = [time.monotonic()]


class _Line:
    """How far one thing is, for a log; at most a line a minute, of all things together."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total = description, total
        self.done, self.began = 0, time.monotonic()

    def advance(self, n: int, now: str) -> None:
        self.done += n
        self.description = now or self.description
        moment = time.monotonic()
        if console.is_terminal or moment - _told_at[0] < LINE_SECONDS:
            return
        _told_at[0] = moment
        console.print(self.text(moment - self.began), markup=False, soft_wrap=True)

    def text(self, seconds: float) -> str:
        if self.total is None or not self.done:
            return f"{self.description}: {self.done:,}"
        left = duration(seconds / self.done * max(0, self.total - self.done))
        return f"{self.description}: {self.done:,} of {self.total:,}, {left} left"


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A progress bar; yields `advance(n=1, now="")`: n more of `total` are done, described anew.

    `total=None` when the length is unknown. Bars may be nested. Where stderr is no terminal (a log
    file, a batch system) a line is written now and then instead.
    """
    outermost = not _shown
    if outermost:
        _shown.append(_bars())
        _shown[0].start()
    bars = _shown[0]
    task = bars.add_task(description, total=total)
    line = _Line(description, total)

    def advance(n: int = 1, now: str = "") -> None:
        bars.update(task, advance=n, description=now or None)
        line.advance(n, now)

    try:
        yield advance
    finally:
        bars.remove_task(task)
        if outermost:
            bars.stop()
            _shown.clear()
