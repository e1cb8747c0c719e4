"""Numbers and verdicts as a person reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.records.schema import (
    RetentionRow,
    TaskQuality,
)
from myosotis.report import phrases
from myosotis.report.svg.marks import Axis, spaced, tick_label, tidy


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [(-1.5, 1, "−1.5"), (-0.001, 1, "0.0"), (1234567.0, 0, "1\u202f234\u202f567"), (2, 1, "2.0")],
)
def test_fixed(number: float, digits: int, text: str):
    assert phrases.fixed(number, digits) == text


def test_a_difference_has_a_sign_and_zero_has_none():
    assert phrases.fixed(0.25, 1, signed=True) == "+0.2"
    assert phrases.fixed(0.0, 1, signed=True) == "0.0"


def test_accuracy_is_written_in_points_with_two_significant_digits_of_the_half_width():
    """[-3.8, 1.8] points has a half-width of 2.8, so one decimal shows two digits of it."""
    s = phrases.scale("acc", "", -0.038, 0.018)
    assert (s.value(0.445), s.change(-0.01), s.amount(0.0222)) == ("44.5 %", "−1.0", "2.2 points")


def test_an_end_that_decides_the_verdict_never_reads_as_zero():
    """hi = -0.03 points: one decimal would print 0.0 beside the word slipped."""
    s = phrases.scale("acc", "", -0.0331, -0.0003)
    assert phrases.interval(s, -0.0331, -0.0003) == "−3.31 to −0.03"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(133, "2 min 13 s"), (None, "—")],
)
def test_duration(seconds: float | None, text: str):
    assert phrases.duration(seconds) == text


def test_p_values():
    said = [phrases.p_value(p) for p in (None, 0.0001, 0.0312, 0.727)]
    assert said == ["—", "<0.001", "0.031", "0.73"]


@pytest.mark.parametrize(
    ("lo", "hi", "higher_is_better", "said"),
    [
        (0.1, 0.3, True, "better"),
        (-0.3, -0.1, True, "worse"),
        (-0.1, 0.1, True, "same"),
        (0.1, 0.3, False, "worse"),
        (-0.3, -0.1, False, "better"),
    ],
)
def test_outcome_reads_the_interval_in_the_metrics_own_direction(
    lo: float, hi: float, higher_is_better: bool, said: str
):
    task = TaskQuality("x", higher_is_better, delta=(lo + hi) / 2, lo=lo, hi=hi)
    assert phrases.outcome(task) == said


def test_missing_numbers_are_dashes():
    row = RetentionRow("t", "acc")
    s = phrases.row_scale(row)
    assert (s.value(None), s.change(None), s.amount(None)) == ("—", "—", "—")
    assert phrases.interval(s, None, None) == "no interval"


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_ticks_lie_inside_and_can_be_told_apart(a: float, b: float):
    lo, hi = sorted((a, b))
    if not lo < hi:
        return
    axis = Axis(lo, hi)
    ticks = axis.ticks()
    slack = (hi / 2 - lo / 2) * 1e-6
    assert all(lo - slack <= tick <= hi + slack for tick in ticks)
    if abs(hi) < 1e5 and abs(lo) < 1e5 and hi - lo > 1e-4:
        assert 2 <= len(ticks) <= 7
        assert len({tick_label(tick, ticks) for tick in ticks}) == len(ticks)


def test_tidy_drops_decimals_that_are_all_zero():
    assert tidy(["−2.0", "0.0", "+2.0"]) == ["−2", "0", "+2"]
    assert tidy(["44.0 %", "43.0 %"]) == ["44 %", "43 %"]
    assert tidy(["0.00", "+0.25", "+0.50"]) == ["0.00", "+0.25", "+0.50"]
    assert tidy(["10", "20"]) == ["10", "20"]


def test_ticks_have_room_for_their_labels() -> None:
    """An eighth of the range: .5625 is too near to .625. The ends stay."""
    assert spaced([0, 0.25, 0.5, 0.5625, 0.625, 0.75, 1]) == [0, 0.25, 0.5, 0.625, 0.75, 1]
    assert spaced([2.0]) == [2.0]
    assert spaced([]) == []


@pytest.mark.parametrize(
    ("fewest", "most", "said"),
    [
        (None, None, ""),
        (1954, None, "1 954"),  # a record of an earlier version
        (1612, 4126, "1 600 to 4 100"),
        (1612, 1638, "1 600"),
        (1612, 10_000_000, "1 600 or more"),
    ],
)
def test_items_that_would_settle_it(fewest: int | None, most: int | None, said: str):
    assert phrases.items_needed(fewest, most).replace("\u2009", " ").replace("\u202f", " ") == said


def test_a_benchmark_of_general_text_names_its_text():
    assert phrases.benchmark("prose") == "prose (Python's documentation)"
    assert phrases.benchmark("wikipedia") == "wikipedia"
    assert phrases.benchmark("piqa") == "piqa"
