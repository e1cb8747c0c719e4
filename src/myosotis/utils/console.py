"""What a person sees while a command works: one rich console and its progress bars.

Everything here goes to stderr; stdout belongs to results (`--json`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
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

console = Console(stderr=True, highlight=False)

LOG_WIDTH = 160


@contextmanager
def wide() -> Iterator[None]:
    """Room for a table where there is no terminal to fit: names stay whole in a log."""
    if console.is_terminal or "COLUMNS" in os.environ:
        yield
        return
    before, console.width = console.width, LOG_WIDTH
    try:
        yield
    finally:
        console.width = before


# One live display for the process: a bar opened while another runs becomes a line below it.
_shown: list[Progress] = []


def _bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
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
