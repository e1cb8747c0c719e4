"""Which checkpoint is best and when it is enough: courses of a training worked by hand."""

from __future__ import annotations

import json
import math

import pytest

from myosotis.training.best_checkpoint import EvalPoint, OnBreach, SelectionState


def course(
    *measured: tuple[float, str], on_breach: OnBreach = "rollback", patience: int | None = None
) -> SelectionState:
    """Measured at steps 10, 20, … until it is enough; inside the budget is `retained`."""
    found = SelectionState()
    for k, (loss, verdict) in enumerate(measured):
        now = EvalPoint(10 * (k + 1), loss, verdict, verdict == "retained")
        found.see(now, on_breach=on_breach, patience=patience)
        if found.ended:
            break
    return found


def test_the_lowest_loss_inside_the_budget_is_the_best() -> None:
    """3.0 and 2.5 inside; 2.0 is lower, but not shown to be inside."""
    found = course((3.0, "retained"), (2.5, "retained"), (2.6, "retained"), (2.0, "slipped"))
    assert found.best == EvalPoint(20, 2.5, "retained", True)
    assert (found.seen, found.since, found.ended) == (4, 2, "")


def test_of_equals_the_first_stays() -> None:
    found = course((2.5, "retained"), (2.5, "retained"))
    assert found.best is not None and found.best.step == 10


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_never_best(loss: float) -> None:
    assert course((loss, "retained")).best is None
    found = course((2.0, "retained"), (loss, "retained"))
    assert found.best is not None and found.best.step == 10


@pytest.mark.parametrize(
    ("on_breach", "ended", "seen"),
    [("warn", "", 3), ("stop", "breach", 2), ("rollback", "breach", 2)],
)
def test_a_breach_ends_the_training_unless_it_is_only_told(
    on_breach: OnBreach, ended: str, seen: int
) -> None:
    found = course((3.0, "retained"), (2.5, "forgotten"), (2.4, "retained"), on_breach=on_breach)
    assert (found.ended, found.seen) == (ended, seen)


def test_patience_counts_measurements_without_a_better_one() -> None:
    """Better at 10 and 30; then 2.6, 2.7 are not: after two the patience is over, at step 50."""
    losses = [3.0, 3.1, 2.5, 2.6, 2.7, 2.0]
    found = course(*((loss, "retained") for loss in losses), patience=2)
    assert (found.ended, found.seen) == ("patience", 5)
    assert found.best is not None and found.best.step == 30


def test_where_nothing_is_inside_patience_ends_too_and_nothing_is_best() -> None:
    found = course((3.0, "inconclusive"), (2.0, "slipped"), (1.0, ""), patience=2)
    assert (found.ended, found.seen, found.best) == ("patience", 2, None)


def test_a_course_goes_through_a_checkpoint() -> None:
    for found in (course(), course((3.0, "retained"), (2.5, "forgotten"))):
        assert SelectionState.of(json.loads(json.dumps(found.state()))) == found
