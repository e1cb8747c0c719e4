"""What is said of a run and of its dial, sentence by sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from myosotis.records.schema import (
    Checkpoint,
    DialChoice,
    DialPoint,
    RetentionRow,
    RunRecord,
    SuiteVerdict,
    TaskQuality,
)
from myosotis.records.verdict import DetectableEffect, Outlook
from myosotis.report import beforehand, curves, dial_curve, narrator


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
        ("better", "retained", "Learned its task; what it knew is retained: any loss is smaller "
         "than the budget"),
        ("better", "forgotten", "Learned its task; the benchmarks got worse by more than the "
         "budget allows"),
        ("worse", "forgotten", "Got worse at its task; the benchmarks got worse by more than the "
         "budget allows"),
        ("same", "retained", "Not measurably better at its task; what it knew is retained: any "
         "loss is smaller than the budget"),
        ("better", "inconclusive", "Learned its task; too few items to decide whether it stayed "
         "within budget"),
        ("better", "slipped", "Learned its task; the benchmarks are measurably worse, which may "
         "or may not exceed the budget"),
        ("better", None, "Learned its task; what it forgot was not measured"),
        ("missing", "retained", "What it knew is retained: any loss is smaller than the budget"),
    ],
)  # fmt: skip
def test_the_headline_says_gain_loss_and_budget(task: str, verdict: str | None, said: str):
    assert narrator.headline(with_verdict(task, verdict)) == f"{said}."


def test_benchmarks_without_an_accuracy_are_named():
    record = with_verdict("better", None)
    record.retention = [RetentionRow("prose", "bits_per_byte")]
    said = "Learned its task; what it forgot was measured on prose alone."
    assert narrator.headline(record) == said


def test_general_text_alone_is_something_measured():
    record = RunRecord("x", status="FINISHED", retention=[RetentionRow("prose", "bits_per_byte")])
    assert narrator.headline(record) == "What it forgot was measured on prose alone."


def test_a_failed_run_says_so():
    record = RunRecord("x", status="FAILED", error="disk full")
    assert narrator.headline(record) == "This run failed before it had a result."


def test_a_benchmark_that_is_worse_than_the_mean_is_named(record: RunRecord):
    record.retention[0].verdict = "forgotten"
    record.retention[1].verdict = "forgotten"
    assert (
        "hellaswag and arc_easy are forgotten: over their own budget." in narrator.ledes(record)[-1]
    )


def test_what_no_mean_speaks_for_is_named_with_its_numbers(record: RunRecord):
    """.165 of .96 are 17.2 %, a budget of .048 is 5 % of it; without the scores, the units."""
    assert record.suite_verdict is not None
    record.suite_verdict.verdict = "forgotten"
    prose = RetentionRow("prose", "bits_per_byte", higher_is_better=False, verdict="forgotten")
    prose = replace(prose, delta=0.165, lo=0.152, hi=0.18, epsilon=0.048)
    record.retention.append(prose)
    said = narrator.ledes(record)[1]
    assert said.endswith(
        "General text (Python's documentation) got worse by 0.165 bits per byte (95 % interval of "
        "the change +0.152 to +0.180; the limit is 0.048)."
    )
    record.retention[-1] = replace(prose, base=0.96, tuned=1.125)
    said = narrator.ledes(record)[1]
    assert said.endswith(
        "General text (Python's documentation) got 17.2 % worse (0.960 → 1.125 bits per byte; "
        "95 % interval of the change +0.152 to +0.180; the limit is 5 %)."
    )


def test_a_benchmark_at_chance_is_named_as_out_of_the_mean(record: RunRecord):
    assert record.suite_verdict is not None
    assert "Not in the mean" not in " ".join(narrator.ledes(record))
    left_out = record.suite_verdict.tasks.pop()
    assert (
        f"Not in the mean: {left_out}, where the base is not shown to be above chance and which "
        "therefore cannot show a loss."
    ) in " ".join(narrator.ledes(record))


def test_a_terminal_says_what_the_page_says(record: RunRecord):
    assert narrator.sentences(record) == [narrator.headline(record), *narrator.ledes(record)]
    alone = RunRecord("x", status="FINISHED")
    alone.retention = [RetentionRow("piqa", "acc", n=200, tuned=0.675)]
    assert narrator.sentences(alone) == ["piqa: 67.5 % accuracy, 200 items."]


def test_what_has_to_be_beaten_stands_beside_what_was_learned(record: RunRecord):
    assert (
        "It is better than the base with 5 solved examples, which scores −3.214 (+0.467; 95 % "
        "interval +0.380 to +0.554)." in narrator.ledes(record)[0]
    )
    record.baselines[0].lo = -0.1
    assert "It is not measurably better than the base with 5" in narrator.ledes(record)[0]
    record.baselines[0].hi = -0.05
    assert "It is worse than the base with 5" in narrator.ledes(record)[0]


@pytest.mark.parametrize(
    ("verdict", "signs", "said"),
    [
        (None, (), ""),
        ("retained", (), ""),
        ("slipped", (), "the benchmarks have slipped: measurably worse; may or may not exceed the "
         "budget (their mean -0.040, 95 % interval -0.060 to -0.010, budget -0.030)."),
        ("forgotten", ("p_gold",), "the benchmarks have forgotten: the loss is larger than the"),
        ("inconclusive", ("p_gold", "prose"), "early signs of forgetting: the right choices became "
         "less probable; prose is not shown to be retained. No loss of accuracy is shown (their"),
    ],
)  # fmt: skip
def test_the_alarm_while_training(verdict: str | None, signs: tuple[str, ...], said: str):
    suite = None if verdict is None else SuiteVerdict(-0.04, -0.06, -0.01, 0.03, verdict)
    found = narrator.alarm(suite, signs)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_what_the_items_can_show():
    """Of three tasks pooled, 1,593 items are 531 each."""
    effect = DetectableEffect("suite mean", 600, 0.022, 0.0362, 0.0582, 1593, tasks=3)
    assert beforehand.detectable(effect) == (
        "suite mean: 600 items, budget 2.2 points. If 10 % of the items change: smallest "
        "detectable loss 3.6 points; smallest provably over budget 5.8 points; confirming "
        "“retained” needs about 1,593 items (retention.items=531)."
    )
    assert "they can confirm “retained”" in beforehand.detectable(replace(effect, items=1593))


def test_what_the_dial_chose_and_that_the_other_half_confirms_it(record: RunRecord):
    """Kept 0.744 of 0.795 is 94 %; lost 0.6 of 1.9 points is 68 % recovered."""
    said = dial_curve.said(record)
    assert (
        "On the selection half, α = 0.75 gains most within budget. The reporting half confirms it:"
        in said
    )
    assert "+0.744 nats per token" in said
    assert "−0.6 points" in said
    assert said.endswith(
        "Of the whole update it keeps 94 % of the gain and recovers 68 % of the loss."
    )


def test_the_dial_speaks_of_what_is_in_no_mean(record: RunRecord):
    """Prose lost .10 bits per byte as a whole and .04 at the chosen strength: 60 % recovered. What
    the whole update did not lose beyond chance is not recovered."""
    assert record.dial_choice is not None
    found, full = record.dial_choice.reported, record.dial_choice.full
    assert found is not None and full is not None
    row = RetentionRow("prose", "bits_per_byte", higher_is_better=False)
    found.beside = [replace(row, delta=0.04, lo=0.03, hi=0.05, verdict="slipped")]
    full.beside = [replace(row, delta=0.10, lo=0.08, hi=0.12, verdict="forgotten")]
    said = dial_curve.said(record)
    assert (
        "General text (Python's documentation) +0.040 bits per byte" in said
        and "the whole update +0.100): slipped." in said
    )
    assert (
        "recovers 68 % of the loss and recovers 60 % of what general text (Python's documentation) "
        "lost" in said
    )
    assert dial_curve.beside([found]) == ["prose +0.040, slipped"]
    full.beside[0].lo = -0.01
    assert "what general text (Python's documentation) lost" not in dial_curve.said(record)


def test_the_dial_draws_what_is_in_no_mean(record: RunRecord):
    """In its own unit, from nothing at the base on; a row without numbers is no drawing."""
    row = RetentionRow("prose", "bits_per_byte", higher_is_better=False, epsilon=0.05)
    record.dial[1].beside = [replace(row, delta=0.1, lo=0.08, hi=0.12)]
    record.dial[-1].beside = [replace(row, delta=0.4, lo=0.38, hi=0.42), RetentionRow("odd", "odd")]
    found = curves.dial(record)
    assert found is not None
    assert [panel["title"] for panel in found["panels"]] == [
        "Learned",
        "Mean accuracy",
        "Prose (Python's documentation)",
    ]
    assert found["panels"][-1]["unit"] == "change of bits per byte, down is better"
    drawn = found["panels"][-1]["figure"].drawn
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
        (["forgotten", "forgotten"], "all of them are forgotten"),
        (["inconclusive", "forgotten"], "No strength could be confirmed within budget."),
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
            "benchmarks had lost more than the budget allows. The step was chosen on the selection "
            "half of",
        ),
        (Checkpoint(60, 60, "", 6, True, 2.5), "inside the budget. The step was chosen on the"),
        (Checkpoint(60, 60, "patience", 6, False), "to step 60. It stopped there because measure"),
        (Checkpoint(60, 60, "", 6, False), "No step was shown to be inside the budget"),
    ],
)
def test_which_step_the_weights_are_of(record: RunRecord, found: Checkpoint | None, says: str):
    record.config = {"retention": {"on_breach": "rollback"}}
    record.checkpoint = found
    said = narrator.checkpoint(record)
    assert says in said
    assert bool(said) == bool(says)
    assert not said or narrator.ledes(record)[-1] == said
    assert "  " not in said


def test_shares_of_a_gain_that_may_be_none_are_not_given(record: RunRecord):
    assert record.dial_choice is not None and record.dial_choice.full is not None
    record.dial_choice.full.task_lo = -0.1
    record.dial_choice.full.retention_hi = 0.01
    assert "whole update" in dial_curve.said(record)
    assert "keeps" not in dial_curve.said(record)
    assert "recovers" not in dial_curve.said(record)


def test_the_chance_of_a_verdict_is_told_beforehand() -> None:
    expected = Outlook(200, 600, 0.025, 0.9961, 0.878, 227.6, 308.2, 0.05)
    assert beforehand.outlook(expected) == (
        "their mean, budget 2.5 points: 200 items of each benchmark first, then more until the "
        "verdict is settled, 600 at most. If 5 % of the items change, a model that lost nothing is "
        "called retained with a chance of more than 99 % (after 228 items on average), and one "
        "that lost twice the budget forgotten with 88 % (after 308)."
    )
    assert "first." in beforehand.outlook(replace(expected, most=200))
