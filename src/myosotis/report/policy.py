"""Policies: what the model's own answers were worth, and how far it went for that.

What belongs here: reading the curves that rounds of sampling leave in a record (names as in
`training/rollout.py`), and saying what they mean. A run that sampled nothing has no such section.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myosotis.records.schema import CurvePoint, RunRecord
from myosotis.report import phrases
from myosotis.report.figure import with_keys
from myosotis.report.preference import CURVES
from myosotis.report.svg.charts import Chart, Series

Points = list[tuple[float, float]]
Curves = dict[str, Points]

NAMES = (
    "reward", "reward_spread", "kl", "kl_coef", "entropy", "length", "truncated", "alike", "ratio",
    "clip_share", "value_loss", "seconds/sampling", "seconds/scoring", "seconds/learning", "words",
)  # fmt: skip
PART = "reward_"
"""Of several rewards each has a curve, `reward_NAME`."""

SHARE = 5
"""Begin and end of training are the means of the first and the last fifth of the steps."""

_ROWS = {
    "reward": "reward",
    "kl": "KL to the start, nats per answer",
    "entropy": "entropy, nats per token",
    "length": "length of the answers, tokens",
    "truncated": "answers cut at the longest length",
    "alike": "groups whose answers are all worth the same: they teach nothing",
    "clip_share": "tokens at which the clipping stops the gradient",
    "value_loss": "loss of the values, half a squared error",
    "ratio": "ratio of probabilities, now to when sampled",
}
_SHARES = ("truncated", "alike", "clip_share")


def is_ours(name: str) -> bool:
    """Whether a curve is shown here."""
    part, _, rest = name.partition("/")
    return (
        part in ("train", "val") and name not in CURVES and (rest in NAMES or rest.startswith(PART))
    )


def of_run(record: RunRecord) -> dict[str, Any] | None:
    """The section of one run; None where nothing was sampled."""
    train, held_out = (_curves(record.curves, part) for part in ("train", "val"))
    if not {"reward", "kl"} <= set(train):
        return None
    parts = sorted(n for n in train if n.startswith(PART) and n != "reward_spread")
    panels = [
        _panel("Reward", "mean over answers", [
            ("sampled while training", train["reward"], "quiet"),
            ("held-out prompts, likeliest answers", held_out.get("reward", []), "s0"),
        ]),
        *(
            _panel(f"Reward: {name.removeprefix(PART)}", "mean over answers", [
                ("sampled while training", train[name], "quiet"),
                ("held-out prompts, likeliest answers", held_out.get(name, []), "s0"),
            ])
            for name in parts
        ),
        _panel("KL to the start", "nats per answer", [("KL", train["kl"], "main")]),
        _panel("Reward against KL", "reward over nats per answer", [
            ("sampled while training", against(train["kl"], train["reward"]), "quiet"),
            ("held-out prompts, likeliest answers",
             against(train["kl"], held_out.get("reward", [])), "s0"),
            *(
                (f"held-out prompts: {name.removeprefix(PART)}",
                 against(train["kl"], held_out.get(name, [])), f"s{1 + i % 5}")
                for i, name in enumerate(parts)
            ),
        ], x_name="KL"),
        _panel("Length", "tokens per answer", [("length", train.get("length", []), "main")]),
        _panel("Entropy", "nats per token", [("entropy", train.get("entropy", []), "main")]),
    ]  # fmt: skip
    return {
        "panels": [panel for panel in panels if panel],
        "rows": [
            {"name": said, "cells": [_write(name, end) for end in _ends(train[name])]}
            for name, said in _ROWS.items()
            if name in train
        ],
        "said": said(train, held_out),
    }


def said(train: Curves, held_out: Curves) -> list[str]:
    """What the curves mean, a sentence each."""
    found = []
    first, last = _ends(train["reward"])
    grew = "rose" if last > first else "fell" if last < first else "stayed"
    to = f" from {_plain(first)} to {_plain(last)}" if last != first else f" at {_plain(last)}"
    found.append(
        f"The reward of sampled answers {grew}{to}, and the policy ended "
        f"{_plain(_ends(train['kl'])[1])} nats per answer away from where it began."
    )
    seconds = {n: sum(y for _, y in train.get(f"seconds/{n}", [])) for n in _TIMES}
    if (whole := sum(seconds.values())) > 0:
        shares = ", ".join(f"{phrases.fixed(100 * v / whole, 0)} % {n}" for n, v in seconds.items())
        found.append(f"Time went to: {shares}.")
    if (cut := _ends(train.get("truncated", []))[1]) > 0.5:
        found.append(
            f"{_share(cut)} of the last answers were cut at the longest length: what they would "
            "have become was not rewarded. A larger objective.max_new_tokens helps."
        )
    if (alike := _ends(train.get("alike", []))[1]) > 0.5:
        found.append(
            f"In {_share(alike)} of the last groups all answers were worth the same, which teaches "
            "nothing: harder or easier prompts, a finer reward or a larger objective.group_size "
            "would help."
        )
    words = held_out.get("words", [])
    if len(words) > 1 and words[0][1] > 0 and not 0.5 <= words[-1][1] / words[0][1] <= 2:
        longer = "longer" if words[-1][1] > words[0][1] else "shorter"
        found.append(
            f"Held-out answers became much {longer} ({_plain(words[0][1])} to "
            f"{_plain(words[-1][1])} words): part of what was learned is length."
        )
    return found


_TIMES = ("sampling", "scoring", "learning")


def against(kl: Points, other: Points) -> Points:
    """A curve over the KL at its steps instead of the steps (Gao et al. 2023); what was measured
    before the first step is at the first KL."""
    if not kl:
        return []
    steps = dict(kl)
    at = [(steps.get(x, next((y for s, y in kl if s > x), kl[-1][1])), y) for x, y in other]
    return sorted(at)


def _curves(points: Sequence[CurvePoint], part: str) -> Curves:
    found: Curves = {}
    for point in points:
        here, _, name = point.name.partition("/")
        known = point.value is not None and abs(point.value) < 1e300
        if here == part and is_ours(point.name) and known:
            found.setdefault(name, []).append((float(point.step), point.value or 0.0))
    return {name: sorted(values) for name, values in found.items()}


def _ends(points: Points) -> tuple[float, float]:
    """The means of the first and the last fifth; zeros where there is nothing."""
    if not points:
        return 0.0, 0.0
    few = max(1, len(points) // SHARE)
    return sum(y for _, y in points[:few]) / few, sum(y for _, y in points[-few:]) / few


def _panel(
    title: str, unit: str, curves: Sequence[tuple[str, Points, str]], x_name: str = "step"
) -> dict[str, Any] | None:
    lines = [
        Series(name, points, (), style, dots=len(points) <= 40)
        for name, points, style in curves
        if points
    ]
    if not lines:
        return None
    chart = Chart(title, lines, _plain, x_name, height=170, unit=unit)
    return with_keys(chart)


def _write(name: str, value: float) -> str:
    return _share(value) if name in _SHARES else _plain(value)


def _plain(value: float) -> str:
    return phrases.fixed(value, 2 if abs(value) < 10 else 1)


def _share(value: float) -> str:
    return f"{phrases.fixed(100 * value, 0)} %"
