"""What stands on the screen: the page's words and numbers, whole at 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.records.schema import RunRecord
from myosotis.report import remedy, terminal
from myosotis.utils.console import results

from . import made
from .kept import read

FIXED_SET = Path(__file__).parent / "fixed_set"  # 60 items of a fixed set: little is settled


@pytest.fixture(autouse=True)
def _eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_width", 80)
    monkeypatch.setattr(results, "_height", 40)


def shown(capfd: pytest.CaptureFixture[str]) -> str:
    text = capfd.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    return text


def test_a_run_is_written_as_on_the_page(record: RunRecord, capfd: pytest.CaptureFixture[str]):
    terminal.show(record)
    text = shown(capfd)
    for said in ("44.5 % → 43.5 %", "−3.5 points", "−6.5 to −0.5", "−1.67 points"):
        assert said in text
    assert "-0.035" not in text and "0.445" not in text
    (mean,) = [line for line in text.splitlines() if "mean of accuracies" in line]
    (run,) = [line for line in text.splitlines() if line.startswith(" the run")]
    assert "slipped" in mean and "slipped" in run


def test_the_mean_and_the_run_have_a_verdict_each(capfd: pytest.CaptureFixture[str]):
    (record,) = [r for r in read(FIXED_SET) if r.run_name == "lora-r64-lr5e-3-docstrings-s0"]
    terminal.show(record)
    lines = shown(capfd).splitlines()
    assert any("mean of accuracies" in line and "✓ retained" in line for line in lines)
    assert any(line.startswith(" the run") and "✕ forgotten" in line for line in lines)


def test_the_setting_stands_first_and_nothing_is_cut(capfd: pytest.CaptureFixture[str]):
    terminal.table(read(FIXED_SET), Path("scorecard.html"))
    text = shown(capfd)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert ["setting"] in [words[:1] for words in lines]
    first = next(words for words in lines if "lora" in words)
    assert first[:2] == ["→", "lora"], "the choice is marked, and leads what it learned"
    assert "−1.5 to +10.7" in text and "+0.0733 to +0.0912" in text
    names = [f"lora r={r} lr={lr}" for r in (4, 16, 64) for lr in ("5e-5", "1.5e-3")]
    assert all(name in " ".join(text.split()) for name in names)


def test_long_names_go_on_in_the_next_line(capfd: pytest.CaptureFixture[str]):
    records = made.methods()
    for run in records:
        run.config["update"]["target_modules"] = run.update.name * 30
    terminal.table(records, Path("x.html"))
    shown(capfd)


def test_where_nothing_is_settled_it_says_what_would(
    record: RunRecord, capfd: pytest.CaptureFixture[str]
):
    terminal.show(record)
    said = " ".join(shown(capfd).replace("│", " ").split())
    assert remedy.settle(record) == (
        "To settle: 810 more items, about 2 min 08 s (retention.items=470)."
    )
    assert remedy.settle(record) in said
