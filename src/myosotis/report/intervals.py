"""The scorecard's rows with intervals: what was learned, and the forest of the benchmarks.

What belongs here: task quality and retention as rows, each with its drawing, in gain units (right
is better).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from myosotis.records.schema import RetentionRow, RunRecord, SuiteVerdict, TaskQuality
from myosotis.records.verdict import VERDICTS
from myosotis.report import narrator, phrases
from myosotis.report.figure import Figure
from myosotis.report.phrases import Scale
from myosotis.report.run_verdict import mean_verdict
from myosotis.report.svg.forest import Cell, Forest
from myosotis.report.svg.strips import Bar, interval_axis, interval_scale, interval_strip


def task_rows(record: RunRecord) -> dict[str, Any] | None:
    """Task quality: a row a metric, each on its own scale, with its own drawing."""
    if record.task is None:
        return None
    every = (record.task, *record.task.extra, *record.task.sources.values())
    rows = [_task_row(task) for task in every]
    for row, source in zip(reversed(rows), reversed(record.task.sources), strict=False):
        row["name"] = f"{row['name']}, {source}"
    cells = [
        (row["name"], [_cell(task_bar(task), row)]) for task, row in zip(every, rows, strict=True)
    ]
    figure = Figure.of("task", Forest("What it learned", ["change"], cells))
    baselines = []
    for entry in record.baselines:
        same = entry.metric == record.task.metric
        s = (
            phrases.task_scale(record.task)
            if same
            else phrases.scale(entry.metric, "", entry.lo, entry.hi)
        )
        baselines.append(
            {
                "name": entry.name,
                "metric": phrases.label(entry.metric),
                "value": s.value(entry.value),
                "change": s.change(entry.delta),
                "interval": phrases.interval(s, entry.lo, entry.hi),
                "n": phrases.count(entry.n),
                "note": entry.note,
            }
        )
    return {"rows": rows, "baselines": baselines, "figure": figure}


def task_bar(task: TaskQuality) -> Bar:
    """The change of a task metric."""
    s = phrases.task_scale(task)
    around = phrases.interval(s, task.lo, task.hi)
    said = f"{phrases.label(task.metric)}: {s.change(task.delta)} ({around})"
    return _bar(task.delta, task.lo, task.hi, task.higher_is_better, said, phrases.outcome(task))


def _cell(bar: Bar, row: dict[str, Any]) -> Cell:
    """A row of a figure that stands for itself: on an axis of its own."""
    return Cell(bar, interval_axis([bar], 0.25), row["change"], row["interval"], row["of"])


def _task_row(task: TaskQuality) -> dict[str, Any]:
    s, bar = phrases.task_scale(task), task_bar(task)
    drawn = None if task.delta is None else interval_strip(bar, interval_axis([bar], 0.25))
    return {
        "name": phrases.label(task.metric),
        "unit": "" if s.percent else task.unit,
        "lower": not task.higher_is_better,
        "base": s.value(task.base),
        "tuned": s.value(task.tuned),
        "change": s.change(task.delta),
        "of": "points" if s.percent else "",
        "interval": phrases.interval(s, task.lo, task.hi),
        "outcome": phrases.outcome(task),
        "n": phrases.count(task.n),
        "note": task.note,
        "drawn": drawn,
    }


_MARKS = {*VERDICTS, "better", "worse", "same"}


def _bar(
    value: float | None,
    lo: float | None,
    hi: float | None,
    higher_is_better: bool,
    said: str,
    mark: str,
    epsilon: float | None = None,
    wide: tuple[float | None, float | None] = (None, None),
) -> Bar:
    """A bar in gain units: what is better lies to the right."""
    mark = mark if mark in _MARKS else ""  # it becomes a class
    low, high = _turned(lo, hi, higher_is_better)
    wide_lo, wide_hi = _turned(*wide, higher_is_better)
    adjusted = None
    if wide_lo is not None and wide_hi is not None and (wide_lo, wide_hi) != (low, high):
        adjusted = (wide_lo, wide_hi)
    return Bar(phrases.gain(value, higher_is_better), low, high, said, mark, epsilon, adjusted)


def _turned(
    lo: float | None, hi: float | None, higher_is_better: bool
) -> tuple[float | None, float | None]:
    """Both ends as gains, the lower first."""
    ends = (lo, hi) if higher_is_better else (hi, lo)
    return phrases.gain(ends[0], higher_is_better), phrases.gain(ends[1], higher_is_better)


def row_bar(row: RetentionRow) -> Bar:
    """The change of a benchmark, with the interval that its verdict was read from."""
    wide = (row.adjusted_lo, row.adjusted_hi)
    ends = (row.delta, row.lo, row.hi)
    return _bar(*ends, row.higher_is_better, _row_said(row), row.verdict, row.epsilon, wide)


def mean_bar(record: RunRecord) -> Bar | None:
    """The change of the mean, with its own verdict."""
    suite = record.suite_verdict
    if suite is None or suite.delta is None:
        return None
    s = phrases.suite_scale(suite)
    around = phrases.interval(s, suite.lo, suite.hi)
    said = f"mean of {len(suite.tasks)}: {s.change(suite.delta)} points ({around})"
    ends = (suite.delta, suite.lo, suite.hi)
    return _bar(*ends, True, said, mean_verdict(record), suite.epsilon)


def forest(record: RunRecord) -> list[dict[str, Any]]:
    """The benchmarks in groups that share a unit: accuracy-like with their mean, then others."""
    groups: dict[str, list[RetentionRow]] = {}
    for row in record.retention:
        groups.setdefault("" if phrases.is_share(row.metric) else row.metric, []).append(row)
    ordered = sorted(groups.items(), key=lambda entry: entry[0] != "")
    return [_group(metric, rows, record) for metric, rows in ordered]


def _group(metric: str, rows: Sequence[RetentionRow], record: RunRecord) -> dict[str, Any]:
    better, bars = rows[0].higher_is_better, [row_bar(row) for row in rows]
    mean = mean_bar(record) if metric == "" and len(rows) > 1 else None
    axis = interval_axis([*bars, *([mean] if mean else [])])
    shared = phrases.scale(rows[0].metric, "", *(e for r in rows for e in (r.lo, r.hi)))

    def tick(value: float) -> str:
        return shared.change(value if better else -value)

    view = [_row(row, interval_strip(bar, axis)) for row, bar in zip(rows, bars, strict=True)]
    total = _mean(record, interval_strip(mean, axis)) if mean else None
    named = [(row["task"], bar, row) for row, bar in zip(view, bars, strict=True)]
    named += [("mean", mean, total)] if mean and total else []
    cells = [
        (name, [Cell(bar, axis, said["change"], said["interval"], said["of"])])
        for name, bar, said in named
    ]
    unit = "percentage points of accuracy" if metric == "" else phrases.label(metric)
    return {
        "unit": unit,
        "lower": not better,
        "rows": view,
        "mean": total,
        "adjusted": any(bar.wide for bar in bars),
        "axis": interval_scale(axis, tick),
        "figure": Figure.of(f"benchmarks-{metric}", Forest("What it kept", [unit], cells)),
    }


def run_row(record: RunRecord) -> dict[str, str] | None:
    """The run's own row: its verdict, and why it is not simply the mean's."""
    suite = record.suite_verdict
    if suite is None or suite.verdict not in VERDICTS:
        return None
    return {"verdict": suite.verdict, "reason": narrator.reason(record)}


def _row_said(row: RetentionRow) -> str:
    s, name = phrases.row_scale(row), phrases.benchmark(row.task)
    return f"{name}: {s.change(row.delta)} ({phrases.interval(s, row.lo, row.hi)})"


def _row(row: RetentionRow, drawn: Markup) -> dict[str, Any]:
    s = phrases.row_scale(row)
    p = phrases.scale("p_gold", "", row.p_gold_lo, row.p_gold_hi)
    return {
        "task": phrases.benchmark(row.task),
        "metric": phrases.label(row.metric),
        "n": phrases.count(row.n),
        "items_of": phrases.count(row.items_of),
        "partial": bool(row.items_of and row.n and row.items_of > row.n),
        "base": s.value(row.base),
        "tuned": s.value(row.tuned),
        "chance": s.value(row.chance),
        "change": s.change(row.delta),
        "of": s.of,
        "interval": phrases.interval(s, row.lo, row.hi),
        "epsilon": s.size(row.epsilon),
        "mde": s.size(row.mde),
        "verdict": row.verdict,
        "needed": phrases.items_needed(row.needed_items, row.needed_items_most),
        "above_chance": phrases.percent(row.epsilon_above_chance),
        "ece": f"{phrases.percent(row.ece_base)} → {phrases.percent(row.ece_tuned)}",
        "ece_known": row.ece_base is not None and row.ece_tuned is not None,
        "p_mcnemar": phrases.p_value(row.p_mcnemar),
        "p_holm": phrases.p_value(row.p_holm),
        "p_gold": f"{p.value(row.p_gold_base)} → {p.value(row.p_gold_tuned)}",
        "p_gold_known": row.p_gold_delta is not None,
        "p_gold_change": p.change(row.p_gold_delta),
        "p_gold_interval": phrases.interval(p, row.p_gold_lo, row.p_gold_hi),
        "right_to_wrong": phrases.count(row.right_to_wrong),
        "wrong_to_right": phrases.count(row.wrong_to_right),
        "note": row.note,
        "drawn": drawn,
    }


def shift(record: RunRecord) -> dict[str, Any] | None:
    """KL(base || tuned) on each kind of text; beside it what was there before the first step."""
    if not record.shift:
        return None
    start = record.at_start
    before = {entry.text: entry for entry in start.shift} if start else {}
    rows = [
        {
            "text": _TEXTS.get(entry.text, entry.text),
            "kl": phrases.general(entry.kl),
            "interval": f"{phrases.general(entry.lo)} to {phrases.general(entry.hi)}",
            "before": phrases.general(before[entry.text].kl) if entry.text in before else "",
            "tokens": phrases.count(entry.tokens),
            "n": phrases.count(entry.n),
        }
        for entry in record.shift
    ]
    suite = start.suite if start else None
    return {"rows": rows, "before": bool(before), "said": _start_said(suite) if suite else ""}


_TEXTS = {"task": "answers of the task", "general": phrases.task_said("prose")}


def _start_said(suite: SuiteVerdict) -> str:
    """The damage of attaching the update, before any step."""
    s = phrases.suite_scale(suite)
    return (
        f"This update does not begin as the base: before the first step the mean of the benchmarks "
        f"had changed by {s.change(suite.delta)} {s.of} "
        f"({phrases.interval(s, suite.lo, suite.hi)}). "
        "That is part of the change above, and no training did it."
    )


def _mean(record: RunRecord, drawn: Markup) -> dict[str, Any]:
    suite = record.suite_verdict
    assert suite is not None
    s: Scale = phrases.suite_scale(suite)
    return {
        "tasks": suite.tasks,
        "base": s.value(suite.base),
        "tuned": s.value(suite.tuned),
        "change": s.change(suite.delta),
        "of": s.of,
        "interval": phrases.interval(s, suite.lo, suite.hi),
        "epsilon": s.amount(suite.epsilon),
        "mde": s.amount(suite.mde),
        "verdict": mean_verdict(record),
        "needed": phrases.items_needed(suite.needed_items, suite.needed_items_most),
        "note": suite.note,
        "drawn": drawn,
    }
