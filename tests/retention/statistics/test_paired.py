"""Paired comparisons, tests and sample sizes against numbers derived by hand or by a library."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from myosotis.records.verdict import Verdict, verdict_of
from myosotis.retention.statistics.intervals import tango
from myosotis.retention.statistics.paired import (
    forgetting,
    holm,
    mcnemar_midp,
    minimum_detectable_effect,
    paired,
)
from myosotis.utils.errors import DataError


def test_a_comparison_by_hand() -> None:
    """d = (.1, -.1, .3, .1): mean .1, deviations (0, -.2, .2, 0), sd = sqrt(.08/3) = .163299,
    SE = sd/2 = .0816497; t(.975, 3 df) = 3.182446, so .1 -+ .259845."""
    found = paired([0.5, 0.5, 0.5, 0.5], [0.6, 0.4, 0.8, 0.6])
    assert (found.n, found.clusters, found.method) == (4, 4, "t")
    assert (found.base, found.tuned, found.delta) == pytest.approx((0.5, 0.6, 0.1))
    assert found.se == pytest.approx(0.0816497, abs=1e-7)
    assert (found.lo, found.hi) == pytest.approx((-0.159845, 0.359845), abs=1e-6)
    assert found.mde == pytest.approx(2.801585 * 0.0816497, abs=1e-6)


def test_cluster_sums_by_hand() -> None:
    """Clusters of 2 with d = (1,1), (-1,-1), (0,0): sums (2,-2,0) about mean 0,
    SE = sqrt(3/2 * 8) / 6 = .57735, where six independent items would give sqrt(.8/6) = .365148."""
    base, d = np.full(6, 0.5), np.array([1.0, 1, -1, -1, 0, 0])
    found = paired(base, base + d, clusters=["a", "a", "b", "b", "c", "c"])
    assert (found.clusters, found.delta) == (3, 0)
    assert found.se == pytest.approx(0.57735, abs=1e-5)
    assert paired(base, base + d).se == pytest.approx(0.365148, abs=1e-6)


def test_one_item_a_cluster_is_the_t_test() -> None:
    rng = np.random.default_rng(0)
    base, tuned = rng.random((2, 9))
    found, theirs = paired(base, tuned), stats.ttest_rel(tuned, base)
    low, high = theirs.confidence_interval(0.95)
    assert (found.lo, found.hi, found.p) == pytest.approx((low, high, theirs.pvalue))


def test_an_unnamed_cluster_is_an_item_of_its_own() -> None:
    base, tuned = np.random.default_rng(0).random((2, 6))
    found = paired(base, tuned, clusters=["a", "a", None, None, "b", "b"])
    assert found.clusters == 4


def test_weights_make_a_ratio_of_sums() -> None:
    """Bits per byte of texts of 100 and 300 bytes: (1.0 * 100 + 2.0 * 300) / 400 = 1.75, tuned
    (1.2 * 100 + 2.0 * 300) / 400 = 1.80."""
    found = paired([1.0, 2.0], [1.2, 2.0], weights=[100, 300], higher_is_better=False)
    assert (found.base, found.tuned, found.delta) == pytest.approx((1.75, 1.80, 0.05))
    assert found.forgetting == pytest.approx(0.05)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_forgetting_is_positive_when_the_tuned_model_is_worse(base: float, tuned: float) -> None:
    assert forgetting(base, tuned, higher_is_better=True) == base - tuned
    assert forgetting(base, tuned, higher_is_better=False) == tuned - base


def test_where_lower_is_better_a_rise_is_a_loss() -> None:
    """Bits per byte up by .2 everywhere, give or take .01: `delta` is the rise."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.8, 1.2, 100)
    found = paired(base, base + 0.2 + 0.01 * rng.standard_normal(100), higher_is_better=False)
    assert found.lo > 0.19
    assert found.gain == (-found.hi, -found.lo)
    assert verdict_of(*found.gain, epsilon=0.05) == Verdict.FORGOTTEN


@pytest.mark.parametrize("n", [1, 2, 5, 20, 50])
def test_a_few_items_without_a_change_settle_nothing(n: int) -> None:
    """At a budget of 2.25 pp (5 % of .45) zero discordance takes n with z^2/(n + z^2) < .0225:
    n > 3.8415 * (1/.0225 - 1) = 167 items."""
    same = np.ones(n)
    found = paired(same, same)
    assert found.se > 0
    assert verdict_of(*found.gain, 0.0225) == Verdict.INCONCLUSIVE
    assert verdict_of(*paired(np.ones(168), np.ones(168)).gain, 0.0225) == Verdict.RETAINED
    assert verdict_of(*paired(np.ones(166), np.ones(166)).gain, 0.0225) == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("b", "c"), [(0, 5), (1, 6), (30, 10), (15, 6), (300, 250)])
