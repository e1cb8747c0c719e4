"""Which strengths the dial tries, and which it takes: worked by hand on curves without a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from myosotis.evaluation.interpolation import (
    BASE,
    GRID,
    RESOLUTION,
    Reading,
    best,
    explore,
    next_strength,
)


def curve(gain: Callable[[float], float], limit: float) -> Callable[[float], Reading]:
    """Inside the budget up to the strength `limit`."""
    return lambda alpha: Reading(alpha, gain(alpha), alpha <= limit)


def test_the_largest_gain_inside_is_taken_and_of_equals_the_weaker() -> None:
    readings = [
        Reading(0.25, 0.4, True),
        Reading(0.5, 0.7, True),
        Reading(0.75, 0.7, True),
        Reading(1.0, 0.9, False),
    ]
    assert best(readings) == readings[1]


@pytest.mark.parametrize(
    "readings",
    [
        [],
        [Reading(0.5, 0.3, False), Reading(1.0, 0.6, False)],  # gains, but outside
        [Reading(0.5, -0.1, True), Reading(1.0, 0.0, True)],  # inside, but nothing gained
        [BASE],
    ],
)
def test_without_a_gain_inside_nothing_is_taken(readings: list[Reading]) -> None:
    assert best(readings) is None


def test_where_the_verdict_changes_the_gap_is_halved_from_the_inside() -> None:
    """Inside up to 0.6, gain rising: 0.5 is best of the grid, then 0.625 (out), 0.5625 (in)."""
    seen: list[float] = []

    def look(alpha: float) -> Reading:
        seen.append(alpha)
        return curve(lambda a: a, 0.6)(alpha)

    readings = explore(look, GRID, refine=True)
    assert seen == [0.25, 0.5, 0.75, 1.0, 0.625, 0.5625]
    assert best(readings) == Reading(0.5625, 0.5625, True)
    assert [r.alpha for r in readings] == sorted(seen)


def test_where_the_gain_has_its_peak_both_sides_are_searched() -> None:
    """All inside, peak at 0.6: the best strength ends up within the resolution of it."""
    readings = explore(curve(lambda a: 1 - (a - 0.6) ** 2, 2.0), GRID, refine=True)
    found = best(readings)
    assert found is not None
    assert abs(found.alpha - 0.6) <= RESOLUTION
    assert len(readings) <= 9


def test_a_narrow_margin_near_the_base_is_found() -> None:
    """Inside up to 0.1 only: 0.125 is out, 0.0625 is in, and finer it does not go."""
    readings = explore(curve(lambda a: a, 0.1), GRID, refine=True)
    assert [r.alpha for r in readings] == [0.0625, 0.125, *GRID]
    assert best(readings) == Reading(0.0625, 0.0625, True)


def test_nothing_inside_ends_after_two_more_looks() -> None:
    readings = explore(curve(lambda a: a, -1.0), GRID, refine=True)
    assert len(readings) == len(GRID) + 2
    assert best(readings) is None


def test_the_whole_update_inside_and_still_gaining_needs_no_search() -> None:
    readings = explore(curve(lambda a: a, 1.0), GRID, refine=True)
    assert best(readings) == Reading(1.0, 1.0, True)
    assert [r.alpha for r in readings] == list(GRID)


@pytest.mark.parametrize("limit", [k / 40 for k in range(-1, 42)])
@pytest.mark.parametrize("peak", [0.2, 0.5, 0.8, 1.0])
def test_the_search_ends_near_the_best_strength_of_a_fine_grid(limit: float, peak: float) -> None:
    """One limit and one peak: what is found is at most one resolution short of the optimum."""
    look = curve(lambda a: 1 - (a - peak) ** 2 - (1 - peak**2), limit)
    fine = best([look(k / 1000) for k in range(1, 1001)])
    found = best(explore(look, GRID, refine=True))
    if fine is None or fine.alpha < RESOLUTION:
        return
    assert found is not None
    assert found.alpha <= limit
    assert abs(found.alpha - fine.alpha) <= 2 * RESOLUTION


def test_given_strengths_are_not_refined_unless_asked() -> None:
    readings = explore(curve(lambda a: a, 0.6), (0.7, 0.4, 1.0), refine=False)
    assert [r.alpha for r in readings] == [0.4, 0.7, 1.0]


def test_a_verdict_that_changes_twice_does_not_trap_the_search() -> None:
    """Noise may put 1.0 inside and 0.75 outside: the largest gain inside still wins."""
    readings = explore(lambda a: Reading(a, a, a in (0.25, 1.0)), GRID, refine=True)
    found = best(readings)
    assert found is not None
    assert found.alpha == 1.0
    assert next_strength(readings) is None
