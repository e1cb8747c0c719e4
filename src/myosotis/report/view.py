"""What the scorecard shows of one run record: every section as plain data for the template.

What belongs here: choosing, ordering and grouping. How a number is written is in `words.py`,
how it is drawn in `plots.py`, how it is laid out in the template.
"""

from __future__ import annotations

import json
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from myosotis.record import Flip, RetentionRow, RunRecord, SuiteVerdict, TaskQuality
from myosotis.report import panels, words
from myosotis.report.plots import Bar, interval_axis, interval_scale, interval_strip
from myosotis.report.words import MISSING, Scale

FLIPS_SHOWN = 8
TEXT_CHARACTERS = 4000


def run_view(record: RunRecord) -> dict[str, Any]:
    """Everything the template needs for one run."""
    return {
        "record": record,
        "name": record.run_name or record.run_id[:12] or "unnamed run",
        "headline": words.headline(record),
        "ledes": words.ledes(record),
        "badge": badge(record),
        "facts": _facts(record),
        "tiles": _tiles(record),
        "plane": panels.plane_of_run(record),
        "task": task_rows(record),
        "forest": forest(record),
        "curves": panels.curves(record),
        "more_curves": panels.more_curves(record),
        "dial": panels.dial(record),
        "dial_said": words.dial_said(record),
        "flips": _flips(record),
        "samples": [
            {
                "prompt": text(sample.prompt, keep_end=True),
                "reference": text(sample.reference),
                "base": text(sample.base),
                "tuned": text(sample.tuned),
            }
            for sample in record.samples
        ],
        "cost": _cost(record),
        "identity": _identity(record),
        "config": flat(record.config),
        "command": shlex.join(record.command),
    }


def text(value: str, *, keep_end: bool = False) -> str:
    """Model and data text made safe to look at: controls visible, the very long cut."""
    shown = "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else _visible(c) for c in value)
    if len(shown) <= TEXT_CHARACTERS:
        return shown
    left = f"{len(shown) - TEXT_CHARACTERS:,}".replace(",", " ")
    if keep_end:
        return f"[… {left} characters before]\n{shown[-TEXT_CHARACTERS:]}"
    return f"{shown[:TEXT_CHARACTERS]}\n[… {left} more characters]"


def _visible(control: str) -> str:
    return chr(0x2400 + ord(control)) if ord(control) < 0x20 else "�"


def badge(record: RunRecord) -> dict[str, str]:
    """The run in two words, with the class that colours them."""
    if record.status == "FAILED":
        return {"words": "failed", "kind": "forgotten"}
    if record.status in ("KILLED", "RUNNING"):
        said = "stopped early" if record.status == "KILLED" else "not finished"
        return {"words": said, "kind": "slipped"}
    inside = words.within(record.suite_verdict)
    if inside is None:
        known = record.suite_verdict is not None
        return {"words": "not settled" if known else "no verdict", "kind": "inconclusive"}
    if inside:
        return {"words": "within budget", "kind": "retained"}
    return {"words": "over budget", "kind": "forgotten"}


def _facts(record: RunRecord) -> list[str]:
    """The line under the title: what was tuned, how, on what, when."""
    settings = record.update.settings
    rank = f" r={settings['r']}" if isinstance(settings.get("r"), int) else ""
    counts = record.data.counts.get("train")
    examples = f" ({words.count(counts)} examples)" if counts is not None else ""
    return [
        fact
        for fact in (
            record.model.id,
            f"{record.update.name}{rank}" if record.update.name else "",
            f"{record.data.name}{examples}" if record.data.name else "",
            record.started[:10],
        )
        if fact
    ]


def _tiles(record: RunRecord) -> list[dict[str, str]]:
    """The three numbers a reader takes away."""
    task, suite = record.task, record.suite_verdict
    tiles = []
    if task is not None and task.delta is not None:
        s = words.task_scale(task)
        kind = {"better": "retained", "worse": "forgotten"}.get(words.outcome(task), "")
        tiles.append(
            {
                "label": "Learned",
                "value": s.change(task.delta),
                "unit": s.of,
                "note": f"{words.label(task.metric)}, {s.value(task.base)} → {s.value(task.tuned)}",
                "kind": kind,
            }
        )
    else:
        tiles.append({"label": "Learned", "value": MISSING, "note": "not measured"})
    if suite is not None and suite.delta is not None:
        s = words.suite_scale(suite)
        tiles.append(
            {
                "label": "Kept",
                "value": s.change(suite.delta),
                "unit": "points",
                "note": f"mean accuracy; budget −{s.amount(suite.epsilon)}",
                "kind": suite.verdict if suite.verdict in words.EXPLAINED else "",
            }
        )
    else:
        tiles.append({"label": "Kept", "value": MISSING, "note": "not measured"})
    seconds = record.cost.get("total_seconds") or record.cost.get("train_seconds")
    trainable = words.large(record.update.trainable)
    tiles.append(
        {
            "label": "Cost",
            "value": words.duration(seconds),
            "note": f"{trainable} trainable parameters" if record.update.trainable else "",
        }
    )
    return tiles


