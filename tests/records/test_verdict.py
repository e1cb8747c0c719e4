"""The one rule from an interval to a verdict, and what a budget makes of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.records.verdict import (
    MIN_CLUSTERS,
    MIN_ITEMS,
    SEVERITY,
    VERDICTS,
    Verdict,
    exit_code,
    inside_budget,
    verdict_of,
    worst,
)


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (-0.019, 0.03, "retained"),
        (-0.019, -0.001, "retained"),  # a real loss, shown to be within the budget
        (0.01, 0.03, "retained"),
        (-0.05, -0.021, "forgotten"),
        (-0.05, -0.02, "slipped"),  # hi = -epsilon is not below it
        (-0.05, -0.001, "slipped"),
        (-0.02, 0.01, "inconclusive"),  # lo = -epsilon is not above it
        (-0.05, 0.0, "inconclusive"),
        (-0.05, 0.03, "inconclusive"),
    ],
)
def test_verdicts_at_a_budget_of_two_points(lo: float, hi: float, expected: str) -> None:
    assert verdict_of(lo, hi, 0.02) == expected


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_larger_budget_never_makes_a_verdict_worse(lo, width, epsilon, more) -> None:
    worst_first = SEVERITY[::-1]
    before, after = (verdict_of(lo, lo + width, e) for e in (epsilon, epsilon + more))
    if before == "retained":
        assert after == "retained"
    if after == "forgotten":
        assert before == "forgotten"
    assert worst_first.index(after) >= worst_first.index(before)


@pytest.mark.parametrize("wrong", [(0.1, -0.1, 0.02), (-0.1, 0.1, -0.02), (math.nan, 0.1, 0.02)])
def test_what_is_no_interval_gets_no_verdict(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="not an interval"):
        verdict_of(*wrong)


@pytest.mark.parametrize(
    ("lo", "hi"), [(-0.01, 0.01), (-0.05, -0.03), (-0.03, -0.01), (-0.05, 0.05)]
)
def test_fewer_than_thirty_items_settle_nothing(lo: float, hi: float) -> None:
    """Retained, forgotten, slipped and inconclusive with 30 items; with 29 all are inconclusive."""
    assert verdict_of(lo, hi, 0.02, MIN_ITEMS - 1) == Verdict.INCONCLUSIVE
    assert verdict_of(lo, hi, 0.02, MIN_ITEMS) == verdict_of(lo, hi, 0.02)


def test_few_effective_clusters_settle_nothing() -> None:
    assert verdict_of(-0.01, 0.01, 0.02, 200, MIN_CLUSTERS - 0.1) == Verdict.INCONCLUSIVE
    assert verdict_of(-0.01, 0.01, 0.02, 200, MIN_CLUSTERS) == Verdict.RETAINED


@pytest.mark.parametrize(
    ("verdict", "accept", "inside", "code"),
    [
        ("retained", "retained", True, 0),
        ("retained", "not_forgotten", True, 0),
        ("forgotten", "retained", False, 3),
        ("forgotten", "not_forgotten", False, 3),
        ("slipped", "retained", None, 4),
        ("slipped", "not_forgotten", True, 0),
        ("inconclusive", "retained", None, 4),
        ("inconclusive", "not_forgotten", True, 0),
        ("", "retained", None, 4),
        ("", "not_forgotten", None, 4),  # no verdict is none that is accepted
    ],
)
def test_inside_the_budget_and_the_exit_code(
    verdict: str, accept: str, inside: bool | None, code: int
) -> None:
    assert inside_budget(verdict, accept) is inside
    assert exit_code(verdict, accept) == code


def test_the_worst_of_several() -> None:
    assert worst(["retained", "slipped", "inconclusive"]) == "slipped"
    assert worst(["inconclusive", "retained"]) == "inconclusive"
    assert worst(VERDICTS) == "forgotten"
    assert set(SEVERITY) == set(VERDICTS) == {"retained", "slipped", "forgotten", "inconclusive"}
