"""The scorecards in reports/ are what this code makes of the records beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.report.grouping import study
from myosotis.report.scorecard import scorecard
from myosotis.report.selection import choose, group_stats

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


def test_the_kept_sweep_names_a_setting_that_is_retained_on_fresh_items() -> None:
    """Asked until each half was settled; the rate far above is forgotten over three seeds, although
    one of them by itself is retained."""
    found = study(kept.read(REPORTS / "rank_lr"))
    choice = choose(found)
    assert choice.how == "retained" and choice.claimed_on == "report" and choice.group is not None
    assert group_stats(choice.group, "report").verdict == "retained"
    far = [g for g in found.measured if g.x == 5e-3 and len(g.runs) == 3]
    assert [group_stats(g).verdict for g in far] == ["forgotten"]
    verdicts = [run.suite_verdict.verdict for run in far[0].runs if run.suite_verdict]
    assert sorted(verdicts) == ["forgotten", "forgotten", "retained"]
