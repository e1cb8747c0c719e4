"""One run: the mean speaks for itself, the run has a reason, and what would settle it is told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from myosotis.records.schema import RetentionRow, RunRecord, SuiteVerdict
from myosotis.report import intervals, narrator, remedy
from myosotis.report.curves import plane_of_run
from myosotis.report.run_verdict import mean_verdict, to_settle, worse_than_mean
from myosotis.report.scorecard import render_html

from . import made
from .kept import read

FIXED_SET = Path(__file__).parent / "fixed_set"  # 60 items of a fixed set: little is settled


def forgot_its_prose() -> RunRecord:
    """The published run r=64 at rate 5e-3: +4.2 points (-1.5 to +10.7), its prose forgotten."""
    (record,) = [
        r
        for r in read(FIXED_SET)
        if (r.config["optimizer"]["lr"], r.config["update"]["r"]) == (5e-3, 64)
    ]
    return record


def test_the_mean_is_judged_by_its_own_interval():
    record = forgot_its_prose()
    assert record.suite_verdict is not None and record.suite_verdict.verdict == "forgotten"
    assert mean_verdict(record) == "retained"
    (accuracies, *_) = intervals.forest(record)
    mean = accuracies["mean"]
    assert (mean["change"], mean["interval"]) == ("+4.2", "−1.5 to +10.7")
    assert mean["verdict"] == "retained" and "mark retained" in mean["drawn"]
    page = render_html([record])
    row = re.search(r'<div class="row mean">.*?</div>\s*</div>', page, re.S)
    assert row is not None and "forgotten" not in row[0]


def test_the_run_has_a_row_of_its_own_with_its_reason():
    record = forgot_its_prose()
    assert [row.task for row in worse_than_mean(record)] == ["prose"]
    assert intervals.run_row(record) == {
        "verdict": "forgotten",
        "reason": "The mean alone is retained, but general text (Python's documentation) is "
        "forgotten, and counts by "
        "itself.",
    }
    assert narrator.headline(record) == (
        "Learned its task; general text (Python's documentation) got worse by more than the budget "
        "allows."
    )


def test_a_newer_record_says_what_the_mean_is(record: RunRecord):
    assert record.suite_verdict is not None
    record.suite_verdict.mean_verdict = "inconclusive"
    assert mean_verdict(record) == "inconclusive"
    record.suite_verdict.mean_verdict = ""
    assert mean_verdict(record) == "slipped"  # -3.31 to -.03 against a budget of 2.71 points


def test_a_loss_within_budget_is_named_as_one(record: RunRecord):
    """Prose +.0066 to +.0114 bits per byte is worse, and far from its budget of .0526."""
    assert record.suite_verdict is not None
    record.suite_verdict.verdict, record.suite_verdict.hi = "retained", 0.001
    assert narrator.headline(record) == (
        "Learned its task; general text (Python's documentation) is slightly worse, within budget."
    )
    assert (
        "General text (Python's documentation) got 0.9 % worse (1.0520 → 1.0610 bits per byte; "
        in (narrator.ledes(record)[1])
    )


def test_what_would_settle_it_by_hand(record: RunRecord):
    """1,410 items of three tasks of 200 each: 810 more, 470 a task. 800 items were measured in
    61.9 + 64.1 s, so 810 take 127.6 s."""
    found = to_settle(record)
    assert found is not None
    assert (found.more, found.per_task, found.enough) == (810, 470, True)
    assert found.seconds == pytest.approx(127.6, abs=0.1)
    assert remedy.settle(record) == (
        "To settle: 810 more items, about 2 min 08 s (retention.items=470)."
    )
    record.cost = {}
    assert remedy.settle(record) == "To settle: 810 more items (retention.items=470)."
    record.config = {"compare": {}}
    assert remedy.settle(record) == "To settle: 810 more items in both logs."


def test_where_the_benchmarks_hold_too_few_another_is_asked_for(record: RunRecord):
    """arc_easy has 570 items; 3,000 of three tasks are 1,000 of each."""
    assert record.suite_verdict is not None
    record.suite_verdict.needed_items = 3000
    assert remedy.settle(record).endswith(
        ", but hellaswag, arc_easy and piqa hold no more than 570 each: add a benchmark to "
        "retention.suite."
    )


def test_where_nothing_can_be_settled_it_says_what_to_do():
    rows = [RetentionRow("piqa", "acc", n=12, verdict="inconclusive")]
    few = RunRecord("x", retention=rows, suite_verdict=SuiteVerdict(verdict="inconclusive"))
    few.suite_verdict = SuiteVerdict(0.0, -0.3, 0.3, 0.03, "inconclusive", tasks=["piqa"])
    assert "any verdict takes at least 30 items" in remedy.settle(few)
    more = replace(few, retention=[replace(rows[0], n=200)])
    assert remedy.settle(more).startswith("To settle: more items (retention.items)")
    logs = replace(more, config={"compare": {}})
    assert remedy.settle(logs).startswith("To settle: more items in both logs; these do not tell")


def test_what_is_settled_needs_nothing():
    assert to_settle(forgot_its_prose()) is None
    assert remedy.settle(RunRecord("x")) == ""


def test_the_interval_of_the_verdict_is_drawn_beside_the_plain_one(record: RunRecord):
    """arc_easy -6.5 to -0.5 points alone; adjusted -7.2 to +0.2: both whiskers, and a word."""
    row = record.retention[1]
    page = render_html([record])
    assert 'class="adjusted"' not in page
    row.adjusted_lo, row.adjusted_hi = -0.072, 0.002
    bar = intervals.row_bar(row)
    assert (bar.lo, bar.hi, bar.wide) == (-0.065, -0.005, (-0.072, 0.002))
    page = render_html([record])
    assert 'class="adjusted"' in page and "adjusted for testing several benchmarks" in page
    same = replace(row, adjusted_lo=row.lo, adjusted_hi=row.hi)
    assert intervals.row_bar(same).wide is None
    prose = replace(record.retention[3], adjusted_lo=0.005, adjusted_hi=0.013)
    assert intervals.row_bar(prose).wide == (-0.013, -0.005), "right is better"


def test_the_dials_line_ends_at_its_own_point_of_the_whole_update() -> None:
    """The dial is measured on the selection half, the tuned model on all items: α = 1 is a point of
    the line, and the tuned model stands beside it."""
    record = next(r for r in made.rank_lr() if r.dial)
    whole = next(point for point in record.dial if point.alpha == 1)
    assert whole.task is not None and whole.retention is not None
    whole.retention -= 0.01  # other items
    plane = plane_of_run(record)
    assert plane is not None
    drawn = plane["figure"].source
    assert drawn.joined[-1] == pytest.approx((whole.task, whole.retention))
    tuned = next(place for place in drawn.places if place.name == "tuned")
    assert (tuned.x, tuned.y) != drawn.joined[-1]
