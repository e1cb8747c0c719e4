"""A self-contained page from a template: one style, at most one script, both pinned by their hash.

What belongs here: what every page has in common. Its content policy allows the one style and the
one script alone, so that text a model wrote cannot become another, and nothing is loaded.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

import jinja2

from myosotis.report.narrator import EXPLAINED
from myosotis.report.tables import labelled
from myosotis.utils.escape import no_characters


def render(template: str, *, styles: tuple[str, ...] = (), script: str = "", **values: Any) -> str:
    """The page that `template` makes of `values`, which are escaped; `styles` come after the common
    one, `script` is the name of its only one."""
    style = "\n".join(_part(name) for name in ("style.css", *styles))
    code = _part(script) if script else ""
    page = _environment().get_template(template)
    text = page.render(
        style=style, style_hash=_pinned(style), script=code, script_hash=_pinned(code), **values
    )
    return no_characters(text)  # what a model wrote may hold any


@cache
def _part(name: str) -> str:
    return (Path(__file__).parent / "template" / name).read_text(encoding="utf-8")


def _pinned(text: str) -> str:
    """How a content policy names the one text it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("myosotis.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    environment.filters["labelled"] = labelled
    # Its declared type knows only what Jinja puts there itself.
    cast("dict[str, Any]", environment.globals)["EXPLAINED"] = EXPLAINED
    return environment


def _unbroken(text: str) -> str:
    """Powers such as 1e-3 kept on one line."""
    return re.sub(r"(?<=\de)-(?=\d)", "\u2011", text)
