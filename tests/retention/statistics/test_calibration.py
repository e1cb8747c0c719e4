"""Continuous scores of multiple choice, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.retention.statistics import calibration

LOGP = np.log([[0.72, 0.18, 0.1], [0.25, 0.75, 1e-300], [0.4, 0.5, 0.1]])
LOGP[1, 2] = -np.inf  # an item of two choices
GOLD = np.array([0, 0, 1])


def test_p_gold() -> None:
    assert calibration.p_gold(LOGP, GOLD) == pytest.approx([0.72, 0.25, 0.5])


def test_p_gold_does_not_depend_on_a_common_factor() -> None:
    assert calibration.p_gold(LOGP - 7.0, GOLD) == pytest.approx([0.72, 0.25, 0.5])


def test_calibration_error() -> None:
    """Top choices .72 (right), .75 (wrong), .5 (right) in bins of width .1: two of them share
    [.7, .8): |(1 - .72) + (0 - .75)| = .47; and |1 - .5| = .5; (.47 + .5) / 3."""
    assert calibration.ece(LOGP, GOLD, bins=10) == pytest.approx(0.97 / 3)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_confidence_alone_leaves_tempered_p_gold_alone(seed: int, sharper: float) -> None:
    """The same log-probs stretched: plain p_gold moves, at the best temperature it does not."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 4, 300)
    logp = rng.normal(size=(300, 4)) * 0.1
    logp[np.arange(300), gold] += 0.1

    def tempered(x: np.ndarray) -> np.ndarray:
        return calibration.p_gold(x, gold, calibration.best_temperature(x, gold))

    assert tempered(logp * sharper) == pytest.approx(tempered(logp), abs=1e-3)


def test_the_best_temperature_recovers_the_one_that_drew_the_answers() -> None:
    """Answers drawn from softmax(logp / 2): the likeliest temperature is near 2."""
    rng = np.random.default_rng(0)
    logp = rng.normal(size=(20_000, 4)) * 3
    p = calibration.probabilities(logp, 2.0)
    gold = (rng.random((20_000, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=3)
    assert calibration.best_temperature(logp, gold) == pytest.approx(2.0, rel=0.05)
