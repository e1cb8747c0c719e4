"""Which items are asked: more of those that can flip, and a longer draw begins as a shorter one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.retention.benchmarks.sampling_design import (
    NEYMAN,
    STRATA,
    Designs,
    SamplingDesign,
    designs_of,
)

MARGINS = np.random.default_rng(0).normal(0, 1, 1000)
DESIGN = SamplingDesign.of(4000, range(0, 4000, 4), MARGINS, 0.2)


def test_small_margins_are_asked_more_often() -> None:
    """Strata go from the smallest margins to the largest; what is asked of each falls from several
    times its share of the pool to about (1 - NEYMAN) of it."""
    size = [np.abs(MARGINS)[np.array(DESIGN.strata) == h].mean() for h in range(STRATA)]
    assert size == sorted(size)
    often = np.array(DESIGN.rates) / np.array(DESIGN.shares)
    assert (np.diff(often) < 0).all()
    assert often[0] > 2
    assert 1 - NEYMAN <= often[-1] < 0.6
    assert sum(DESIGN.rates) == pytest.approx(1)
    assert sum(DESIGN.shares) == pytest.approx(1)


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(0, 5))
def test_a_longer_draw_begins_with_the_shorter(a: int, b: int, seed: int) -> None:
    short, long = sorted((a, b))
    drawn = DESIGN.draw("task", long, seed)
    assert DESIGN.draw("task", short, seed) == drawn[:short]
    assert len({one.row for one in drawn}) == long
    assert {one.row for one in drawn} <= set(DESIGN.rows)


def test_every_beginning_keeps_the_rates_and_the_halves() -> None:
    """Of 60 and of 300 items each stratum has its share within one item, and each half too."""
    for items in (60, 300):
        drawn = DESIGN.draw("task", items, 3)
        by_stratum = Counter(one.stratum for one in drawn)
        for stratum, rate in enumerate(DESIGN.rates):
            assert abs(by_stratum[stratum] - rate * items) <= 1.5
            of_half = Counter(one.half for one in drawn if one.stratum == stratum)
            assert abs(of_half["selection"] - of_half["report"]) <= 1


def test_all_of_the_pool_can_be_asked() -> None:
    drawn = DESIGN.draw("task", 1000, 0)
    assert sorted(one.row for one in drawn) == list(range(0, 4000, 4))


def test_seeds_differ_and_repeat() -> None:
    assert DESIGN.draw("task", 50, 0) == DESIGN.draw("task", 50, 0)
    assert DESIGN.draw("task", 50, 0) != DESIGN.draw("task", 50, 1)
    assert DESIGN.draw("task", 50, 0) != DESIGN.draw("other", 50, 0)


def test_written_and_read() -> None:
    text = Designs({"task": DESIGN}).written({"model": "m"})
    (name, back), *_ = Designs.read(text).items()
    assert name == "task"
    assert (back.rows, back.strata, back.population) == (DESIGN.rows, DESIGN.strata, 4000)
    assert back.rates == pytest.approx(DESIGN.rates, abs=1e-4)


def test_what_ships() -> None:
    """The embedded model has designs of the default benchmarks; an unknown one has none."""
    shipped = designs_of("smollm2-135m")
    assert set(shipped) == {"hellaswag", "arc_easy", "piqa"}
    for design in shipped.values():
        assert len(design.rows) == len(design.strata) == len(set(design.rows))
        assert max(design.rows) < design.population
        assert sum(design.rates) == pytest.approx(1, abs=1e-3)
    assert designs_of("no-such-model") == {}
