"""Items that flipped: how many of them a record shows, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

MOST_FLIPS = 40
"""Items shown on the scorecard; a run's items artifact has all of them."""

One = TypeVar("One")


def in_turn(by_task: Sequence[Sequence[One]]) -> list[One]:
    """The first of each task, then the second of each, at most `MOST_FLIPS`."""
    longest = max(map(len, by_task), default=0)
    mixed = [of_task[k] for k in range(longest) for of_task in by_task if k < len(of_task)]
    return mixed[:MOST_FLIPS]
