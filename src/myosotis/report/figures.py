"""Figures for a paper: every figure of a scorecard as PDF and SVG at column width, and as CSV.

What belongs here: the page's figures drawn by matplotlib, with fonts that a printer has. It is
imported when a figure is asked for, not before: it takes a second.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

from myosotis.records.schema import RunRecord
from myosotis.report.figure import Figure, figures_in
from myosotis.report.run_page import run_view
from myosotis.report.svg.charts import FEWEST_JOINED, Chart, Series
from myosotis.report.svg.forest import Cell, Forest
from myosotis.report.svg.labels import Spot
from myosotis.report.svg.strips import SAME_SHAPE
from myosotis.report.svg.tradeoff import Interval, Place, Plane, label_spots
from myosotis.report.sweep_page import view
from myosotis.utils.atomic_write import write_bytes
from myosotis.utils.errors import DataError, RunError
from myosotis.utils.escape import line
from myosotis.utils.own_files import refuse_foreign

COLUMN, PAGE = 3.35, 6.9
"""Inches: a column of a two-column paper, and its whole text."""

COLOURS = {
    "retained": "#17694d", "forgotten": "#8f1414", "slipped": "#8d5f00", "inconclusive": "#515c6e",
}  # fmt: skip
MARKERS = {"retained": "o", "forgotten": "X", "slipped": "v", "inconclusive": "o"}
BLUE, GREY, SHADE, PALE = "#3468c4", "#586678", "#fbf0ef", "#a9bad3"
LINES = (BLUE, "#b4530a", "#0d7a5f", "#8a3fa8", "#a3273d", "#5c6470")
DASHES = ("-", "--", ":", "-.", (0, (6, 2)), (0, (2, 1)))
PLACES = {
    "chosen": ("o", BLUE, 34), "tuned": ("o", BLUE, 34), "front": ("o", BLUE, 22),
    "tied": ("o", "white", 18), "behind": ("o", PALE, 14), "over": ("X", "#8f1414", 20),
    "base": ("o", "white", 22), "dialled": ("o", PALE, 12), "prompted": ("D", GREY, 12),
}  # fmt: skip
STYLE: dict[Any, Any] = {
    "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "legend.fontsize": 6.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.linewidth": 0.6, "pdf.fonttype": 42, "svg.fonttype": "path",
    "svg.hashsalt": "myosotis", "text.usetex": False, "text.parse_math": False,
}  # fmt: skip


def write_figures(records: Sequence[RunRecord], folder: str | os.PathLike[str]) -> list[Path]:
    """Write the figures of one run, or of several side by side, into `folder`; returns the files.

    Raises DataError when the records hold nothing to draw, RunError when nothing can be written or
    matplotlib is not installed.
    """
    shown = run_view(records[0]) if len(records) == 1 else {**view(records), "told": None}
    figures = figures_in(shown)
    if not figures:
        raise DataError("These runs hold nothing to draw: neither a task nor a benchmark.")
    folder = Path(folder)
    for figure in figures:
        _refuse_foreign(_paths(figure, folder))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            written += _write(figure, folder)
    except OSError as error:
        raise RunError(
            f"Could not write figures into {folder}: {error.strerror or error}.",
            "Name another folder: --figures DIR.",
        ) from error
    return written


def _paths(figure: Figure, folder: Path) -> list[Path]:
    return [folder / f"{figure.name}.{ending}" for ending in ("pdf", "svg", "csv")]


def _refuse_foreign(paths: Sequence[Path]) -> None:
    """A figure of ours is there in all three formats; what is there alone is somebody's own."""
    there = [path for path in paths if os.path.lexists(path)]
    if 0 < len(there) < len(paths):
        refuse_foreign(there[0], ours=False, what="figure")


