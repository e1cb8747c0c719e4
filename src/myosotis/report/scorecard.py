"""The scorecard: run records in, one self-contained page out.

What belongs here: putting the page together and writing it. A pure function of the records: the
same records give the same bytes, no clock, no network, no model.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from myosotis.records.schema import RunRecord
from myosotis.report import page
from myosotis.report.export import render_csv, render_json
from myosotis.report.markdown import render_markdown
from myosotis.report.run_page import run_view
from myosotis.report.sweep_page import view
from myosotis.utils.atomic_write import write_bytes
from myosotis.utils.errors import ConfigError, DataError, RunError
from myosotis.utils.read_file import opened

# What a page of each format begins with.
SIGNS_WITHIN = 65_536  # characters
SIGNS = (
    r'<meta name="generator" content="myosotis">',
    r'\A\{\n  "headline": ',
    r"\Anumber,setting,run_id,",
    r"(?s)\A# [^\n]+\n\n.*\n\| (benchmark|task metric|\\?#) \|",
)

Format = Literal["html", "md", "json", "csv"]
FORMATS: dict[str, Format] = {
    ".html": "html",
    ".htm": "html",
    ".md": "md",
    ".json": "json",
    ".csv": "csv",
}


def scorecard(
    records: RunRecord | Iterable[RunRecord],
    out: str | os.PathLike[str],
    format: Format | None = None,
) -> Path:
    """Write the scorecard of one run, or of several side by side, to `out`.

    `format` is html, md, json or csv; without one the ending of `out` decides, and a folder gets
    `scorecard.html`. Raises DataError when there are no records, ConfigError for an unknown
    format and RunError when the file cannot be written.
    """
    records = [records] if isinstance(records, RunRecord) else list(records)
    # So that a record in memory and the same one read from a file give the same bytes.
    records = [record if record.folder else record.read_back() for record in records]
    if not records:
        raise DataError("There are no runs to write a scorecard of.")
    out = Path(out)
    if out.is_dir() or not out.suffix:
        out = out / f"scorecard.{format or 'html'}"
    chosen = format or FORMATS.get(out.suffix.lower(), "html")
    renderers = {
        "html": render_html,
        "md": render_markdown,
        "json": render_json,
        "csv": render_csv,
    }
    if chosen not in renderers:
        raise ConfigError(f"--format {chosen} is unknown.", f"Use one of {', '.join(renderers)}.")
    written = renderers[chosen](records).encode("utf-8", "replace")
    try:
        write_bytes(out, written)
    except OSError as error:
        raise RunError(
            f"Could not write the scorecard {out}: {error.strerror or error}."
        ) from error
    return out


def is_one(path: Path) -> bool:
    """Whether the file at `path` is a scorecard that was written here before, in any format."""
    try:
        with opened(path) as raw, io.TextIOWrapper(raw, "utf-8", "replace") as file:
            text = file.read(SIGNS_WITHIN)
    except OSError:
        return False
    return any(re.search(sign, text) for sign in SIGNS)


def render_html(records: list[RunRecord]) -> str:
    """The page as text."""
    study = view(records) if len(records) > 1 else None
    told = study["told"] if study else [(1, records[0])]
    return page.render(
        "scorecard.html.j2",
        script="page.js",
        runs=[run_view(record, number) for number, record in told],
        study=study,
    )
