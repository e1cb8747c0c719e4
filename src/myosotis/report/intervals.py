"""The scorecard's rows with intervals: what was learned, and the forest of the benchmarks.

What belongs here: task quality and retention as rows, each with its drawing, in gain units (right
is better).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from myosotis.records.schema import RetentionRow, RunRecord, SuiteVerdict, TaskQuality
from myosotis.records.verdict import VERDICTS
from myosotis.report import phrases
from myosotis.report.narrator import EXPLAINED, name_of
from myosotis.report.phrases import Scale
from myosotis.report.svg.charts import Bar, interval_axis, interval_scale, interval_strip


def task_rows(record: RunRecord) -> dict[str, Any] | None:
    """Task quality: a row a metric, each on its own scale, with its own drawing."""
    if record.task is None:
        return None
    rows = [_task_row(task) for task in (record.task, *record.task.extra)]
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
    return {"rows": rows, "baselines": baselines}


def _task_row(task: TaskQuality) -> dict[str, Any]:
    s = phrases.task_scale(task)
    around = phrases.interval(s, task.lo, task.hi)
    said = f"{phrases.label(task.metric)}: {s.change(task.delta)} ({around})"
    bar = _bar(task.delta, task.lo, task.hi, task.higher_is_better, said, phrases.outcome(task))
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
) -> Bar:
    """A bar in gain units: what is better lies to the right."""
    mark = mark if mark in _MARKS else ""  # it becomes a class
    ends = (lo, hi) if higher_is_better else (hi, lo)
    low, high = (phrases.gain(end, higher_is_better) for end in ends)
    return Bar(phrases.gain(value, higher_is_better), low, high, said, mark, epsilon)


def forest(record: RunRecord) -> list[dict[str, Any]]:
    """The benchmarks in groups that share a unit: accuracy-like with their mean, then others."""
    groups: dict[str, list[RetentionRow]] = {}
    for row in record.retention:
        groups.setdefault("" if phrases.is_share(row.metric) else row.metric, []).append(row)
    ordered = sorted(groups.items(), key=lambda entry: entry[0] != "")
    return [_group(metric, rows, record.suite_verdict) for metric, rows in ordered]


def _group(metric: str, rows: Sequence[RetentionRow], suite: SuiteVerdict | None) -> dict[str, Any]:
    better = rows[0].higher_is_better
    bars = [
        _bar(r.delta, r.lo, r.hi, r.higher_is_better, _row_said(r), r.verdict, r.epsilon)
        for r in rows
    ]
    mean = None
    if metric == "" and len(rows) > 1 and suite is not None and suite.delta is not None:
        s = phrases.suite_scale(suite)
        said = f"mean of {len(suite.tasks)}: {s.change(suite.delta)} points"
        bar = _bar(suite.delta, suite.lo, suite.hi, True, said, suite.verdict, suite.epsilon)
        mean = replace(bar, diamond=True)
    axis = interval_axis([*bars, *([mean] if mean else [])])
    shared = phrases.scale(rows[0].metric, "", *(e for r in rows for e in (r.lo, r.hi)))

    def tick(value: float) -> str:
        return shared.change(value if better else -value)

    view = [_row(row, interval_strip(bar, axis)) for row, bar in zip(rows, bars, strict=True)]
    return {
        "unit": "percentage points of accuracy" if metric == "" else phrases.label(metric),
        "lower": not better,
        "rows": view,
        "mean": _mean(suite, interval_strip(mean, axis)) if mean and suite else None,
        "axis": interval_scale(axis, tick),
    }


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
        "explained": EXPLAINED.get(row.verdict, ""),
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


_TEXTS = {"task": "answers of the task", "general": name_of("prose")}


def _start_said(suite: SuiteVerdict) -> str:
    """The damage of attaching the update, before any step."""
    s = phrases.suite_scale(suite)
    return (
        f"This update does not begin as the base: before the first step the mean of the benchmarks "
        f"had changed by {s.change(suite.delta)} {s.of} "
        f"({phrases.interval(s, suite.lo, suite.hi)}). "
        "That is part of the change above, and no training did it."
    )


def _mean(suite: SuiteVerdict, drawn: Markup) -> dict[str, Any]:
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
        "verdict": suite.verdict,
        "explained": EXPLAINED.get(suite.verdict, ""),
        "needed": phrases.items_needed(suite.needed_items, suite.needed_items_most),
        "budget": f"{suite.budget * 100:g} %" if suite.budget is not None else "",
        "note": suite.note,
        "drawn": drawn,
    }
