"""What a person sees while a command works: one rich console and its progress bars.

Everything here goes to stderr; stdout belongs to results (`--json`).
"""

from __future__ import annotations

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

    `total=None` when the length is unknown. Bars may be nested. Silent when stderr is no terminal.
    """
    outermost = not _shown
    if outermost:
        _shown.append(_bars())
        _shown[0].start()
    bars = _shown[0]
    task = bars.add_task(description, total=total)

    def advance(n: int = 1, now: str = "") -> None:
        bars.update(task, advance=n, description=now or None)

    try:
        yield advance
    finally:
        bars.remove_task(task)
        if outermost:
            bars.stop()
            _shown.clear()
