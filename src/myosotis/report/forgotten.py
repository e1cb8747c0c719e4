"""What the settings of a study lost: benchmark by benchmark, and item by item.

What belongs here: from many records to tables, where nothing is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from myosotis.records.schema import Flip, RetentionRow
from myosotis.records.verdict import VERDICTS
from myosotis.report import details, phrases
from myosotis.report.grouping import ConfigGroup, Study
from myosotis.report.phrases import MISSING
from myosotis.report.seeds import over_seeds
from myosotis.report.selection import Choice

ITEMS_SHOWN = 12


def benchmarks(found: Study, choice: Choice) -> dict[str, Any] | None:
    """A row a setting, a column a benchmark: the change, its interval and the verdict."""
    rows = [row for s in found.measured for run in s.runs for row in run.retention]
    if not rows:
        return None
    columns = list(dict.fromkeys((row.task, row.metric) for row in rows))
    scales = {
        column: phrases.scale(
            column[1], "", *_typical([r for r in rows if (r.task, r.metric) == column])
        )
        for column in columns
    }
    firsts = {c: next(r for r in rows if (r.task, r.metric) == c) for c in columns}
    return {
        "columns": [
            {
                "task": phrases.benchmark(task),
                "metric": phrases.label(metric),
                "unit": scales[task, metric].of,
                "lower": not firsts[task, metric].higher_is_better,
                "base": _base(rows, (task, metric), scales[task, metric]),
                "items": _range([r.n for r in rows if (r.task, r.metric) == (task, metric)]),
                "epsilon": scales[task, metric].size(firsts[task, metric].epsilon),
            }
            for task, metric in columns
        ],
        "rows": [
            {
                "number": s.number,
                "label": s.label,
                "chosen": s is choice.group,
                "cells": [_cell(s, column, scales[column]) for column in columns],
                "flips": _flips(s),
            }
            for s in found.measured
        ],
        "notes": _notes(rows),
        "seeds": any(len(s.runs) > 1 for s in found.measured),
    }


def _range(counts: Sequence[int | None]) -> str:
    """`1000`, or `40 to 100` where runs were asked different numbers of items."""
    known = sorted({n for n in counts if n is not None})
    if not known:
        return MISSING
    ends = dict.fromkeys((phrases.count(known[0]), phrases.count(known[-1])))
    return " to ".join(ends)


def _notes(rows: Sequence[RetentionRow]) -> list[dict[str, str]]:
    """What is said of a task in every run: how it was asked, not what one run's numbers mean."""
    said: dict[str, list[list[str]]] = {}
    for row in rows:
        said.setdefault(row.task, []).append(_SENTENCE.split(row.note) if row.note else [])
    shared = {
        task: [sentence for sentence in first if all(sentence in other for other in others)]
        for task, (first, *others) in said.items()
    }
    return [{"task": task, "note": " ".join(found)} for task, found in shared.items() if found]


_SENTENCE = re.compile(r"(?<=[.)])\s+(?=[A-Z0-9])")


def _typical(rows: Sequence[RetentionRow]) -> tuple[float, float]:
    halves = sorted(r.hi / 2 - r.lo / 2 for r in rows if r.hi is not None and r.lo is not None)
    half = halves[len(halves) // 2] if halves else 0.0
    return -half, half


def _base(rows: Sequence[RetentionRow], column: tuple[str, str], scale: phrases.Scale) -> str:
    """The base's score, where all runs agree on it to what is shown."""
    scores = {scale.value(r.base) for r in rows if (r.task, r.metric) == column}
    return scores.pop() if len(scores) == 1 else "differs between runs"


def _cell(group: ConfigGroup, column: tuple[str, str], scale: phrases.Scale) -> dict[str, str]:
    rows = [row for run in group.runs for row in run.retention if (row.task, row.metric) == column]
    known = over_seeds([(r.delta, r.lo, r.hi) for r in rows if r.delta is not None])
    if known is None:
        return {"change": MISSING, "interval": "", "verdict": "", "kind": "", "p": ""}
    said = [r.verdict for r in rows if r.verdict]
    counted = {v: said.count(v) for v in VERDICTS if v in said}
    agreed = len(counted) == 1
    verdict = (
        next(iter(counted), "") if agreed else ", ".join(f"{n} {v}" for v, n in counted.items())
    )
    ps = [r.p_holm for r in rows if r.p_holm is not None]
    p = ""
    if ps:
        low, high = phrases.p_value(min(ps)), phrases.p_value(max(ps))
        p = low if low == high else f"{low} to {high}"
    return {
        "change": scale.change(known.value),
        "interval": phrases.interval(scale, known.lo, known.hi),
        "verdict": verdict,
        "kind": verdict if agreed else "inconclusive",
        "p": p,
    }


def _flips(group: ConfigGroup) -> str:
    """Answers that went from right to wrong and back, a run."""
    rows = [row for run in group.runs for row in run.retention]
    lost = [r.right_to_wrong for r in rows if r.right_to_wrong is not None]
    won = [r.wrong_to_right for r in rows if r.wrong_to_right is not None]
    if not lost or not won:
        return MISSING
    k = len(group.runs)
    return f"{phrases.count(sum(lost) / k)} / {phrases.count(sum(won) / k)}"


def items(found: Study) -> dict[str, Any] | None:
    """The items that most runs got wrong and the base got right."""
    runs = [(s.number, run) for s in found.measured for run in s.runs]
    lost: dict[tuple[str, str], tuple[Flip, list[int]]] = {}
    for number, run in runs:
        for flip in run.flips:
            lost.setdefault((flip.task, flip.item), (flip, []))[1].append(number)
    if not lost:
        return None
    by_count = sorted(lost.values(), key=lambda e: (-len(e[1]), e[0].item))
    place: dict[tuple[str, int], int] = {}  # of an item among those of its task lost as often

    def turn(entry: tuple[Flip, list[int]]) -> tuple[int, int, str]:
        """The most often lost first; among equals the tasks in turn."""
        key = entry[0].task, len(entry[1])
        place[key] = place.get(key, 0) + 1
        return -len(entry[1]), place[key], entry[0].task

    most = sorted(by_count, key=turn)
    shown = [
        {
            **details.lost_item(flip),
            "runs": f"{len(numbers)} of {len(runs)}",
            "settings": ", ".join(str(n) for n in sorted(set(numbers))),
            "choices": [
                {**choice, "mark": "gold" if i == flip.gold else "", "base": i == flip.base_choice}
                for i, choice in enumerate(details.lost_item(flip)["choices"])
            ],
        }
        for flip, numbers in most[:ITEMS_SHOWN]
    ]
    return {"shown": shown, "distinct": len(lost), "runs": len(runs)}
