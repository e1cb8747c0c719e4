"""Preferences: margin, reward accuracy, and where the chosen and rejected answers went.

What belongs here: reading the curves that a preference objective leaves in a record (names as in
`objectives/preference.py`), and saying what they mean. A run without them has no such section.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myosotis.record import CurvePoint, RunRecord
from myosotis.report import words
from myosotis.report.plots import Chart, Reference, Series, line_chart, line_key
from myosotis.report.settings import Study
from myosotis.report.words import MISSING

NAMES = (
    "reward_margin", "reward_accuracy", "chosen_logp", "rejected_logp",
    "chosen_reward", "rejected_reward", "chosen_tokens", "rejected_tokens",
)  # fmt: skip
CURVES = frozenset(f"train/{name}" for name in NAMES)
SHARE = 5
"""Begin and end are the means of the first and the last fifth of the steps."""


def of_run(record: RunRecord) -> dict[str, Any] | None:
    """The section of one run; None where nothing was learned from pairs."""
    found = _curves(record.curves)
    if not {"chosen_logp", "rejected_logp"} <= set(found):
        return None
    ends = {name: _ends(points) for name, points in found.items()}
    panels = []
    for title, unit, names in (
        ("Reward margin", "β times what the chosen answer gained over the rejected one, nats",
         ("reward_margin",)),
        ("Reward accuracy", "share of pairs in which the chosen answer gained more",
         ("reward_accuracy",)),
        ("Rewards", "β times the change of log-prob from the base, nats",
         ("chosen_reward", "rejected_reward")),
        ("Log-probs", "sum over an answer, nats", ("chosen_logp", "rejected_logp")),
    ):  # fmt: skip
        drawn = _panel(title, unit, [(n, found[n]) for n in names if n in found])
        if drawn:
            panels.append(drawn)
    return {
        "panels": panels,
        "rows": [
            {
                "name": _ROWS[name],
                "begin": _write(name, ends[name][0]),
                "end": _write(name, ends[name][1]),
            }
            for name in NAMES
            if name in ends
        ],
        "said": said(ends),
    }


_ROWS = {
    "reward_margin": "reward margin, nats",
    "reward_accuracy": "reward accuracy",
    "chosen_logp": "log-prob of the chosen answers, nats",
    "rejected_logp": "log-prob of the rejected answers, nats",
    "chosen_reward": "reward of the chosen answers, nats",
    "rejected_reward": "reward of the rejected answers, nats",
    "chosen_tokens": "length of the chosen answers, tokens",
    "rejected_tokens": "length of the rejected answers, tokens",
}


def said(ends: dict[str, tuple[float, float]]) -> list[str]:
    """What the curves mean, a sentence each."""
    found = []
    if (margin := ends.get("reward_margin")) is not None:
        grew = "grew" if margin[1] > margin[0] else "shrank"
        found.append(f"The margin {grew} from {_plain(margin[0])} to {_plain(margin[1])} nats.")
    if (right := ends.get("reward_accuracy")) is not None:
        found.append(
            f"At the end the chosen answer had gained more in {_share(right[1])} of the training "
            "pairs; a coin gets 50 %. Pairs the model has seen flatter it: what counts is the "
            "accuracy on held-out pairs, above."
        )
    if (chosen := ends.get("chosen_reward")) is not None:
        change = chosen[1] - chosen[0]
        if change < 0:
            found.append(
                f"The chosen answers themselves became less likely (their reward changed by "
                f"{_plain(change)} nats): the margin comes from the rejected ones falling faster. "
                "Probability then moves to answers that are neither; an SFT term "
                "(objective.sft_weight) or objective=dpop holds the chosen ones up."
            )
        else:
            found.append("The chosen answers became no less likely while the margin moved.")
    lengths = ends.get("chosen_tokens"), ends.get("rejected_tokens")
    if lengths[0] is not None and lengths[1] is not None:
        longer, shorter = lengths[0][1], lengths[1][1]
        if shorter > 0 and longer / shorter > 1.2:
            found.append(
                f"Chosen answers are longer ({_plain(longer)} against {_plain(shorter)} tokens): "
                "part of what is learned may be length."
            )
        elif longer > 0 and shorter / longer > 1.2:
            found.append(
                f"Rejected answers are longer ({_plain(shorter)} against {_plain(longer)} tokens): "
                "sums of log-probs favour the shorter ones to begin with, and part of what is "
                "learned may be length."
            )
    return found


def of_settings(found: Study) -> dict[str, Any] | None:
    """A row a setting: begin and end of what preference objectives watch, its first seed."""
    rows = []
    for setting in found.measured:
        curves = _curves(setting.runs[0].curves)
        if not {"chosen_logp", "rejected_logp"} <= set(curves):
            continue
        ends = {name: _ends(points) for name, points in curves.items()}
        rows.append(
            {
                "number": setting.number,
                "label": setting.label,
                "cells": [
                    _write(name, ends[name][1]) if name in ends else MISSING
                    for name in ("reward_margin", "reward_accuracy")
                ]
                + [
                    _change(ends.get(name))
                    for name in ("chosen_reward", "rejected_reward", "chosen_logp", "rejected_logp")
                ],
                "fell": (ends.get("chosen_reward") or (0.0, 0.0))[1] < 0,
            }
        )
    return {"rows": rows} if rows else None


def _change(ends: tuple[float, float] | None) -> str:
    return MISSING if ends is None else words.fixed(ends[1] - ends[0], 2, signed=True)


def _curves(points: Sequence[CurvePoint]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        if point.name in CURVES and point.value is not None and abs(point.value) < 1e300:
            name = point.name.removeprefix("train/")
            found.setdefault(name, []).append((float(point.step), point.value))
    return {name: sorted(values) for name, values in found.items()}


def _ends(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    few = max(1, len(points) // SHARE)
    first, last = points[:few], points[-few:]
    return sum(v / few for _, v in first), sum(v / few for _, v in last)


def _panel(
    title: str, unit: str, curves: Sequence[tuple[str, list[tuple[float, float]]]]
) -> dict[str, Any] | None:
    if not curves:
        return None
    accuracy = title == "Reward accuracy"
    lines = [
        Series(_ROWS[name].partition(",")[0], points, (), style, dots=len(points) <= 40)
        for (name, points), style in zip(curves, ("s0", "s1"), strict=False)
    ]
    references = [Reference(0.5, "a coin")] if accuracy else []
    write = _share if accuracy else _plain
    chart = Chart(title, lines, write, "step", references, height=170)
    keys = [
        {"name": name.partition("_")[0], "drawn": line_key(line.style)}
        for (name, _), line in zip(curves, lines, strict=False)
    ]
    return {
        "title": title,
        "unit": unit,
        "note": "",
        "drawn": line_chart(chart),
        "marks": keys if len(lines) > 1 else [],
    }


def _write(name: str, value: float) -> str:
    return _share(value) if name == "reward_accuracy" else _plain(value)


def _plain(value: float) -> str:
    return words.fixed(value, 2 if abs(value) < 10 else 1)


def _share(value: float) -> str:
    return f"{words.fixed(100 * value, 0)} %"
