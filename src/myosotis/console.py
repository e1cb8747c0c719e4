"""What a person sees while a command works: one rich console and its progress bars.

Everything here goes to stderr; stdout belongs to results (`--json`).
"""

from __future__ import annotations

import os
import sys
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

LOG_WIDTH = 120
"""Columns where there is no terminal: the names of runs stay whole in a log."""


def _width() -> int | None:
    return None if sys.stderr.isatty() or "COLUMNS" in os.environ else LOG_WIDTH


console = Console(stderr=True, highlight=False, width=_width())

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
