"""The audit as a page: whole by itself, and nothing out of the data is more than text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from myosotis.report import audit_page
from myosotis.utils.errors import ConfigError

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m\u202e"


def report(text: str = "fine") -> dict[str, Any]:
    lengths = {name: {"p50": 3, "p95": 4, "max": 1234} for name in ("prompt", "answer", "total")}
    histogram = [{"from": 1, "to": 8, "count": 3}, {"from": 9, "to": 1234, "count": 1}]
    numbers = dict.fromkeys(("kept", "dropped", "truncated", "tokens", "scored_tokens"), 4)
    return {
        "name": text,
        "warnings": [text],
        "max_length": 100,
        "parts": {
            "train": {**numbers, "lengths": {**lengths, "histogram": histogram}},
            "test": {**numbers, "lengths": {}},
        },
        "contamination": [{"task": text, "n": 5, "judged": 4, "items": {text: 0.5}, "where": {}}],
        "samples": [{"where": text, "tokens": [[text, True, False], ["<|end|>", False, True]]}],
    }


def test_text_of_the_data_is_escaped_everywhere() -> None:
    page = audit_page.render(report(HOSTILE), [HOSTILE])
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;script&gt;") >= 7 and "\x1b" not in page and "\u202e" not in page


def test_the_page_loads_nothing() -> None:
    page = audit_page.render(report(), ["a line"])
    assert "default-src 'none'" in page and "script-src" not in page
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)


def test_it_shows_numbers_and_what_is_scored() -> None:
    page = audit_page.render(report(), ["a line"])
    assert "1 thing to look at" in page and "3 · 4 · 1,234" in page and "4 of 5" in page
    assert '<span class="scored">fine</span><span class="control">&lt;|end|&gt;</span>' in page


def test_it_writes_over_its_own_pages_alone(tmp_path: Path) -> None:
    path = audit_page.write_page(tmp_path / "a.html", report(), [])
    audit_page.write_page(path, report(), [])
    (tmp_path / "b.html").write_text("mine")
    with pytest.raises(ConfigError, match="no audit of ours"):
        audit_page.write_page(tmp_path / "b.html", report(), [])
