"""Tables that can be read in a narrow window: every cell knows what its column is called.

What belongs here: the labels that the style shows beside a cell where columns have no room.
"""

from __future__ import annotations

import re

from markupsafe import Markup

_HEAD = re.compile(r"<thead>(.*?)</thead>", re.S)
_CELL = re.compile(r"<(td|th)\b([^>]*)>(.*?)</\1>", re.S)
_ROW = re.compile(r"<tr\b.*?</tr>", re.S)


def labelled(table: Markup) -> Markup:
    """`data-label` on every cell of the bodies in `table`: the text of the last header row above.

    Works on what the templates write: their text is escaped, so that no `<` in it is of a text.
    """
    found = _HEAD.search(table)
    if found is None:
        return table
    rows = _ROW.findall(found[1])
    labels = [_label(attributes, inside) for _, attributes, inside in _CELL.findall(rows[-1])]
    head, body = str(table[: found.end()]), str(table[found.end() :])
    return Markup(head + _ROW.sub(lambda row: _with_labels(row[0], labels), body))


def _label(attributes: str, inside: str) -> str:
    """A header's own `data-label`, or its text up to what is small in it."""
    if (own := re.search(r'data-label="([^"]*)"', attributes)) is not None:
        return own[1]
    text = re.sub(r"<[^>]+>", "", inside.split("<small")[0])
    return " ".join(text.split()).replace('"', "&quot;")


def _with_labels(row: str, labels: list[str]) -> str:
    cells = iter(labels)

    def add(cell: re.Match[str]) -> str:
        label = next(cells, "")
        name, attributes, inside = cell.groups()
        if not label or name == "th":
            return cell[0]
        return f'<{name}{attributes} data-label="{label}">{inside}</{name}>'

    return _CELL.sub(add, row)
