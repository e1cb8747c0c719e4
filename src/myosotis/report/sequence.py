"""One training after another, told: the matrix of tasks and stages, and what it comes to.

What belongs here: from the stages' records to sentences, a table and curves, for the page and the
screen. The figures are made in `retention/statistics/sequences.py` and stand in the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from myosotis.records.schema import RunRecord, Stage, StageScore, Transfer
from myosotis.report import phrases
from myosotis.report.figure import with_keys
from myosotis.report.phrases import MISSING, Scale
from myosotis.report.svg.charts import Chart, Reference, Series
from myosotis.utils.console import results
from myosotis.utils.escape import line, terminal


def stages_of(records: Sequence[RunRecord]) -> list[Stage]:
    """The stages of one sequence in their order; none where the records are anything else."""
    stages = [record.stage for record in records if record.stage is not None]
    stages.sort(key=lambda stage: stage.number)
    whole = len(stages) == len(records) and [s.number for s in stages] == [
        *range(1, len(stages) + 1)
    ]
    alike = {(s.sequence, tuple(s.names), s.metric) for s in stages}
    if not whole or len(alike) != 1 or any(len(s.scores) != len(s.names) for s in stages):
        return []
    return stages


def of_records(records: Sequence[RunRecord]) -> dict[str, Any] | None:
    """The section of the page; None where the records are no sequence."""
    stages = stages_of(records)
    if not stages:
        return None
    scale = scale_of(stages)
    return {
        "headline": headline(stages, scale),
        "said": said(stages, scale),
        "unit": f"{phrases.label(stages[0].metric)}, {stages[0].unit}",
        "tasks": stages[0].names,
        "rows": rows(stages, scale),
        "panels": panels(stages, scale),
    }


def scale_of(stages: Sequence[Stage]) -> Scale:
    """How every score and every change is written."""
    ends = [end for stage in stages for s in stage.scores for end in (s.gained_lo, s.gained_hi)]
    halves = sorted(
        s.gained_hi / 2 - s.gained_lo / 2
        for stage in stages
        for s in stage.scores
        if s.gained_hi is not None and s.gained_lo is not None
    )
    half = halves[len(halves) // 2] if halves else 0.0
    return phrases.scale(stages[0].metric, stages[0].unit, *((-half, half) if half else ends))


def headline(stages: Sequence[Stage], scale: Scale) -> str:
    """What the earlier tasks lost, in one sentence."""
    last = stages[-1]
    done = f"After {len(stages)} of {len(last.names)} stages"
    found = last.backward
    if found is None or found.value is None or found.lo is None or found.hi is None:
        return f"{done}: no earlier task yet."
    size = scale.amount(found.value)
    if found.hi < 0:
        return f"{done}, earlier tasks are {size} worse than after their own."
    if found.lo > 0:
        return f"{done}, earlier tasks are {size} better than after their own."
    return f"{done}, no change of earlier tasks is shown."


def said(stages: Sequence[Stage], scale: Scale) -> list[str]:
    """The three figures with their intervals, one sentence each."""
    last = stages[-1]
    told = (
        ("Backward transfer (how earlier tasks changed since their own stages)", last.backward),
        ("Forward transfer (what tasks had gained before their own stage)", last.forward),
        ("Forgetting (how far earlier tasks are below their best)", last.forgetting),
    )
    return [f"{name}: {_figure(found, scale)}." for name, found in told if found is not None]


def _figure(found: Transfer, scale: Scale) -> str:
    around = phrases.interval(scale, found.lo, found.hi)
    return f"{scale.change(found.value)} {scale.of} (95 % interval {around})"


def rows(stages: Sequence[Stage], scale: Scale) -> list[dict[str, Any]]:
    """The base, then a row per stage, a cell per task: R[i, j]."""
    base = [
        {"text": scale.value(s.base), "small": "", "level": "", "own": False}
        for s in stages[0].scores
    ]
    found = [{"name": "base", "cells": base}]
    for stage in stages:
        cells = [_cell(s, j + 1, stage.number, scale) for j, s in enumerate(stage.scores)]
        found.append({"name": f"{stage.number}. {stage.name}", "cells": cells})
    return found


def _cell(score: StageScore, own: int, number: int, scale: Scale) -> dict[str, Any]:
    """A score with its change: since the task's own stage where that is past, else since the base;
    coloured where the interval says that it is no chance."""
    earlier = own < number
    change = (
        (score.kept, score.kept_lo, score.kept_hi)
        if earlier
        else (score.gained, score.gained_lo, score.gained_hi)
    )
    since = "since its stage" if earlier else "since the base"
    moved, lo, hi = change
    level = ""
    if lo is not None and hi is not None:
        level = "good" if lo > 0 else "bad" if hi < 0 else ""
    return {
        "text": scale.value(score.score),
        "small": f"{scale.change(moved)} {since} ({phrases.interval(scale, lo, hi)})",
        "level": level,
        "own": own == number,
    }


def panels(stages: Sequence[Stage], scale: Scale) -> list[dict[str, Any]]:
    """A curve per task over the stages: its change since the base."""
    lines = []
    for j, name in enumerate(stages[0].names):
        scores = [(float(s.number), s.scores[j]) for s in stages]
        points = [(at, s.gained) for at, s in scores if s.gained is not None]
        bands = [
            (at, s.gained_lo, s.gained_hi)
            for at, s in scores
            if s.gained_lo is not None and s.gained_hi is not None
        ]
        line = Series(name, [(0.0, 0.0), *points], bands, f"s{j % 6}", dots=True, whiskers=True)
        lines.append(line)
    chart = Chart(
        "Every task over the stages",
        lines,
        scale.change,
        "stage",
        [Reference(0.0, "base")],
        [float(i) for i in range(len(stages) + 1)],
        height=220,
        unit=f"change since the base, {scale.of}; up is better",
    )
    return [with_keys(chart)]


def show(records: Sequence[RunRecord], page: Path) -> None:
    """The matrix and the figures on the screen."""
    stages = stages_of(records)
    if not stages:
        return
    scale = scale_of(stages)
    table = Table(title=f"{phrases.label(stages[0].metric)}, {stages[0].unit}", box=SIMPLE_HEAD)
    table.title_justify = "left"
    table.add_column("after stage", overflow="fold")
    for name in stages[0].names:
        table.add_column(Text(line(name)), overflow="fold")
    for row in rows(stages, scale):
        cells = [Text(f"{c['text']}\n{c['small']}".strip() or MISSING) for c in row["cells"]]
        table.add_row(Text(line(row["name"])), *cells)
    results.print(table)
    for sentence in (headline(stages, scale), *said(stages, scale)):
        results.print(Text(sentence))
    results.print(f"scorecard: {terminal(page)}", highlight=False, soft_wrap=True)
