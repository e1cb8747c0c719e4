"""The ladder: from no tuning to each method at its best, by the parameters it trains.

What belongs here: which runs are its rungs, and how they are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myosotis.report import phrases
from myosotis.report.figure import Figure
from myosotis.report.grouping import ConfigGroup, Study
from myosotis.report.numbers import Numbers
from myosotis.report.selection import Choice, group_stats
from myosotis.report.svg.forest import Cell, Forest
from myosotis.report.svg.strips import Bar, interval_axis, interval_scale, interval_strip


def ladder(found: Study, choice: Choice, numbers: Numbers) -> dict[str, Any] | None:
    """From the base and the base with examples to each method at its best, by what it trains."""
    best: dict[str, ConfigGroup] = {}
    part = choice.chosen_on
    for group in found.measured:
        gain = group_stats(group, part).gain
        held = best.get(group.method)
        held_gain = group_stats(held, part).gain if held else None
        if group is choice.group or (
            gain is not None
            and held is not choice.group
            and (held_gain is None or gain.value > held_gain.value)
        ):
            best[group.method] = group
    steps = _without_tuning(list(best.values()), numbers)
    rungs = sorted(best.values(), key=lambda s: s.runs[0].update.trainable or 0)
    bars = [step["bar"] for step in steps]
    for group in rungs:
        gain = group_stats(group).gain
        if gain is not None:
            bar = Bar(gain.value, gain.lo, gain.hi, numbers.said(group))
            bars.append(bar)
            steps.append({"setting": group, "bar": bar})
    if len(steps) < 3:
        return None
    axis = interval_axis(bars, 0.12)
    rows = []
    for step in steps:
        group = step.get("setting")
        seen = group_stats(group) if group else None
        bar = step["bar"]
        rows.append(
            {
                "name": group.label if group else step["name"],
                "note": step.get("note", "")
                if group is None
                else f"{phrases.large(group.runs[0].update.trainable)} parameters",
                "gain": numbers.task.change(numbers.sign * (bar.value or 0.0))
                if bar.value
                else "0",
                "interval": numbers.gain_interval(seen.gain) if seen else "",
                "kept": numbers.loss(seen.kept) if seen else "",
                "verdict": seen.verdict if seen else "",
                "chosen": group is not None and group is choice.group,
                "drawn": interval_strip(bar, axis),
            }
        )

    def tick(value: float) -> str:
        return numbers.task.change(numbers.sign * value)

    cells = [
        (row["name"], [Cell(step["bar"], axis, row["gain"], row["interval"], numbers.unit)])
        for row, step in zip(rows, steps, strict=True)
    ]
    figure = Figure.of("ladder", Forest("What each method adds", ["learned"], cells))
    return {
        "rows": rows, "axis": interval_scale(axis, tick), "unit": numbers.unit, "figure": figure,
    }  # fmt: skip


def _without_tuning(groups: Sequence[ConfigGroup], numbers: Numbers) -> list[dict[str, Any]]:
    """The base, and the base with solved examples in its prompt, as gains over the base."""
    steps: list[dict[str, Any]] = [
        {"name": "the base", "note": "no tuning", "bar": Bar(0.0, None, None, "the base: 0")}
    ]
    for run in (run for s in groups for run in s.runs):
        task = run.task
        same = [b for b in run.baselines if task is not None and b.metric == task.metric]
        for baseline in same:
            if task is None or baseline.value is None or task.base is None:
                continue
            gain = numbers.sign * (baseline.value - task.base)
            said = f"{baseline.name}: {numbers.task.change(numbers.sign * gain)}"
            bar = Bar(gain, None, None, said)
            steps.append({"name": baseline.name, "note": baseline.note or "no tuning", "bar": bar})
        if same:
            break
    return steps
