"""Sheets on which people compare two answers: as CSV, and as a page that works by itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from myosotis.report import page
from myosotis.utils.errors import DataError
from myosotis.utils.escape import csv_cell, visible
from myosotis.utils.read_file import read_text

COLUMNS = ("sheet", "item", "prompt", "answer_A", "answer_B", "choice")
CHOICES = {"a": "A", "b": "B", "tie": "tie", "=": "tie"}
MOST_BYTES = 50_000_000
TITLE = "myosotis rating sheet"


class Card(NamedTuple):
    """One item as a rater sees it."""

    item: int
    prompt: str
    a: str
    b: str


def render_csv(sheet: str, cards: Sequence[Card]) -> str:
    """A table with an empty column `choice`: A, B or tie. `sheet` names the run it is of."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for card in cards:
        texts = [csv_cell(text) for text in (card.prompt, card.a, card.b)]
        table.writerow([sheet, card.item, *texts, ""])
    return out.getvalue()


def render_html(sheet: str, cards: Sequence[Card]) -> str:
    """A page with two answers to each prompt, which saves the choices as CSV."""
    return _page("rate.js", sheet, cards, live=False)


def render_live(cards: Sequence[Card]) -> str:
    """The same for a page that is served while choices are made, and keeps each at once."""
    return _page("prefer.js", "", cards, live=True)


def _page(script: str, sheet: str, cards: Sequence[Card], *, live: bool) -> str:
    shown = [
        {"item": c.item, "prompt": visible(c.prompt), "a": visible(c.a), "b": visible(c.b)}
        for c in cards
    ]
    return page.render(
        "rate.html.j2", styles=("rate.css",), script=script, sheet=sheet, cards=shown, live=live
    )


def read_choices(path: Path, sheet: str) -> dict[int, str]:
    """The choices of a filled-in sheet by item: A, B or tie; items without one are left out.

    Raises `DataError` for a file that is no sheet of this run, or a choice that is none.
    """
    try:
        text = read_text(path, MOST_BYTES)
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a rating sheet: {error}") from None
    choices: dict[int, str] = {}
    for number, row in enumerate(rows, 2):
        where = f"{path.name}, row {number}"
        if not {"sheet", "item", "choice"} <= row.keys():
            raise DataError(f"{path.name} has no columns sheet, item and choice")
        said = (row["choice"] or "").strip().casefold()
        if row["sheet"] != sheet:
            raise DataError(f"{where}: a sheet of another run ({(row['sheet'] or '')[:40]})")
        if not said:
            continue
        if said not in CHOICES or not (row["item"] or "").isdecimal():
            raise DataError(f"{where}: the choice {said[:40]!r} is none", "A, B or tie")
        choices[int(row["item"])] = CHOICES[said]
    if not choices:
        raise DataError(f"{path.name} holds no choices", "fill in the column choice: A, B or tie")
    return choices