def test_mcnemar_is_the_exact_one_less_half_of_what_is_as_extreme(b: int, c: int) -> None:
    exact = float(mcnemar([[7, b], [c, 9]], exact=True).pvalue)
    assert mcnemar_midp(b, c) == pytest.approx(exact - stats.binom.pmf(b, b + c, 0.5))
    assert mcnemar_midp(b, c) == mcnemar_midp(c, b)


def test_mcnemar_by_hand() -> None:
    """1 of 7: 2·(1 + 7)/128 - 7/128 = 9/128. None of 5: 2/32 - 1/32. 2 of 4 are as extreme as can
    be, with probability 6/16, of which half is left out."""
    assert mcnemar_midp(1, 6) == pytest.approx(9 / 128)
    assert mcnemar_midp(0, 5) == pytest.approx(1 / 32)
    assert mcnemar_midp(2, 2) == pytest.approx(13 / 16)
    assert mcnemar_midp(0, 0) == 1.0


def test_mcnemar_hardly_ever_contradicts_the_interval_beside_it() -> None:
    """All 465 tables of up to 29 discordant items in 200: the exact test says another thing than
    Tango's interval in 26, the mid-p in 6, and by hairs: its p is .0522 to .0625 there."""
    exact, mid = [], []
    for n in range(30):
        for b in range(n + 1):
            lo, hi = tango(b, n - b, 200)
            apart = lo > 0 or hi < 0
            if (stats.binomtest(b, n, 0.5).pvalue < 0.05 if n else False) != apart:
                exact.append((b, n - b))
            if (mcnemar_midp(b, n - b) < 0.05) != apart:
                mid.append((b, n - b))
    assert len(exact) == 26
    assert sorted(mid) == [(0, 4), (4, 0), (6, 15), (8, 18), (15, 6), (18, 8)]


def test_mcnemar_keeps_its_level() -> None:
    """Type-I error, exactly, of 200 items of which a share changes, either way alike."""
    many = np.arange(111)  # of 200 at most .4 change: 80, with a standard deviation of 7
    wrong = [
        stats.binom.pmf(np.arange(k + 1), k, 0.5)
        @ np.array([mcnemar_midp(b, k - b) < 0.05 for b in range(k + 1)], float)
        for k in many.tolist()
    ]
    errors = [float(stats.binom.pmf(many, 200, share) @ wrong) for share in (0.02, 0.05, 0.1, 0.4)]
    assert max(errors) <= 0.0525
    assert errors[-1] == pytest.approx(0.05, abs=0.005)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_by_hand() -> None:
    """(.01, .04, .03) sorted .01*3 = .03, .03*2 = .06, .04*1 raised to .06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("effect", "variance", "items"),
    [
        (0.03, 1 / 9, 969),  # Miller 2024
        (0.02, 0.10 - 0.02**2, 1954),  # paired, 10 % discordant
        (0.05, 0.10 - 0.05**2, 306),
        (0.02, 2 * 0.42 * 0.58, 9560),  # unpaired, per arm
        (0.05, 2 * 0.42 * 0.58, 1530),
    ],
)
def test_published_numbers_of_items_detect_their_effects(
    effect: float, variance: float, items: int
) -> None:
    """docs/science.md, section 3: items = (1.959964 + .841621)^2 = 7.848879 times variance /
    effect^2, to the nearest whole number. One item fewer or more is on either side of the effect.
    """
    fewer, more = (minimum_detectable_effect(sqrt(variance / n)) for n in (items - 1, items + 1))
    assert more < effect < fewer


def test_306_items_detect_5_points_in_four_of_five_runs() -> None:
    """306 items, 10 % discordant, a true loss of 5 pp: (2.5 % gained, 7.5 % lost)."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(1000):
        u = rng.random(306)
        base, tuned = np.where(u < 0.025, 0.0, 1.0), np.where(u > 0.925, 0.0, 1.0)
        found += paired(base, tuned).hi < 0
    assert 0.76 <= found / 1000 <= 0.84


def test_the_detectable_effect_is_2_8_standard_errors() -> None:
    assert minimum_detectable_effect(0.01) == pytest.approx((1.960 + 0.842) * 0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("base", "tuned", "more", "message"),
    [
        ([], [], {}, "no items"),
        ([1.0, 2.0], [1.0], {}, "item by item"),
        ([1.0, np.nan], [1.0, 2.0], {}, "1 of 2 items"),
        ([1.0, -np.inf], [1.0, 2.0], {}, "not finite"),
        ([1.0, 2.0], [1.0, 2.0], {"clusters": ["a"]}, "item by item"),
        ([1.0, 2.0], [1.0, 2.0], {"weights": [1.0, -1.0]}, "weights"),
        ([1.0, 2.0], [1.0, 2.0], {"weights": [0.0, 0.0]}, "weights"),
    ],
)
def test_what_cannot_be_compared_is_refused(base, tuned, more, message) -> None:
    with pytest.raises(DataError, match=message):
        paired(base, tuned, **more)