def _write(figure: Figure, folder: Path) -> list[Path]:
    try:
        import matplotlib
    except ImportError as error:
        raise RunError(
            "Figures are drawn by matplotlib, which is not installed.", "pip install matplotlib"
        ) from error
    paths = _paths(figure, folder)
    with matplotlib.rc_context(STYLE):
        drawn = _drawn(figure.source)
        # Without dates: the same records make the same bytes.
        for path, metadata in zip(paths, ({"CreationDate": None}, {"Date": None}), strict=False):
            # In memory: on a full disk matplotlib ends in an error of its own.
            content = BytesIO()
            drawn.savefig(content, format=path.suffix[1:], metadata=metadata)
            write_bytes(path, content.getvalue())
    write_bytes(paths[-1], figure.csv.encode("utf-8", "replace"))
    return paths


def _drawn(source: Chart | Plane | Forest) -> Any:
    """The matplotlib figure."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(layout="constrained")
    if isinstance(source, Forest):
        _forest(canvas, source)
    elif isinstance(source, Chart):
        _chart(canvas, source)
    else:
        _plane(canvas, source)
    return canvas


def _ticks(axis: Any, write: Any) -> None:
    """Tick labels as the page writes them."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def _chart(canvas: Any, chart: Chart) -> None:
    canvas.set_size_inches(COLUMN, 2.2)
    axes = canvas.subplots()
    axes.set_title(line(chart.title), loc="left")
    axes.set_ylabel(fill(line(chart.unit), 36))
    axes.set_xlabel(line(chart.x_name))
    lines = [_line(axes, series, number) for number, series in enumerate(chart.series)]
    for reference in chart.references:
        colour = COLOURS["forgotten"] if reference.style == "budget" else GREY
        axes.axhline(reference.value, color=colour, linewidth=0.7, linestyle=(0, (3, 3)))
        where = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "fontsize": 6.5}
        where |= {"textcoords": "offset points", "ha": "right", "color": colour}
        axes.annotate(line(reference.name), (1.0, reference.value), **where)
    if chart.x_ticks:
        axes.set_xticks(list(chart.x_ticks), [chart.x_said(x) for x in chart.x_ticks])
    _ticks(axes.yaxis, chart.value)
    if len(chart.series) > 1:
        axes.legend(lines, [line(s.name) for s in chart.series], frameon=False)


def _line(axes: Any, series: Series, number: int) -> Any:
    """A line; of two points only the points, since nobody measured what lies between them."""
    colour = PALE if series.style == "quiet" else LINES[number % len(LINES)]
    x, y = zip(*series.points, strict=True) if series.points else ((), ())
    few = len(x) < FEWEST_JOINED
    style = "none" if few else DASHES[number % len(DASHES)]
    marker = "osvDP^"[number % 6] if few or series.dots else None
    look = {"color": colour, "linestyle": style, "marker": marker}
    (drawn,) = axes.plot(x, y, markersize=3, linewidth=1.1, **look)
    at, lo, hi = zip(*series.bands, strict=True) if series.bands else ((), (), ())
    if at and (few or series.whiskers):
        axes.vlines(at, lo, hi, color=colour, linewidth=0.8, alpha=0.6)
    elif at:
        axes.fill_between(at, lo, hi, color=colour, alpha=0.15, linewidth=0)
    return drawn


def _plane(canvas: Any, plane: Plane) -> None:
    canvas.set_size_inches(COLUMN, 2.7)
    axes = canvas.subplots()
    axes.set_xlabel(fill(f"{line(plane.x_name)} → better", 52))
    axes.set_ylabel(fill(line(plane.y_name), 36))
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    if len(plane.joined) > 1:
        axes.plot(*zip(*plane.joined, strict=True), color=PALE, linewidth=1)
    spots = label_spots(replace(plane, height=190))  # about what the axes have here
    for place in plane.places:
        _place(axes, place, spots[id(place)], *plane.whiskers(place))
    x, y = plane.axes()
    axes.set_xlim(x.lo, x.hi)
    axes.set_ylim(y.lo, y.hi)
    if plane.epsilon is not None:
        axes.axhspan(y.lo, -plane.epsilon, color=SHADE, zorder=0, linewidth=0)
        axes.axhline(-plane.epsilon, color=COLOURS["forgotten"], linewidth=0.7, linestyle="--")
    _ticks(axes.xaxis, plane.x_value)
    _ticks(axes.yaxis, plane.y_value)


