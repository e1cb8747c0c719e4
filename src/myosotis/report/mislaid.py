"""Lost answers asked again, told: what came back, beside what comes where nothing was lost."""

from __future__ import annotations

from typing import Any

from myosotis.records.schema import Recovery, RunRecord
from myosotis.report import phrases

WAYS = {"examples": "with examples", "relearning": "after relearning"}


def sentences(record: RunRecord) -> list[str]:
    """A sentence a way, and one on what it means; none where nothing was asked again."""
    told = [_told(one) for one in record.recovery if one.lost]
    return [*told, *filter(None, [meaning(record)])]


def _told(one: Recovery) -> str:
    how = {
        "examples": f"asked with {phrases.plural(one.amount, 'solved example')}",
        "relearning": f"asked after {phrases.plural(one.amount, 'step')} on other items",
    }.get(one.way, one.way)
    said = (
        f"Of {phrases.plural(one.lost, 'lost answer')}, {one.again} "
        f"({phrases.percent(one.again / one.lost)}, {_ends(one.again_lo, one.again_hi)}) are right "
        f"again when {how}"
    )
    if one.base_again is not None:
        said += f" (the base, asked so, has {one.base_again} of them)"
    if one.never:
        said += (
            f"; of {phrases.plural(one.never, 'item')} that neither model had right, {one.found} "
            f"({phrases.percent(one.found / one.never)}, {_ends(one.found_lo, one.found_hi)})"
        )
    return f"{said}."


def meaning(record: RunRecord) -> str:
    """Whether more comes back than comes anyway."""
    known = [one for one in record.recovery if one.more_lo is not None and one.more_hi is not None]
    if not known:
        return ""
    back = [WAYS.get(one.way, one.way) for one in known if (one.more_lo or 0.0) > 0]
    if back:
        return (
            f"More came back {phrases.listed(back)} than comes where nothing was lost: part of it "
            "was mislaid, not gone."
        )
    return "No more is shown to come back than comes where nothing was lost."


def of_flip(again: list[str]) -> str:
    """What a lost item shows beside it."""
    ways = [WAYS.get(way, way) for way in again]
    return f"right again {phrases.listed(ways)}" if ways else "stays wrong"


def of_run(record: RunRecord) -> dict[str, Any] | None:
    """The part of the page beside the flips."""
    if not record.recovery:
        return None
    rows = [
        {
            "way": WAYS.get(one.way, one.way),
            "cells": [
                f"{again} of {lost}" if (one.tasks.get(task)) else phrases.MISSING
                for task in _tasks(record)
                for again, lost in [one.tasks.get(task) or (0, 0)]
            ],
        }
        for one in record.recovery
    ]
    return {"said": sentences(record), "tasks": _tasks(record), "rows": rows}


def _tasks(record: RunRecord) -> list[str]:
    return sorted({task for one in record.recovery for task in one.tasks})


def _ends(lo: float | None, hi: float | None) -> str:
    return f"{phrases.percent(lo)} to {phrases.percent(hi)}"
