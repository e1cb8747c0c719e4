"""Blind ratings of two answers: which side is whose, and what they come to.

Which answer stands on the left is a function of the run and the item, so that a sheet needs no key
beside it, and says nothing of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from myosotis.records.schema import RatingResult
from myosotis.retention.statistics.paired import paired

FEW = 500
"""Ratings below which a win rate of 55 % is not told from a coin: at 500 the interval is ±4.4."""

SCORES = {"win": 1.0, "tie": 0.5, "loss": 0.0}


class Rating(NamedTuple):
    """What one rater said of one item, for the tuned model: win, tie or loss."""

    item: int
    rater: str
    said: str


def tuned_is_first(run_id: str, item: int) -> bool:
    """Whether the tuned model's answer stands on the left (A)."""
    return hashlib.sha256(f"{run_id} {item}".encode()).digest()[0] % 2 == 0


def meant(choice: str, run_id: str, item: int) -> str:
    """A choice (A, B or tie) as what it is for the tuned model."""
    if choice == "tie":
        return "tie"
    return "win" if (choice == "A") == tuned_is_first(run_id, item) else "loss"


def counted(ratings: Sequence[Rating]) -> RatingResult:
    """The win rate of the tuned model and how far raters agree, with 95 % intervals."""
    scores = np.array([SCORES[rating.said] for rating in ratings])
    items = [str(rating.item) for rating in ratings]
    change = paired(np.full(len(scores), 0.5), scores, clusters=items)
    said = [rating.said for rating in ratings]
    found = RatingResult(
        ratings=len(ratings),
        items=len(set(items)),
        raters=len({rating.rater for rating in ratings}),
        wins=said.count("win"),
        ties=said.count("tie"),
        losses=said.count("loss"),
        win_rate=0.5 + change.delta,
        lo=max(0.0, 0.5 + change.lo),
        hi=min(1.0, 0.5 + change.hi),
    )
    _agreement(found, ratings)
    return found


def _agreement(found: RatingResult, ratings: Sequence[Rating]) -> None:
    by_item: dict[int, list[str]] = {}
    for rating in ratings:
        by_item.setdefault(rating.item, []).append(rating.said)
    pairs = [
        (item, float(a == b))
        for item, said in by_item.items()
        for i, a in enumerate(said)
        for b in said[i + 1 :]
    ]
    if not pairs:
        return
    same = np.array([one for _, one in pairs])
    around = paired(np.zeros(len(same)), same, clusters=[str(item) for item, _ in pairs])
    found.agreement = around.tuned
    found.agreement_lo, found.agreement_hi = max(0.0, around.lo), min(1.0, around.hi)
