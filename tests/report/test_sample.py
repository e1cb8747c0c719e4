"""The sample in reports/ is what this code makes: `python -m tests.report.made` writes it anew."""

from __future__ import annotations

from pathlib import Path

from myosotis.report.scorecard import scorecard

from .made import rank_lr

SAMPLE = Path(__file__).parents[2] / "reports" / "sample.html"


def test_the_sample_is_up_to_date(tmp_path: Path):
    written = scorecard(rank_lr(), tmp_path / "sample.html").read_text()
    assert written == SAMPLE.read_text(), "python -m tests.report.made, and look at what changed"
    assert "its numbers are made up" in written
