"""Items drawn at different rates: the estimate by hand, its coverage by simulation."""

import numpy as np
import pytest
from scipy import special

from myosotis.retention.benchmarks.sampling_design import SamplingDesign
from myosotis.retention.statistics.intervals import PairedScores
from myosotis.retention.statistics.paired import paired
from myosotis.retention.statistics.stratified import Strata, effective_items, stratified


def test_two_strata_by_hand() -> None:
    """A quarter of the pool is asked 6 items, three quarters 4. Of the six one is gained and two
    are lost: mean -1/6; of the four one is lost: -1/4. delta = -1/24 - 3/16 = -11/48.

    Sums of squares about the mean: 3 - 6/36 = 17/6 and 1 - 4/16 = 3/4. Mean square, weighted:
    1/4 * 1/2 + 3/4 * 1/4 = 5/16, less delta^2 = 599/2304, is what one more item of each stratum
    has. s^2 = (17/6 + 599/2304) / 6 and (3/4 + 599/2304) / 4;
    SE^2 = (1/16) s1^2 / 6 + (9/16) s2^2 / 4."""
    d = np.array([1.0, -1, -1, 0, 0, 0, -1, 0, 0, 0])
    strata = Strata(np.repeat([0, 1], [6, 4]), np.array([0.25, 0.75]))
    found = stratified(d, strata)
    extra = 5 / 16 - (11 / 48) ** 2
    assert extra == pytest.approx(599 / 2304)
    first, second = (17 / 6 + extra) / 6, (3 / 4 + extra) / 4
    parts = first / 16 / 6, second * 9 / 16 / 4
    assert found.delta == pytest.approx(-11 / 48)
    assert found.se**2 == pytest.approx(sum(parts))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 6 + parts[1] ** 2 / 4))
    assert found.gained == pytest.approx(1 / 24)
    assert found.lost == pytest.approx(1 / 12 + 3 / 16)
    # An item of the first stratum stands for .25/6 of the pool, one of the second for .75/4.
    assert strata.weights() == pytest.approx([10 * 0.25 / 6] * 6 + [10 * 0.75 / 4] * 4)


def test_equal_rates_are_simple_sampling() -> None:
    """One stratum, many items: the same mean, and nearly the interval of simple sampling."""
    dice = np.random.default_rng(0)
    base, tuned = (dice.random(2000) < 0.6).astype(float), (dice.random(2000) < 0.6).astype(float)
    plain = paired(base, tuned)
    one = paired(base, tuned, strata=Strata(np.zeros(2000, int), np.ones(1)))
    assert (one.base, one.delta) == pytest.approx((plain.base, plain.delta))
    assert (one.lo, one.hi) == pytest.approx((plain.lo, plain.hi), abs=2e-4)
    assert one.method == "stratified"


def test_nothing_changed_is_no_certainty() -> None:
    """Without a flip: Kish's number of items, 10^2 / sum w^2, in Tango's interval, wider than of
    as many simple items."""
    same = np.ones(10)
    strata = Strata(np.repeat([0, 1], [8, 2]), np.array([0.2, 0.8]))
    weights = np.repeat([0.25, 4.0], [8, 2])
    assert strata.weights() == pytest.approx(weights)
    count = effective_items(stratified(same * 0, strata), strata, 0.95)
    kish = 100 / (weights**2).sum()
    shrink = (special.ndtri(0.975) / special.stdtrit(9, 0.975)) ** 2
    assert count == pytest.approx(kish * shrink)
    assert paired(same, same, strata=strata).hi > paired(same, same).hi


def test_an_empty_stratum_is_left_out() -> None:
    strata = Strata(np.array([0, 0, 2, 2]), np.array([0.3, 0.4, 0.3]))
    assert stratified(np.array([0.0, -1, 0, 0]), strata).delta == pytest.approx(-0.25)


def test_other_scores_have_students_t() -> None:
    dice = np.random.default_rng(1)
    base = dice.random(300)
    strata = Strata(np.arange(300) % 3, np.array([0.5, 0.3, 0.2]))
    found = paired(base, base + dice.normal(-0.1, 0.1, 300), strata=strata)
    assert found.method == "stratified"
    assert found.lo < -0.1 < found.hi and found.hi - found.lo < 0.06


@pytest.mark.parametrize(
    ("sigma", "shift", "designed_for", "heavy"),
    [
        (0.15, 0.0, 0.15, 0.0),  # lost nothing, the design is right
        (0.3, 0.1, 0.15, 0.0),  # a loss, and margins change twice as much as was designed for
        (0.15, 0.1, 0.3, 0.0),  # half as much
        (0.1, 0.1, 0.1, 0.05),  # one item in twenty changes as it likes, whatever its margin
    ],
)
def test_coverage(sigma: float, shift: float, designed_for: float, heavy: float) -> None:
    """The margins of the tuned model are those of the base, changed by noise and a shift. Whatever
    the design assumed, the mean is unbiased and either end misses the truth in at most 2.5 %: 800
    draws, so 3.9 % is 2.5 standard errors above that. It takes at most .7 of the variance of simple
    sampling."""
    dice = np.random.default_rng(5)
    margins = dice.normal(0.25, 1, 2000)
    right = (1 - heavy) * special.ndtr((margins - shift) / sigma)
    right += heavy * special.ndtr((margins - shift) / sigma / 8)
    base = (margins > 0).astype(float)
    truth = float((right - base).mean())
    discordant = float((right * (1 - base) + (1 - right) * base).mean())
    design = SamplingDesign.of(2000, range(2000), margins, designed_for)
    found, low, high, items = [], 0, 0, 200
    for draw in range(800):
        drawn = design.draw("task", items, draw)
        rows = np.array([one.row for one in drawn])
        strata = Strata(np.array([one.stratum for one in drawn]), np.array(design.shares))
        tuned = (dice.random(items) < right[rows]).astype(float)
        result = paired(base[rows], tuned, strata=strata)
        found.append(result.delta)
        low, high = low + (result.lo > truth), high + (result.hi < truth)
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(800)
    assert max(low, high) / 800 < 0.039
    assert np.var(found) < 0.7 * (discordant - truth**2) / items


def test_scores_that_are_drawn_unequally_have_a_weighted_base() -> None:
    strata = Strata(np.array([0, 0, 1, 1]), np.array([0.75, 0.25]))
    x = PairedScores.of([1.0, 1, 0, 0], [1.0, 0, 0, 0], None, None, strata)
    assert (x.base, x.delta) == pytest.approx((0.75, -0.375))
