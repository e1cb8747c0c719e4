"""Bounds of planned looks: published tables, an integral by another way, and 10^5 simulated paths.

The constants are those of Jennison & Turnbull (2000), tables 2.1 (Pocock), 2.3 (O'Brien & Fleming)
and 2.9 (Wang & Tsiatis, delta = .25), two-sided error .05, for K equally spaced looks.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from myosotis.retention.statistics.group_sequential import boundaries

TABLES = {
    0.5: {2: 2.178, 3: 2.289, 4: 2.361, 5: 2.413, 6: 2.453, 8: 2.512, 10: 2.555},
    0.0: {2: 1.977, 3: 2.004, 4: 2.024, 5: 2.040, 6: 2.053, 8: 2.072, 10: 2.087},
    0.25: {2: 2.038, 3: 2.083, 4: 2.113, 5: 2.136, 6: 2.154, 8: 2.180, 10: 2.199},
}


def quantiles(levels: list[float]) -> np.ndarray:
    return stats.norm.ppf(0.5 + np.asarray(levels) / 2)


@pytest.mark.parametrize("delta", TABLES)
def test_published_constants(delta: float) -> None:
    """The last look's quantile is c, an earlier one's c * (k / K) ** (delta - 1/2)."""
    for looks, c in TABLES[delta].items():
        times = np.arange(1, looks + 1)
        z = quantiles(boundaries(times.tolist(), 0.95, delta))
        assert z[-1] == pytest.approx(c, abs=6e-4)
        assert z == pytest.approx(z[-1] * (times / looks) ** (delta - 0.5), rel=1e-6)


def test_two_looks_are_a_normal_rectangle() -> None:
    """Z at shares 1/4 and 1 of the items has correlation 1/2: P(both inside) from SciPy's bivariate
    normal distribution is the level."""
    levels = boundaries([50, 200], 0.9)
    first, last = quantiles(levels)
    both = stats.multivariate_normal(cov=[[1, 0.5], [0.5, 1]])
    inside = both.cdf([first, last], lower_limit=[-first, -last])
    assert inside == pytest.approx(0.9, abs=1e-4)


LOOKS = (30, 45, 68, 102, 153, 200)


@pytest.mark.parametrize("level", [0.95, 0.995])
def test_paths_leave_as_often_as_promised(level: float) -> None:
    """10^5 random walks of 200 normal steps, looked at after 30, 45, 68, 102, 153 and 200: of 5 %,
    two standard errors of the share that leaves are .0014; either side has half of it."""
    rng, paths = np.random.default_rng(0), 100_000
    increments = np.diff((0, *LOOKS)) ** 0.5 * rng.standard_normal((paths, len(LOOKS)))
    z_PK = increments.cumsum(axis=1) / np.sqrt(LOOKS)
    bound_K = quantiles(boundaries(LOOKS, level))
    allowed, left = 1 - level, (np.abs(z_PK) > bound_K).any(axis=1).mean()
    assert left == pytest.approx(allowed, abs=3 * (allowed / paths) ** 0.5)
    above = (z_PK > bound_K).any(axis=1).mean()
    assert above == pytest.approx(allowed / 2, abs=3 * (allowed / 2 / paths) ** 0.5)
    naive = (np.abs(z_PK) > quantiles([level])).any(axis=1).mean()
    assert naive > 2 * allowed  # what looking again and again would come to


def test_one_look_is_the_plain_interval_and_units_do_not_matter() -> None:
    assert boundaries([17], 0.95) == [0.95]
    assert boundaries([1, 2, 3], 0.95) == pytest.approx(boundaries([0.1, 0.2, 0.3], 0.95))


def test_many_and_crowded_looks() -> None:
    """A look after every item costs more than ten looks and less than Bonferroni; two looks at
    nearly the same items are nearly one."""
    every = quantiles(boundaries(range(1, 31), 0.95))
    assert 2.199 < every[-1] < stats.norm.ppf(1 - 0.025 / 30)
    assert (every > every[-1] - 1e-9).all()
    assert quantiles(boundaries([99.99, 100], 0.95))[-1] == pytest.approx(1.96, abs=0.02)
    assert quantiles(boundaries([1e-6, 1], 0.95))[0] < 7.2  # finite, whatever the share


@pytest.mark.parametrize("times", [[], [0, 1], [1, 1], [2, 1], [-1, 1]])
def test_looks_that_are_none(times: list[float]) -> None:
    with pytest.raises(ValueError, match="growing"):
        boundaries(times, 0.95)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_levels_that_are_none(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        boundaries([1, 2], level)
