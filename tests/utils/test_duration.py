"""Seconds as a person says them."""

from __future__ import annotations

import pytest

from myosotis.utils.duration import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0.2 s"),
        (0.84, "0.8 s"),
        (59.4, "59 s"),
        (80, "1 min 20 s"),
        (133, "2 min 13 s"),
        (3840, "1 h 04 min"),
        (8000, "2 h 13 min"),  # 133 min 20 s
        (200_000, "55 h 33 min"),
    ],
)
def test_a_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
