"""A figure of the page: what is drawn, and the same as files to take along.

What belongs here: from the numbers of a drawing to CSV, and both as links that hold their data, so
that the page stays one file.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from myosotis.report.svg.charts import Chart, line_chart, line_key
from myosotis.report.svg.forest import Forest
from myosotis.report.svg.standalone import standalone
from myosotis.report.svg.tradeoff import Plane, draw_plane
from myosotis.utils.escape import csv_cell

Row = Sequence[float | str | None]


@dataclass(frozen=True)
class Figure:
    """`source` is drawn as `drawn` on the page; a forest is drawn there row by row."""

    name: str
    source: Chart | Plane | Forest
    drawn: Markup

    @classmethod
    def of(cls, name: str, source: Chart | Plane | Forest) -> Figure:
        """A figure, drawn; `name` becomes the name of its files."""
        safe = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] or "figure"
        if isinstance(source, Chart):
            return cls(safe, source, line_chart(source))
        return cls(safe, source, Markup("") if isinstance(source, Forest) else draw_plane(source))

    @property
    def csv(self) -> str:
        """The numbers behind the drawing, unrounded, better positive as they are drawn."""
        if isinstance(self.source, Chart):
            return written(_chart(self.source))
        return written(
            _plane(self.source) if isinstance(self.source, Plane) else _forest(self.source)
        )

    @property
    def svg(self) -> str:
        """The drawing as a file of its own."""
        return standalone(self.source, self.drawn)

    @property
    def csv_link(self) -> Markup:
        return data_link(f"{self.name}.csv", self.csv)

    @property
    def svg_link(self) -> Markup:
        return data_link(f"{self.name}.svg", self.svg)


def with_keys(chart: Chart) -> dict[str, Any]:
    """A chart as a section shows it: drawn, and how each of several lines is."""
    keys = [{"name": line.name, "drawn": line_key(line.style)} for line in chart.series]
    return {
        "title": chart.title,
        "unit": chart.unit,
        "note": "",
        "figure": Figure.of(chart.title, chart),
        "marks": keys if len(keys) > 1 else [],
    }


KINDS = {".csv": "text/csv", ".svg": "image/svg+xml", ".txt": "text/plain"}

LARGE = 65_536
"""Bytes from which a file is packed: the numbers of a thousand runs are a megabyte, packed an
eighth of it. Of twenty runs they are not: a spreadsheet opens them as they are."""


def data_link(file: str, text: str) -> Markup:
    """The attributes of a link that is its own content and is saved as `file`; a `LARGE` one as
    `file`.gz."""
    content, kind = text.encode("utf-8", "replace"), f"{KINDS[Path(file).suffix]};charset=utf-8"
    if len(content) >= LARGE:
        content, kind = gzip.compress(content, mtime=0), "application/gzip"
        file += ".gz"
    address = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return Markup('href="{}" download="{}"').format(address, file)


def written(rows: Iterable[Row]) -> str:
    """Rows as CSV; text that a spreadsheet would run is quoted."""
    out = io.StringIO()
    cells = ([csv_cell(v) if isinstance(v, str) else v for v in row] for row in rows)
    csv.writer(out, lineterminator="\n").writerows(cells)
    return out.getvalue()


def _chart(chart: Chart) -> Iterator[Row]:
    yield "line", chart.x_name, chart.title, "lo", "hi"
    for series in chart.series:
        ends = {x: (lo, hi) for x, lo, hi in series.bands}
        for x, y in series.points:
            yield series.name, chart.x_said(x), y, *ends.get(x, (None, None))
    for line in chart.references:
        yield line.name, None, line.value, None, None


def _plane(plane: Plane) -> Iterator[Row]:
    yield "name", "place", "x", "x_lo", "x_hi", "y", "y_lo", "y_hi", "budget", "said"
    none = (None, None)
    for p in plane.places:
        x, y = p.x_interval or none, p.y_interval or none
        yield p.name, p.style, p.x, *x, p.y, *y, plane.epsilon, p.said


def _forest(forest: Forest) -> Iterator[Row]:
    names = ("change", "lo", "hi", "adjusted_lo", "adjusted_hi", "budget", "unit", "verdict")
    yield "row", *(f"{column}: {name}" for column in forest.columns for name in names)
    for row, cells in forest.rows:
        values: list[float | str | None] = [row]
        for cell in cells:
            if cell is None:
                values += [None] * len(names)
                continue
            bar = cell.bar
            wide = bar.wide or (None, None)
            values += [bar.value, bar.lo, bar.hi, *wide, bar.epsilon, cell.unit, bar.mark]
        yield values


def figures_in(view: Any) -> list[Figure]:
    """Every figure of a page's data, in order, each name once."""
    found: list[Figure] = []
    names: dict[str, int] = {}
    for figure in _walk(view):
        names[figure.name] = names.get(figure.name, 0) + 1
        count = names[figure.name]
        name = figure.name if count == 1 else f"{figure.name}-{count}"
        found.append(Figure(name, figure.source, figure.drawn))
    return found


def _walk(value: Any) -> Iterator[Figure]:
    if isinstance(value, Figure):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(inner)
