"""Numbers and verdicts as a person reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.records.schema import (
    Checkpoint,
    DialChoice,
    DialPoint,
    RetentionRow,
    RunRecord,
    SuiteVerdict,
    TaskQuality,
)
from myosotis.report import curves, dial_curve, phrases
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


@pytest.mark.parametrize(
    ("verdict", "accept", "inside"),
    [
        ("retained", "retained", True),
        ("forgotten", "not_forgotten", False),
        ("slipped", "retained", None),
        ("slipped", "not_forgotten", True),
        ("inconclusive", "retained", None),
        ("", "retained", None),
    ],
)
def test_within_budget(verdict: str, accept: str, inside: bool | None):
    assert phrases.within(SuiteVerdict(verdict=verdict, accept=accept)) is inside


def with_verdict(task: str, verdict: str | None) -> RunRecord:
    ends = {"better": (0.1, 0.3), "worse": (-0.3, -0.1), "same": (-0.1, 0.3)}
    return RunRecord(
        "x",
        status="FINISHED",
        task=TaskQuality("loglik", delta=0.1, lo=ends[task][0], hi=ends[task][1])
        if task in ends
        else None,
        suite_verdict=None
        if verdict is None
        else SuiteVerdict(-0.01, -0.02, 0.01, 0.03, verdict, accept="retained"),
    )


@pytest.mark.parametrize(
    ("task", "verdict", "said"),
    [
        ("better", "retained", "learned its task and kept what it knew, within the budget"),
        ("better", "forgotten", "learned its task, but forgot more than the budget allows"),
        ("worse", "forgotten", "got worse at its task and forgot more than the budget allows"),
        ("same", "retained", "is not measurably better at its task, but kept what it knew, "
         "within the budget"),
        ("better", "inconclusive", "learned its task; whether it forgot anything is not settled"),
        ("better", None, "learned its task; what it forgot was not measured"),
        ("missing", "retained", "was not measured on its task, but kept what it knew, within the "
         "budget"),
    ],
)  # fmt: skip
def test_the_headline_says_gain_loss_and_budget(task: str, verdict: str | None, said: str):
    assert phrases.headline(with_verdict(task, verdict)) == f"The model {said}."


def test_benchmarks_without_an_accuracy_are_named():
    record = with_verdict("better", None)
    record.retention = [RetentionRow("prose", "bits_per_byte")]
    said = "The model learned its task; what it forgot was measured on prose alone."
    assert phrases.headline(record) == said


def test_a_failed_run_says_so():
    record = RunRecord("x", status="FAILED", error="disk full")
    assert phrases.headline(record) == "This run failed before it had a result."


def test_a_benchmark_that_is_worse_than_the_mean_is_named(record: RunRecord):
    record.retention[0].verdict = "forgotten"
    record.retention[1].verdict = "forgotten"
    assert "hellaswag and arc_easy are beyond their own budget." in phrases.ledes(record)[-1]


def test_what_no_mean_speaks_for_is_named_with_its_numbers(record: RunRecord):
    assert record.suite_verdict is not None
    record.suite_verdict.verdict = "forgotten"
    prose = RetentionRow("prose", "bits_per_byte", higher_is_better=False, verdict="forgotten")
    record.retention.append(replace(prose, delta=0.165, lo=0.152, hi=0.18, epsilon=0.048))
    said = phrases.ledes(record)[1]
    assert (
        "Prose, which is in no mean, is forgotten: +0.165 bits per byte (+0.152 to +0.180)" in said
    )
    assert said.endswith("the budget allows 0.048.")


def test_what_the_dial_chose_and_that_the_other_half_confirms_it(record: RunRecord):
    """Kept 0.744 of 0.795 is 94 %; lost 0.6 of 1.9 points is 68 % recovered."""
    said = dial_curve.said(record)
    assert "α = 0.75 gains most inside the budget. The other half confirms it:" in said
    assert "+0.744 nats per token" in said
    assert "−0.6 points" in said
    assert said.endswith(
        "Of the whole update it keeps 94 % of the gain and recovers 68 % of the loss."
    )


def test_the_dial_speaks_of_what_is_in_no_mean(record: RunRecord):
    """Prose lost .10 bits a byte as a whole and .04 at the chosen strength: 60 % recovered. What
    the whole update did not lose beyond chance is not recovered."""
    assert record.dial_choice is not None
    found, full = record.dial_choice.reported, record.dial_choice.full
    assert found is not None and full is not None
    row = RetentionRow("prose", "bits_per_byte", higher_is_better=False)
    found.beside = [replace(row, delta=0.04, lo=0.03, hi=0.05, verdict="slipped")]
    full.beside = [replace(row, delta=0.10, lo=0.08, hi=0.12, verdict="forgotten")]
    said = dial_curve.said(record)
    assert "Prose +0.040 bits per byte" in said and "the whole update +0.100): slipped." in said
    assert "recovers 68 % of the loss and recovers 60 % of what prose lost" in said
    assert dial_curve.beside([found]) == ["prose +0.040, slipped"]
    full.beside[0].lo = -0.01
    assert "what prose lost" not in dial_curve.said(record)


def test_the_dial_draws_what_is_in_no_mean(record: RunRecord):
    """In its own unit, from nothing at the base on; a row without numbers is no drawing."""
    row = RetentionRow("prose", "bits_per_byte", higher_is_better=False, epsilon=0.05)
    record.dial[1].beside = [replace(row, delta=0.1, lo=0.08, hi=0.12)]
    record.dial[-1].beside = [replace(row, delta=0.4, lo=0.38, hi=0.42), RetentionRow("odd", "odd")]
    found = curves.dial(record)
    assert found is not None
    assert [panel["title"] for panel in found["panels"]] == ["Learned", "Kept", "Prose"]
    assert found["panels"][-1]["unit"] == "change of bits per byte, down is better"
    drawn = found["panels"][-1]["drawn"]
    assert "prose, α 0.5: +0.100" in drawn and "prose, α 1.25: +0.400" in drawn
    assert "prose, α 0: 0.000" in drawn and "α 0.75" not in drawn


def test_a_choice_that_does_not_hold_says_so(record: RunRecord):
    assert record.dial_choice is not None and record.dial_choice.reported is not None
    record.dial_choice.confirmed = False
    record.dial_choice.reported.verdict = "inconclusive"
    said = dial_curve.said(record)
    assert "does not confirm it" in said and "inconclusive" in said


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        (["forgotten", "forgotten"], "all of them forget more"),
        (["inconclusive", "forgotten"], "No strength with a gain is shown to be inside"),
        (["", ""], ""),
    ],
)
def test_no_strength_inside_the_budget(record: RunRecord, verdicts: list[str], says: str):
    record.dial = [DialPoint(1.0, 0.8, 0.7, 0.9, verdict=v) for v in verdicts]
    record.dial_choice = DialChoice()
    said = dial_curve.said(record)
    assert says in said
    assert bool(said) == bool(says)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, ""),
        (
            Checkpoint(40, 60, "breach", 6, True, 2.5),
            "These are the weights of step 40: of 6 measured, the one with the lowest held-out "
            "loss inside the budget; the training had gone to 60. It stopped there because the "
            "benchmarks had lost more than the budget allows. The step was chosen on one half",
        ),
        (Checkpoint(60, 60, "", 6, True, 2.5), "inside the budget. The step was chosen on one"),
        (Checkpoint(60, 60, "patience", 6, False), "to step 60. It stopped there because measure"),
        (Checkpoint(60, 60, "", 6, False), "No step was shown to be inside the budget"),
    ],
)
def test_which_step_the_weights_are_of(record: RunRecord, found: Checkpoint | None, says: str):
    record.config = {"retention": {"on_breach": "rollback"}}
    record.checkpoint = found
    said = phrases.checkpoint_said(record)
    assert says in said
    assert bool(said) == bool(says)
    assert not said or phrases.ledes(record)[-1] == said
    assert "  " not in said


def test_shares_of_a_gain_that_may_be_none_are_not_given(record: RunRecord):
    assert record.dial_choice is not None and record.dial_choice.full is not None
    record.dial_choice.full.task_lo = -0.1
    record.dial_choice.full.retention_hi = 0.01
    assert "whole update" in dial_curve.said(record)
    assert "keeps" not in dial_curve.said(record)
    assert "recovers" not in dial_curve.said(record)


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
