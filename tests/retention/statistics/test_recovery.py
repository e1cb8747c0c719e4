"""Shares and their difference, on the examples of Newcombe's papers (1998)."""

from __future__ import annotations

import pytest

from myosotis.retention.statistics.recovery import more, share


def test_wilsons_interval_is_that_of_the_literature() -> None:
    """Newcombe 1998a, table I, method 3: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 0 to 0.1611."""
    found, none = share(81, 263), share(0, 20)
    assert found is not None and none is not None
    assert (found.lo, found.hi) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (none.lo, none.hi) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert share(0, 0) is None


def test_the_difference_is_that_of_the_literature() -> None:
    """Newcombe 1998b, table II, method 10: 56/70 - 48/80 = 0.2, from 0.0524 to 0.3339."""
    one, other = share(56, 70), share(48, 80)
    assert one is not None and other is not None
    assert more(one, other) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
