"""How the weights moved: the scorecard's section on Δθ.

What belongs here: from the record's numbers of weights to a sentence, small multiples (a panel per
kind of weight, along the layers) and a table. How they are measured is in `evaluation/weights.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from myosotis.records.schema import RunRecord, WeightChange
from myosotis.report import phrases
from myosotis.report.figure import Figure
from myosotis.report.phrases import MISSING
from myosotis.report.svg.charts import Chart, Series

FIRST = 10
"""Singular vectors that are looked at in each matrix for intruders."""


def of_run(record: RunRecord) -> dict[str, Any] | None:
    """The section; None where nothing is known of how the weights moved."""
    known = [one for one in record.weights if _finite(one.relative_norm)]
    if not known:
        return None
    matrices = [one for one in known if one.rank is not None]
    return {
        "said": said(known, matrices),
        "panels": panels(known),
        "rows": [{"name": one.name, "cells": _cells(one)} for one in matrices],
        "layers": _layers(matrices),
    }


def said(known: Sequence[WeightChange], matrices: Sequence[WeightChange]) -> str:
    """The section in two sentences."""
    most = max(known, key=lambda one: one.relative_norm or 0.0)
    moved = [one.relative_norm or 0.0 for one in known]
    words = (
        f"{phrases.plural(len(known), 'weight')} moved, by {_share(median(moved))} of the base's "
        f"length (median), at most by {_share(most.relative_norm)} ({most.name})."
    )
    if not matrices:
        return words
    inside = [one.top_share for one in matrices if one.top_share is not None]
    intruders = [one.intruders for one in matrices if one.intruders is not None]
    words += (
        f" Of {phrases.plural(len(matrices), 'matrix', 'matrices')} in {_layers(matrices)}: rank "
        f"{max(one.rank or 0 for one in matrices)} at most; 90 % of the change lies in "
        f"{phrases.fixed(median([one.rank_90 or 0 for one in matrices]), 0)} directions (median)"
    )
    if inside:
        words += f", {_share(median(inside))} of it inside the base's first 16"
    if intruders:
        words += (
            f"; {sum(intruders)} of {FIRST * len(intruders)} leading directions of the tuned "
            "matrices are like none of the base's"
        )
    return f"{words}."


def panels(known: Sequence[WeightChange]) -> list[dict[str, Any]]:
    """A kind of weight each: how far it moved, along the layers."""
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for one in known:
        if one.layer is not None and one.relative_norm is not None:
            by_kind.setdefault(one.kind, []).append((float(one.layer), one.relative_norm))
    drawn = []
    for kind, points in by_kind.items():
        if len(points) < 2:
            continue
        line = Series(kind, sorted(points), style="main")
        chart = Chart(kind, [line], _share, "layer", unit="‖Δθ‖ / ‖θ0‖")
        figure = Figure.of(f"moved-{kind}", chart)
        panel = {"title": kind, "unit": "‖Δθ‖ / ‖θ0‖", "note": "", "figure": figure, "keys": []}
        drawn.append(panel)
    return drawn


def _cells(one: WeightChange) -> list[str]:
    return [
        _share(one.relative_norm),
        phrases.count(one.rank),
        MISSING if one.effective_rank is None else phrases.fixed(one.effective_rank, 1),
        phrases.count(one.rank_90),
        _share(one.top_share),
        phrases.count(one.intruders),
    ]


def _layers(matrices: Sequence[WeightChange]) -> str:
    """`layers 0, 15 and 29`."""
    numbers = sorted({one.layer for one in matrices if one.layer is not None})
    return f"layer{'s' * (len(numbers) != 1)} {phrases.listed([str(n) for n in numbers])}"


def _share(value: float | None) -> str:
    if not _finite(value) or value is None:
        return MISSING
    if 0 < value < 1e-4:
        return f"{100 * value:.1g} %"
    return f"{phrases.fixed(100 * value, 1 if value >= 0.01 else 2)} %"


def _finite(value: float | None) -> bool:
    return value is not None and 0 <= value < 1e30
