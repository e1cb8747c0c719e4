"""Names, errors and model text that would be markup, escape sequences, formulas or false lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.text import Text

from myosotis.records.schema import ModelInfo, RetentionRow, RunRecord
from myosotis.report import terminal
from myosotis.report.export import render_csv
from myosotis.report.markdown import render_markdown
from myosotis.report.scorecard import render_html
from myosotis.utils import escape
from myosotis.utils.console import SafeConsole, progress

HOSTILE = {
    "markup": "[bold red]x[/]",
    "closing-markup": "x[/y]",
    "link": "[link=file:///etc/passwd]x[/link]",
    "ansi": "\x1b[2J\x1b[1;1Hforged",
    "ansi-title": "\x1b]0;owned\x07",
    "osc-52-clipboard": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "c1": "\x9b31mred",
    "backspace": "safe\b\b\b\bevil",
    "carriage-return": "safe\revil",
    "line": "name\nerror: forged line",
    "bidi": "a\u202etxt.exe",
    "isolate": "a\u2066b\u2069",
    "zero-width": "a\u200bb",
    "line-separator": "a\u2028error: forged",
    "tag-characters": "a\U000e0041\U000e0042",
    "surrogate": "a\ud800b",
    "nul": "a\x00b",
}
MUST_NOT_SHOW = (
    *("\x1b", "\x07", "\x9b", "\b", "\r", "\x00", "\u202e", "\u2066", "\u2069", "\u200b"),
    *("\u2028", "\U000e0041", "\ud800"),
)


def record(text: str) -> RunRecord:
    return RunRecord(
        "a" * 32,
        text,
        status="FAILED",
        error=text,
        model=ModelInfo(id=text),
        warnings=[text],
        retention=[RetentionRow(task=text, metric="acc", base=0.5, tuned=0.4)],
        command=["myosotis", "train", text],
    )


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_on_the_terminal_text_is_text(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = HOSTILE[name]
    terminal.show(record(text), Path(text.replace("\0", "") + ".html"))
    terminal.table([record(text)], Path("x"))
    terminal.trial(record(text), 1, 2)
    with progress(text, total=1) as advance:
        advance(1, text)
    shown = capfd.readouterr().err
    assert not [c for c in MUST_NOT_SHOW if c in shown]
    assert "\nerror: forged line\n" not in shown.split("in words")[0]


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_an_error_message_is_text(
    name: str, refused: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    text = HOSTILE[name].replace("\0", "␀").replace("\ud800", "�").replace("\n", " ")
    shown = refused("scorecard", f"nowhere {text}")
    assert not [c for c in MUST_NOT_SHOW if c in shown]


def test_colours_of_ours_stay() -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, color_system="standard", no_color=False)
    console.print(Text("red", "red"))
    assert "\x1b[31mred\x1b[0m" in out.getvalue()


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_in_html_and_markdown_too(name: str) -> None:
    for page in (render_html([record(HOSTILE[name])]), render_markdown([record(HOSTILE[name])])):
        assert not [c for c in MUST_NOT_SHOW if c in page]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](http://127.0.0.1:9/t.png)",
        "a | b | c",
        "`code`",
        "# head",
    ],
)
def test_in_markdown_it_is_no_markup(text: str) -> None:
    said = escape.markdown(text)
    assert "<" not in said
    for character in "[]!|`#":
        assert said.count(character) == said.count(f"\\{character}")


FORMULAS = {
    "equals": "=1+1",
    "plus": "+1",
    "minus": "-1+cmd|' /C calc'!A0",
    "at": "@SUM(1)",
    "after-a-space": " =1+1",
    "after-a-tab": "\t=1+1",
    "after-a-carriage-return": "\r=1+1",
    "after-a-line-feed": "\n=1+1",
    "after-a-nul": "\0=1+1",
    "after-a-no-break-space": "\u00a0=1+1",
    "after-an-escape": "\x1b=1+1",
    "full-width": "＝1+1",
    "full-width-at": "＠SUM(1)",
    "in-a-row-of-its-own": "x\r=1+1",
    "after-a-semicolon": "x;=1+1",
    "after-a-semicolon-and-a-space": "x; =1+1",
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_no_cell_is_a_formula(name: str) -> None:
    page = render_csv([record(FORMULAS[name])])
    assert "\r" not in page
    assert "\t" not in page
    for line in csv.reader(io.StringIO(page)):
        for cell in line:
            for part in cell.replace(";", "\n").split("\n"):
                seen = part.strip("␀␛␍ \u00a0").replace("＝", "=").replace("＠", "@")
                assert not seen.startswith(("=", "@", "+1", "-1+")), (name, cell)


def test_numbers_and_plain_text_are_as_they_were() -> None:
    assert escape.csv_cell("lora r=4, lr=1e-4") == "lora r=4, lr=1e-4"
    assert escape.visible("ünïcode עברית 日本 👩‍👩‍👧 a\tb\n") == "ünïcode עברית 日本 👩‍👩‍👧 a\tb\n"
    assert escape.markdown("a & b") == "a &amp; b"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://user:secret@host/x", "http://***@host/x"),
        ("uri=postgresql+psycopg://u:p%40w@db:5432/x", "uri=postgresql+psycopg://***@db:5432/x"),
        ("https://token@host", "https://***@host"),
        ("http://host/?user=me&password=x", "http://host/?user=me&password=***"),
        ("mail a@b.c", "mail a@b.c"),
        ("sqlite:////home/x@y/mlflow.db", "sqlite:////home/x@y/mlflow.db"),
    ],
)
def test_credentials_are_left_out(given: str, kept: str) -> None:
    assert escape.redacted(given) == kept