def _place(
    axes: Any, place: Place, spot: Spot | None, wide: Interval | None, high: Interval | None
) -> None:
    marker, colour, size = PLACES.get(place.style, PLACES["tuned"])
    around = {"color": colour if colour != "white" else BLUE, "linewidth": 0.7, "alpha": 0.45}
    if wide is not None:
        axes.hlines(place.y, *wide, **around)
    if high is not None:
        axes.vlines(place.x, *high, **around)
    edge = "black" if place.style == "chosen" else BLUE if colour == "white" else "white"
    drawn = {"edgecolors": edge, "linewidths": 0.7, "zorder": 3}
    axes.scatter([place.x], [place.y], size, colour, marker=marker, **drawn)
    if spot is not None:
        where = {"xytext": (0.7 * spot.dx, -0.7 * spot.dy), "textcoords": "offset points"}
        where |= {"ha": _SIDES[spot.anchor], "fontsize": 6.5}
        axes.annotate(line(place.name), (place.x, place.y), **where)


_SIDES = {"start": "left", "middle": "center", "end": "right"}


def _forest(canvas: Any, forest: Forest) -> None:
    """Rows of intervals under their measures, each cell on the axis that the page draws it on."""
    many = len(forest.columns) > 1
    names = [_folded(name) for name, _ in forest.rows]
    titles = [_folded(column) for column in forest.columns]
    lines = sum(name.count("\n") + 1 for name in names)
    height = 0.3 + 0.16 * max(title.count("\n") + 1 for title in titles) + 0.16 * lines
    canvas.set_size_inches(PAGE if many else COLUMN, height + 0.05 * len(names))
    every = canvas.subplots(1, len(forest.columns), sharey=True, squeeze=False)[0]
    every[0].set_yticks(range(len(names)), names)
    every[0].set_ylim(len(names) - 0.4, -0.6)
    for place, (axes, title) in enumerate(zip(every, titles, strict=True)):
        axes.set_title(title, loc="left")
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xlim(0, 100)
        for row, (_, cells) in enumerate(forest.rows):
            if (cell := cells[place]) is not None:
                _cell(axes, cell, row)


def _folded(name: str) -> str:
    """A name in lines that leave room for what it names."""
    return "\n".join(textwrap.wrap(line(name)[:80], 24)) or " "


def _cell(axes: Any, cell: Cell, row: int) -> None:
    bar, at = cell.drawn, cell.axis
    kind = SAME_SHAPE.get(bar.mark, bar.mark)
    colour = COLOURS.get(kind, BLUE)
    axes.vlines(at(0), row - 0.42, row + 0.42, color=GREY, linewidth=0.6)
    if bar.epsilon is not None:
        axes.fill_betweenx([row - 0.42, row + 0.42], 0, at(-bar.epsilon), color=SHADE, linewidth=0)
    if bar.wide is not None:
        axes.hlines(row, *(at(end) for end in bar.wide), color=GREY, linewidth=0.6)
    if bar.lo is not None and bar.hi is not None:
        axes.hlines(row, at(bar.lo), at(bar.hi), color=colour, linewidth=1.3, alpha=0.7)
    if bar.value is not None:
        face = "white" if kind == "inconclusive" else colour
        marker = MARKERS.get(kind, "o")
        axes.scatter(
            [at(bar.value)],
            [row],
            16,
            face,
            marker=marker,
            edgecolors=colour,
            linewidths=0.9,
            zorder=3,
        )
    said = f"{cell.change} ({cell.interval})" if cell.interval else cell.change
    axes.annotate(
        said, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=6,
        annotation_clip=False,
    )  # fmt: skip
