"""The scorecards in reports/ are what this code makes of the records beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.report.scorecard import scorecard

from . import kept

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.mark.parametrize("name", ["rank_lr"])
def test_a_kept_scorecard_is_up_to_date(name: str, tmp_path: Path) -> None:
    records = kept.read(REPORTS / name)
    written = scorecard(records, tmp_path / "scorecard.html").read_text()
    assert written == (REPORTS / name / "scorecard.html").read_text(), (
        f"python -m tests.report.kept reports/{name}, and look at what changed"
    )
    assert all(record.status == "FINISHED" for record in records)
