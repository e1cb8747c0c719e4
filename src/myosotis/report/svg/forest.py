"""A forest plot as one thing: rows of intervals under a few measures.

What belongs here: what such a plot holds, whoever draws it: the page (a strip per cell, beside text
that is HTML), a file of its own (`standalone.py`), matplotlib (`report/figures.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from myosotis.report.svg.marks import Axis
from myosotis.report.svg.strips import Bar


@dataclass(frozen=True)
class Cell:
    """A bar on its axis, and its numbers as text; `unit` is that of the bar's values."""

    bar: Bar
    axis: Axis
    change: str
    interval: str
    unit: str = ""
    scale: float = 1.0

    @property
    def drawn(self) -> Bar:
        """The bar in the unit of the axis."""
        return self.bar if self.scale == 1 else self.bar.scaled(self.scale)


@dataclass(frozen=True)
class Forest:
    """`rows` are a name and a cell per column; None where something was not measured."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]
