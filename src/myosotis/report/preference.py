"""Preferences: margin, reward accuracy, and where the chosen and rejected answers went.

What belongs here: reading the curves that a preference objective leaves in a record (names as in
`objectives/preference.py`), and saying what they mean. A run without them has no such section.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myosotis.records.schema import CurvePoint, RunRecord
from myosotis.report import phrases
from myosotis.report.figure import with_keys
from myosotis.report.grouping import Study
from myosotis.report.phrases import MISSING
from myosotis.report.svg.charts import Chart, Reference, Series

NAMES = (
    "reward_margin", "reward_accuracy", "chosen_logp", "rejected_logp",
    "chosen_reward", "rejected_reward", "chosen_tokens", "rejected_tokens",
)  # fmt: skip
CURVES = frozenset(f"{part}/{name}" for part in ("train", "val") for name in NAMES)
SHARE = 5
"""Begin and end of training are the means of the first and the last fifth of the steps."""

Points = list[tuple[float, float]]
Ends = dict[str, tuple[float, float]]


def of_run(record: RunRecord) -> dict[str, Any] | None:
    """The section of one run; None where nothing was learned from pairs."""
    training, held_out = (_curves(record.curves, part) for part in ("train", "val"))
    if not {"chosen_logp", "rejected_logp"} <= set(training):
        return None
    seen, unseen = _ends_of(training), _whole_of(held_out)
    panels = []
    for title, unit, name in (
        ("Reward margin", "β times what the chosen answer gained over the rejected one, nats",
         "reward_margin"),
        ("Reward accuracy", "share of pairs in which the chosen answer gained more",
         "reward_accuracy"),
    ):  # fmt: skip
        both = [
            ("training", training.get(name, []), "quiet"),
            ("held-out", held_out.get(name, []), "s0"),
        ]
        panels.append(_panel(title, unit, both))
    source, where = (held_out, "held-out") if len(unseen) else (training, "training")
    for title, unit, name in (
        ("Rewards", f"β times the change of log-prob from the base, nats; {where} pairs", "reward"),
        ("Log-probs", f"sum over an answer, nats; {where} pairs", "logp"),
    ):
        both = [
            (side, source.get(f"{side}_{name}", []), style)
            for side, style in (("chosen", "s0"), ("rejected", "s1"))
        ]
        panels.append(_panel(title, unit, both))
    return {
        "panels": [panel for panel in panels if panel],
        "held_out": bool(unseen),
        "rows": [
            {
                "name": _ROWS[name],
                "cells": [
                    _write(name, ends[name][i]) if name in ends else MISSING
                    for ends in (seen, unseen)[: 1 + bool(unseen)]
                    for i in (0, 1)
                ],
            }
            for name in NAMES
            if name in seen
        ],
        "said": said(seen, unseen),
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


def said(training: Ends, held_out: Ends) -> list[str]:
    """What the curves mean, a sentence each; read on held-out pairs where there are any."""
    ends, where = (held_out, "held-out") if held_out else (training, "training")
    found = []
    if (margin := ends.get("reward_margin")) is not None:
        grew = "grew" if margin[1] > margin[0] else "shrank"
        found.append(
            f"On {where} pairs the margin {grew} from {_plain(margin[0])} to {_plain(margin[1])} "
            "nats."
        )
    if (right := ends.get("reward_accuracy")) is not None:
        seen = "" if held_out else " Pairs the model has seen flatter it."
        found.append(
            f"At the end the chosen answer had gained more in {_share(right[1])} of the {where} "
            f"pairs; a coin gets 50 %.{seen}"
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
    return [*found, *filter(None, [_lengths(ends)])]


def _lengths(ends: Ends) -> str:
    """Whether one kind of answer is longer than the other by more than a fifth."""
    if not {"chosen_tokens", "rejected_tokens"} <= set(ends):
        return ""
    chosen, rejected = ends["chosen_tokens"][1], ends["rejected_tokens"][1]
    if rejected > 0 and chosen / rejected > 1.2:
        return (
            f"Chosen answers are longer ({_plain(chosen)} against {_plain(rejected)} tokens): "
            "part of what is learned may be length."
        )
    if chosen > 0 and rejected / chosen > 1.2:
        return (
            f"Rejected answers are longer ({_plain(rejected)} against {_plain(chosen)} tokens): "
            "sums of log-probs favour the shorter ones to begin with, and part of what is learned "
            "may be length."
        )
    return ""


def of_groups(found: Study) -> dict[str, Any] | None:
    """A row a setting: what preference objectives watch, its first seed, held-out where known."""
    rows = []
    for group in found.measured:
        curves = group.runs[0].curves
        ends = _whole_of(_curves(curves, "val"))
        where = "held-out" if ends else "training"
        ends = ends or _ends_of(_curves(curves, "train"))
        if not {"chosen_logp", "rejected_logp"} <= set(ends):
            continue
        last = [_write(n, ends[n][1]) if n in ends else MISSING for n in _LAST]
        rows.append(
            {
                "number": group.number,
                "label": group.label,
                "where": where,
                "cells": [*last, *(_change(ends.get(name)) for name in _CHANGE)],
                "fell": "chosen_reward" in ends and ends["chosen_reward"][1] < 0,
            }
        )
    return {"rows": rows} if rows else None


_LAST = ("reward_margin", "reward_accuracy")
_CHANGE = ("chosen_reward", "rejected_reward", "chosen_logp", "rejected_logp")


def _change(ends: tuple[float, float] | None) -> str:
    return MISSING if ends is None else phrases.fixed(ends[1] - ends[0], 2, signed=True)


def _curves(points: Sequence[CurvePoint], part: str) -> dict[str, Points]:
    found: dict[str, Points] = {}
    for point in points:
        here, _, name = point.name.partition("/")
        if here == part and name in NAMES and point.value is not None and abs(point.value) < 1e300:
            found.setdefault(name, []).append((float(point.step), point.value))
    return {name: sorted(values) for name, values in found.items()}


def _ends_of(curves: dict[str, Points]) -> Ends:
    """Training: every step shows other pairs, so the ends are means."""
    ends = {}
    for name, points in curves.items():
        few = max(1, len(points) // SHARE)
        ends[name] = sum(v / few for _, v in points[:few]), sum(v / few for _, v in points[-few:])
    return ends


def _whole_of(curves: dict[str, Points]) -> Ends:
    """Held-out pairs are the same at every look: the first and the last."""
    return {
        name: (points[0][1], points[-1][1]) for name, points in curves.items() if len(points) > 1
    }


def _panel(
    title: str, unit: str, curves: Sequence[tuple[str, Points, str]]
) -> dict[str, Any] | None:
    lines = [
        Series(name, points, (), style, dots=len(points) <= 40)
        for name, points, style in curves
        if points
    ]
    if not lines:
        return None
    accuracy = title == "Reward accuracy"
    references = [Reference(0.5, "a coin")] if accuracy else []
    write = _share if accuracy else _plain
    chart = Chart(title, lines, write, "step", references, height=170, unit=unit)
    return with_keys(chart)


def _write(name: str, value: float) -> str:
    return _share(value) if name == "reward_accuracy" else _plain(value)


def _plain(value: float) -> str:
    return phrases.fixed(value, 2 if abs(value) < 10 else 1)


def _share(value: float) -> str:
    return f"{phrases.fixed(100 * value, 0)} %"