def task_rows(record: RunRecord) -> dict[str, Any] | None:
    """Task quality: a row a metric, each on its own scale, with its own drawing."""
    if record.task is None:
        return None
    rows = [_task_row(task) for task in (record.task, *record.task.extra)]
    baselines = []
    for entry in record.baselines:
        same = entry.metric == record.task.metric
        s = words.task_scale(record.task) if same else words.scale(entry.metric)
        around = ""
        if entry.lo is not None and entry.hi is not None:
            around = f"{s.value(entry.lo)} to {s.value(entry.hi)}"
        baselines.append(
            {
                "name": entry.name,
                "metric": words.label(entry.metric),
                "value": s.value(entry.value),
                "interval": around,
                "n": words.count(entry.n),
                "note": entry.note,
            }
        )
    return {"rows": rows, "baselines": baselines}


def _task_row(task: TaskQuality) -> dict[str, Any]:
    s = words.task_scale(task)
    said = f"{words.label(task.metric)}: {s.change(task.delta)} ({words.interval(s, task.lo, task.hi)})"
    bar = _bar(task.delta, task.lo, task.hi, task.higher_is_better, said, words.outcome(task))
    drawn = None if task.delta is None else interval_strip(bar, interval_axis([bar], 0.25))
    return {
        "name": words.label(task.metric),
        "unit": "" if s.percent else task.unit,
        "arrow": "higher is better" if task.higher_is_better else "lower is better",
        "base": s.value(task.base),
        "tuned": s.value(task.tuned),
        "change": s.change(task.delta),
        "of": "points" if s.percent else "",
        "interval": words.interval(s, task.lo, task.hi),
        "outcome": words.outcome(task),
        "n": words.count(task.n),
        "note": task.note,
        "drawn": drawn,
    }


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
    ends = (lo, hi) if higher_is_better else (hi, lo)
    low, high = (words.gain(end, higher_is_better) for end in ends)
    return Bar(words.gain(value, higher_is_better), low, high, said, mark, epsilon)


def forest(record: RunRecord) -> list[dict[str, Any]]:
    """The benchmarks in groups that share a unit: accuracy-like with their mean, then others."""
    groups: dict[str, list[RetentionRow]] = {}
    for row in record.retention:
        groups.setdefault("" if words.is_share(row.metric) else row.metric, []).append(row)
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
        s = words.suite_scale(suite)
        said = f"mean of {len(suite.tasks)}: {s.change(suite.delta)} points"
        mean = Bar(
            suite.delta, suite.lo, suite.hi, said, suite.verdict, suite.epsilon, diamond=True
        )
    axis = interval_axis([*bars, *([mean] if mean else [])])
    shared = words.scale(rows[0].metric, "", *(e for r in rows for e in (r.lo, r.hi)))

    def tick(value: float) -> str:
        return shared.change(value if better else -value)

    view = [_row(row, interval_strip(bar, axis)) for row, bar in zip(rows, bars, strict=True)]
    return {
        "unit": "percentage points of accuracy" if metric == "" else words.label(metric),
        "lower": not better,
        "rows": view,
        "mean": _mean(suite, interval_strip(mean, axis)) if mean and suite else None,
        "axis": interval_scale(axis, tick),
    }


def _row_said(row: RetentionRow) -> str:
    s = words.row_scale(row)
    return f"{row.task}: {s.change(row.delta)} ({words.interval(s, row.lo, row.hi)})"


def _row(row: RetentionRow, drawn: Markup) -> dict[str, Any]:
    s = words.row_scale(row)
    p = words.scale("p_gold", "", row.p_gold_lo, row.p_gold_hi)
    return {
        "task": row.task,
        "metric": words.label(row.metric),
        "n": words.count(row.n),
        "items_of": words.count(row.items_of),
        "partial": bool(row.items_of and row.n and row.items_of > row.n),
        "base": s.value(row.base),
        "tuned": s.value(row.tuned),
        "chance": s.value(row.chance),
        "change": s.change(row.delta),
        "of": s.of,
        "interval": words.interval(s, row.lo, row.hi),
        "epsilon": s.amount(row.epsilon),
        "mde": s.amount(row.mde),
        "verdict": row.verdict,
        "explained": words.EXPLAINED.get(row.verdict, ""),
        "needed": words.count(row.needed_items) if row.needed_items else "",
        "p_mcnemar": words.p_value(row.p_mcnemar),
        "p_holm": words.p_value(row.p_holm),
        "p_gold": f"{p.value(row.p_gold_base)} → {p.value(row.p_gold_tuned)}",
        "p_gold_known": row.p_gold_delta is not None,
        "p_gold_change": p.change(row.p_gold_delta),
        "p_gold_interval": words.interval(p, row.p_gold_lo, row.p_gold_hi),
        "right_to_wrong": words.count(row.right_to_wrong),
        "wrong_to_right": words.count(row.wrong_to_right),
        "note": row.note,
        "drawn": drawn,
    }


