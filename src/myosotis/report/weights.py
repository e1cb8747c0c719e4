"""How the weights moved: the scorecard's section on Δθ.

What belongs here: from the record's numbers of weights to sentences, small multiples (a panel per
kind of weight, along the layers) and a table. How they are measured is in `evaluation/weights.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from myosotis.records.schema import RunRecord, WeightChange
from myosotis.report import phrases
from myosotis.report.figure import Figure
from myosotis.report.phrases import MISSING
from myosotis.report.svg.charts import Chart, Series, line_key

FIRST = 10
"""Singular vectors that are looked at in each matrix for intruders."""

VISIBLE = 2
"""Groups of panels that stand on the page unfolded."""

TOP = 16
"""Singular directions of the base, of which it is asked how much of the change lies in them."""


def of_run(record: RunRecord) -> dict[str, Any] | None:
    """The section; None where nothing is known of how the weights moved."""
    known = [one for one in record.weights if _finite(one.relative_norm)]
    if not known:
        return None
    matrices = [one for one in known if one.rank is not None]
    looked_at = [one for one in matrices if one.spectrum or one.top_share is not None] or matrices
    drawn = [_drawn(group) for group in groups(known, looked_at)]
    return {
        "said": said(known, matrices, looked_at),
        "groups": [group for group in drawn[:VISIBLE] if group["panels"]],
        "folded": [group for group in drawn[VISIBLE:] if group["panels"]],
        "rows": [{"name": one.name, "cells": _cells(one)} for one in looked_at],
        "layers": _layers(looked_at),
    }


def _drawn(group: dict[str, Any]) -> dict[str, Any]:
    return group | {"panels": [panel for panel in group["panels"] if panel is not None]}


def said(
    known: Sequence[WeightChange],
    matrices: Sequence[WeightChange],
    looked_at: Sequence[WeightChange],
) -> str:
    """The section in two or three sentences."""
    most = max(known, key=lambda one: one.relative_norm or 0.0)
    moved = [one.relative_norm or 0.0 for one in known]
    words = (
        f"{phrases.plural(len(known), 'weight')} moved, by {_share(median(moved))} of the base's "
        f"length (median), at most by {_share(most.relative_norm)} ({most.name})."
    )
    if not matrices:
        return words
    all_of_them = len(looked_at) == len(matrices)
    where = f" in {_layers(looked_at)}" if all_of_them else ""
    words += (
        f" Of {phrases.plural(len(matrices), 'matrix', 'matrices')}{where}: rank "
        f"{max(one.rank or 0 for one in matrices)} at most; 90 % of the change lies in "
        f"{phrases.fixed(median([one.rank_90 or 0 for one in matrices]), 0)} directions (median)"
    )
    directions = ", ".join(_directions(looked_at))
    if not directions:
        return f"{words}."
    return f"{words}{', ' if all_of_them else f'. In {_layers(looked_at)}: '}{directions}."


def _directions(looked_at: Sequence[WeightChange]) -> Iterator[str]:
    inside = [one.top_share for one in looked_at if one.top_share is not None]
    intruders = [one.intruders for one in looked_at if one.intruders is not None]
    if inside:
        yield f"{_share(median(inside))} of it inside the base's first {TOP}"
    if intruders:
        yield (
            f"{sum(intruders)} of {FIRST * len(intruders)} leading directions of the tuned "
            "matrices like none of the base's"
        )


def groups(
    known: Sequence[WeightChange], looked_at: Sequence[WeightChange]
) -> Iterator[dict[str, Any]]:
    """Small multiples, a panel for each kind of weight: how far, in how many directions, in which
    of them, and how unevenly."""
    where = f"In {_layers(looked_at)}." if looked_at else ""
    yield {
        "title": "How far",
        "note": "",
        "panels": [
            _panel(
                "moved",
                kind,
                "‖Δθ‖ / ‖θ0‖, %",
                _percent,
                [("moved by", _along(own, "relative_norm"))],
            )
            for kind, own in by_kind(known)
        ],
    }
    yield {
        "title": "In how many directions",
        "note": (
            "The effective rank of Δθ, as if its singular values were so many equal ones, and how "
            "many of them hold 90 % of ‖Δθ‖²."
        ),
        "panels": [
            _panel(
                "ranks",
                kind,
                "directions of Δθ",
                lambda value: phrases.fixed(value, 1),
                [
                    ("effective rank", _along(own, "effective_rank")),
                    ("90 % in", _along(own, "rank_90")),
                ],
            )
            for kind, own in by_kind(known)
        ],
    }
    yield {
        "title": "In which of them",
        "note": (
            f"How much of ‖Δθ‖² lies in the first {TOP} singular directions of the base, and how "
            f"many of the first {FIRST} of the tuned matrix are like none of the base's "
            f"(intruders). {where}"
        ),
        "panels": [
            _panel(
                "directions",
                kind,
                "%",
                _percent,
                [
                    (f"in the first {TOP}", _along(own, "top_share")),
                    ("intruders", _along(own, "intruders", FIRST)),
                ],
            )
            for kind, own in by_kind(looked_at)
        ],
    }
    yield {
        "title": "How unevenly",
        "note": (
            "The singular values of Δθ, over the largest of them; of the first, the middle and the "
            f"last of {_layers(looked_at)}."
            if looked_at
            else ""
        ),
        "panels": [
            _panel(
                "spectrum",
                kind,
                "% of the largest, by layer",
                _percent,
                _spectra(own),
                "singular value",
            )
            for kind, own in by_kind(looked_at)
        ],
    }


def by_kind(known: Sequence[WeightChange]) -> list[tuple[str, list[WeightChange]]]:
    """The weights of the layers, by kind, from the first layer to the last."""
    found: dict[str, list[WeightChange]] = {}
    for one in sorted(known, key=lambda one: -1 if one.layer is None else one.layer):
        if one.layer is not None:
            found.setdefault(one.kind, []).append(one)
    return list(found.items())


Line = tuple[str, list[tuple[float, float]]]


def _along(own: Sequence[WeightChange], name: str, over: float = 1.0) -> list[tuple[float, float]]:
    """A number of each weight over its layer."""
    given = [(float(one.layer or 0), getattr(one, name)) for one in own]
    return [(layer, value / over) for layer, value in given if value is not None and _finite(value)]


def _spectra(own: Sequence[WeightChange]) -> list[Line]:
    """The singular values of the first, the middle and the last of these matrices."""
    known = [one for one in own if len(one.spectrum) > 1 and all(map(_finite, one.spectrum))]
    places = sorted({0, len(known) // 2, len(known) - 1}) if known else []
    return [
        (
            f"layer {known[i].layer}",
            [(float(k), value) for k, value in enumerate(known[i].spectrum[:TOP], 1)],
        )
        for i in places
    ]


def _panel(
    name: str,
    kind: str,
    unit: str,
    value: Callable[[float], str],
    lines: Sequence[Line],
    x_name: str = "layer",
) -> dict[str, Any] | None:
    """One panel; lines of a single point, which show nothing along the layers, are left out, and a
    panel without lines is none."""
    drawn = [
        Series(line, points, style="main" if len(lines) == 1 else f"s{k}")
        for k, (line, points) in enumerate(lines)
        if len(points) > 1
    ]
    if not drawn:
        return None
    chart = Chart(f"{kind}, {unit}", drawn, value, x_name, unit=unit)
    keys = [
        {"name": line.name.removeprefix("layer "), "drawn": line_key(line.style)} for line in drawn
    ]
    return {
        "title": kind,
        "unit": unit,
        "note": "",
        "figure": Figure.of(f"{name}-{kind}", chart),
        "keys": [],
        "marks": keys if len(lines) > 1 else [],
    }


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
    if 0 < value < 1e-3:
        return f"{100 * value:.{1 if value < 1e-4 else 2}g} %"
    return f"{phrases.fixed(100 * value, 1 if value >= 0.01 or not value else 2)} %"


def _percent(value: float) -> str:
    """The same where the unit says that it is per cent."""
    return _share(value).removesuffix(" %")


def _finite(value: float | None) -> bool:
    return value is not None and 0 <= value < 1e30
