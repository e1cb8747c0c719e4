"""A study for scripts and spreadsheets: one JSON document, or one CSV line a run.

What belongs here: numbers as they are, in their own units and unrounded; what is missing is null or
empty.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from myosotis.records.codec import plain
from myosotis.records.schema import RetentionRow, RunRecord
from myosotis.report import decision, narrator, trials
from myosotis.report.grouping import Study, seed_of, study
from myosotis.report.numbers import Numbers
from myosotis.report.seeds import Estimate
from myosotis.report.selection import choose, front, group_stats
from myosotis.utils.escape import csv_cell


def render_json(records: Sequence[RunRecord]) -> str:
    """What the page says, the settings behind it, and the records themselves.

    `settings`, `choice` and `missing` are of several runs; one run has its headline and its record.
    Gains are turned so that better is positive.
    """
    runs = [
        {"headline": narrator.headline(r), "said": narrator.ledes(r), "record": r} for r in records
    ]
    if len(records) == 1:
        document = {"headline": runs[0]["headline"], "said": runs[0]["said"], "runs": runs}
    else:
        document = {**_study(records), "runs": runs}
    return json.dumps(plain(document), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def _study(records: Sequence[RunRecord]) -> dict[str, Any]:
    found = study(records)
    choice, marks = choose(found), front(found)
    seen = {s.number: group_stats(s) for s in found.groups}
    return {
        "headline": decision.headline(found, choice),
        "said": decision.ledes(found, choice, Numbers.of(found)),
        "choice": choice.group
        and {
            "setting": choice.group.number,
            "run_id": choice.run.run_id if choice.run else None,
            "basis": choice.how,
            "chosen_on": choice.chosen_on,
            "claimed_on": choice.claimed_on,
            "verdict": group_stats(choice.group, choice.claimed_on).verdict,
            "not_separable": [s.number for s in choice.rivals],
        },
        "settings": [
            {
                "number": s.number,
                "label": s.label,
                "values": s.values,
                "seeds": len(s.runs),
                "gain": _interval(seen[s.number].gain),
                "kept": _interval(seen[s.number].kept),
                "epsilon": seen[s.number].epsilon,
                "verdict": seen[s.number].verdict,
                "front": marks.get(s.number),
                "run_ids": [run.run_id for run in s.runs],
                "without_result": [run.run_id for run in s.others],
            }
            for s in found.groups
        ],
        "missing": trials.missing(found),
    }


def _interval(found: Estimate | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "lo": found.lo, "hi": found.hi}


def render_csv(records: Sequence[RunRecord], found: Study | None = None) -> str:
    """One line a run, with the keys of the configuration that tell the settings apart; `found` is
    the records as a study, where that is known."""
    found = found or study(records)
    keys = list(dict.fromkeys(key for s in found.groups for key in s.values))
    tasks = list(dict.fromkeys(row.task for record in records for row in record.retention))
    costs = sorted({key for record in records for key in record.cost})
    lines = []
    for group in found.groups:
        for run in group.all:
            values = {key: group.values.get(key) for key in keys}
            line = {"number": group.number, "setting": group.label, **_run(run), **values}
            rows = {row.task: row for row in run.retention}
            for task in tasks:
                line |= _benchmark(task, rows.get(task))
            line |= {f"cost/{key}": run.cost.get(key) for key in costs}
            lines.append({key: _cell(value) for key, value in line.items()})
    out = io.StringIO()
    names = [_cell(name) for name in lines[0]]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(list(line.values()) for line in lines)
    return out.getvalue()


def _run(run: RunRecord) -> dict[str, Any]:
    task, suite = run.task, run.suite_verdict
    return {
        "run_id": run.run_id,
        "run_name": run.run_name,
        "status": run.status,
        "error": run.error,
        "started": run.started,
        "seed": seed_of(run),
        "model": run.model.id,
        "data": run.data.name,
        "update": run.update.name,
        "trainable": run.update.trainable,
        "task": task and task.metric,
        "task_n": task and task.n,
        "task_base": task and task.base,
        "task_tuned": task and task.tuned,
        "task_delta": task and task.delta,
        "task_lo": task and task.lo,
        "task_hi": task and task.hi,
        "kept_delta": suite and suite.delta,
        "kept_lo": suite and suite.lo,
        "kept_hi": suite and suite.hi,
        "budget": suite and suite.epsilon,
        "verdict": suite and suite.verdict,
    }


def _benchmark(task: str, row: RetentionRow | None) -> dict[str, Any]:
    return {
        f"retention/{task}/{name}": row and getattr(row, name)
        for name in ("base", "tuned", "delta", "lo", "hi", "verdict", "p_holm")
    }


def _cell(value: Any) -> Any:
    """A value as CSV holds it. Text that a spreadsheet would run as a formula is quoted by a '."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return "" if value is None else value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return csv_cell(text)