def _mean(suite: SuiteVerdict, drawn: Markup) -> dict[str, Any]:
    s: Scale = words.suite_scale(suite)
    return {
        "tasks": suite.tasks,
        "base": s.value(suite.base),
        "tuned": s.value(suite.tuned),
        "change": s.change(suite.delta),
        "of": s.of,
        "interval": words.interval(s, suite.lo, suite.hi),
        "epsilon": s.amount(suite.epsilon),
        "mde": s.amount(suite.mde),
        "verdict": suite.verdict,
        "explained": words.EXPLAINED.get(suite.verdict, ""),
        "needed": words.count(suite.needed_items) if suite.needed_items else "",
        "budget": f"{suite.budget * 100:g} %" if suite.budget is not None else "",
        "note": suite.note,
        "drawn": drawn,
    }


def _flips(record: RunRecord) -> dict[str, Any]:
    """What was right and is wrong now; both directions are counted, since noise goes both ways."""
    lost = [row.right_to_wrong for row in record.retention if row.right_to_wrong is not None]
    won = [row.wrong_to_right for row in record.retention if row.wrong_to_right is not None]
    items = [_flip(flip) for flip in record.flips]
    return {
        "counted": bool(lost),
        "lost": words.count(sum(lost)) if lost else MISSING,
        "won": words.count(sum(won)) if won else MISSING,
        "total": sum(lost) if lost else len(items),
        "first": items[:FLIPS_SHOWN],
        "rest": items[FLIPS_SHOWN:],
    }


def _flip(flip: Flip) -> dict[str, Any]:
    marks = {flip.gold: "gold", flip.tuned_choice: "tuned"}
    choices = [
        {"text": text(choice), "mark": marks.get(i, ""), "base": i == flip.base_choice}
        for i, choice in enumerate(flip.choices)
    ]
    return {
        "task": flip.task,
        "item": flip.item,
        "summary": " ".join(text(flip.prompt)[-400:].split())[-140:],
        "prompt": text(flip.prompt, keep_end=True),
        "choices": choices,
    }


_COSTS = {
    "total_seconds": ("Whole run", words.duration),
    "train_seconds": ("Training", words.duration),
    "retention_seconds": ("Benchmarks while training", words.duration),
    "base_seconds": ("Measuring the base", words.duration),
    "final_seconds": ("Measuring the tuned model", words.duration),
    "tokens_per_second": ("Tokens a second", words.count),
    "examples_per_second": ("Examples a second", words.general),
    "peak_memory_gb": ("Peak memory", lambda gb: f"{words.general(gb)} GB"),
    "rows_at_once": ("Rows at a time", words.count),
}


def _cost(record: RunRecord) -> list[tuple[str, str]]:
    known = {k: v for k, v in record.cost.items() if k != "trainable_params"}
    rows = [
        (name, write(known[key]) if known[key] is not None else MISSING)
        for key, (name, write) in _COSTS.items()
        if key in known
    ]
    others = [(key.replace("_", " "), words.general(known[key])) for key in known if key not in _COSTS]
    trainable, total = record.update.trainable, record.update.total
    if trainable is not None:
        share = f" ({100 * trainable / total:.3g} % of {words.large(total)})" if total else ""
        rows.append(("Trainable parameters", f"{words.count(trainable)}{share}"))
    return rows + others


def _identity(record: RunRecord) -> list[tuple[str, str]]:
    """Model, data and code: what must be equal for two runs to be comparable."""
    counts = ", ".join(f"{words.count(n)} {part}" for part, n in record.data.counts.items())
    git = f"{record.git.commit[:12]}{' with uncommitted changes' if record.git.dirty else ''}"
    rows = [
        ("Run", f"{record.run_id}"),
        ("Status", record.status),
        ("Started", record.started),
        ("Ended", record.ended),
        ("Model", record.model.id),
        ("Note on the model", record.model.note),
        ("Weights", f"{record.model.dtype} {record.model.content_hash[:16]}".strip()),
        ("Data", f"{record.data.name}{f': {counts}' if counts else ''}"),
        ("Data content", record.data.hash[:16]),
        ("Benchmark suite", str(record.suite.get("hash", ""))[:16]),
        ("Configuration", record.config_hash),
        ("Attention", ": ".join(p for p in (record.attention.backend, record.attention.reason) if p)),
        ("Code", git),
        ("Versions", ", ".join(f"{name} {number}" for name, number in record.versions.items())),
        ("Host", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in record.host.items())),
    ]
    return [(name, value if value else "not recorded") for name, value in rows if value or name in _ALWAYS]


_ALWAYS = ("Model", "Data", "Data content", "Code", "Weights", "Ended")


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The configuration as dotted keys."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        else:
            said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append((f"{prefix}{key}", text(said)))
    return rows
