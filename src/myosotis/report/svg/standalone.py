"""Drawings as files of their own: a figure as SVG that needs no page around it.

What belongs here: a fixed width, a background, and of the page's style the rules that the drawing
uses, in its light colours. The same figures for print, as PDF, are drawn in `report/figures.py`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from markupsafe import Markup

from myosotis.report.svg.charts import Chart
from myosotis.report.svg.forest import Cell, Forest
from myosotis.report.svg.marks import tag
from myosotis.report.svg.strips import interval_strip
from myosotis.report.svg.tradeoff import Plane
from myosotis.utils.escape import no_characters

COLUMN, PAGE = 336, 700
"""Pixels: a column of a two-column paper (3.5 inches at 96 per inch), and its whole width."""

GUTTER, HEAD, ROW = 52, 40, 34
FONT = "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"


def standalone(source: Chart | Plane | Forest, drawn: Markup) -> str:
    """The figure as the text of an SVG file. `drawn` is how a chart or a plane stands on the page;
    its tooltips are left out, their numbers being in the CSV beside it."""
    if isinstance(source, Forest):
        inside, width, height = _forest(source)
    else:
        unit = source.unit if isinstance(source, Chart) else source.y_name
        below = source.x_name
        width, height = COLUMN, HEAD + source.height + 46
        inside = [
            _text(source.title, 8, 16, bold=True),
            _text(unit, 8, 32),
            _nested(drawn, HEAD, width),
            _text(below, width - 8, height - 6, "end"),
        ]
    text = re.sub(r"<title>[^<]*</title>", "", str(Markup("").join(inside)))
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    return no_characters(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'font-family="{FONT}"><style>{_rules(text)}</style>{paper}{text}</svg>'
    )


def _text(said: str, x: float, y: float, anchor: str = "start", *, bold: bool = False) -> Markup:
    weight = 600 if bold else None
    return tag("text", said, x=x, y=y, text_anchor=anchor, font_weight=weight)


def _nested(drawn: Markup, top: float, width: float) -> Markup:
    """Gutter and drawing, which stand side by side on the page, in places of their own."""
    gutter, _, drawing = str(drawn).partition("</svg>")
    left = Markup(f"{gutter}</svg>")
    right = tag("svg", Markup(drawing), x=GUTTER, width=width - GUTTER - 14, overflow="visible")
    return tag("svg", left, right, y=top, overflow="visible")


def _forest(forest: Forest) -> tuple[list[Markup], float, float]:
    """Rows under their measures, the numbers right of each strip."""
    many = len(forest.columns) > 1
    width = PAGE if many else COLUMN
    names = 150 if many else 92
    each = (width - names) / max(len(forest.columns), 1)
    numbers = 92.0
    parts = [_text(forest.title, 8, 16, bold=True)]
    parts += [_text(name, names + k * each, 34) for k, name in enumerate(forest.columns)]
    for row, (name, cells) in enumerate(forest.rows):
        top = HEAD + row * ROW
        parts.append(_text(name[: int(names / 6)], 8, top + ROW / 2 + 4))
        for k, cell in enumerate(cells):
            if cell is not None:
                parts += _cell(cell, names + k * each, top, each - numbers - 12, numbers)
    return parts, width, HEAD + len(forest.rows) * ROW + 10


def _cell(cell: Cell, left: float, top: float, width: float, numbers: float) -> list[Markup]:
    strip = interval_strip(cell.drawn, cell.axis, ROW)
    end = left + width + numbers + 4
    return [
        tag("svg", strip, x=left, y=top, width=max(width, 10), height=ROW, overflow="visible"),
        tag("text", cell.change, x=end, y=top + 14, text_anchor="end", font_weight=600),
        tag("text", cell.interval, x=end, y=top + 27, text_anchor="end", class_="tiny"),
    ]


@cache
def _style() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The page's light colours, and the rules of its drawings."""
    css = (Path(__file__).parents[1] / "template" / "style.css").read_text(encoding="utf-8")
    light = css[css.index("{") : css.index("}")]
    colours = dict(re.findall(r"--([\w-]+):\s*([^;]+);", light))
    drawings = css[css.index("/* Drawings */") : css.index("/* End of drawings */")]
    drawings = re.sub(r"/\*.*?\*/", "", drawings, flags=re.S)
    return colours, re.findall(r"([^{}]+)\{([^{}]*)\}", drawings)


def _rules(text: str) -> str:
    """The rules for what stands in `text`, with the colours themselves in place of their names."""
    colours, rules = _style()
    used = {name for found in re.findall(r'class="([^"]*)"', text) for name in found.split()}
    kept = []
    for selectors, body in rules:
        wanted = [
            s.strip() for s in selectors.split(",") if set(re.findall(r"\.([\w-]+)", s)) <= used
        ]
        if wanted:
            kept.append(f"{','.join(wanted)}{{{body.strip()}}}")
    return re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], "".join(kept))
