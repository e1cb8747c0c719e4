"""What the scorecard shows of one run record: every section as plain data for the template.

What belongs here: the head of the page, and which section is made where. How a number is written
is in `phrases.py`, how it is drawn in `report/svg/charts.py`, how it is laid out in the template.
"""

from __future__ import annotations

import shlex
from typing import Any

from myosotis.records.schema import GENERAL_TEXTS, RunRecord
from myosotis.records.verdict import VERDICTS
from myosotis.report import curves, details, dial_curve, intervals, narrator, phrases, preference
from myosotis.report.narrator import ABILITY
from myosotis.report.phrases import MISSING


def run_view(record: RunRecord, number: int = 1) -> dict[str, Any]:
    """Everything the template needs for one run; `number` is that of its setting."""
    return {
        "number": number,
        "record": record,
        "name": record.run_name or record.run_id[:12] or "unnamed run",
        "headline": narrator.headline(record),
        "ledes": narrator.ledes(record),
        "badge": badge(record),
        "facts": _facts(record),
        "tiles": _tiles(record),
        "plane": curves.plane_of_run(record),
        "task": intervals.task_rows(record),
        "forest": intervals.forest(record),
        "shift": intervals.shift(record),
        "general_text": any(row.task in GENERAL_TEXTS for row in record.retention),
        "curves": curves.curves(record),
        "more_curves": curves.more_curves(record),
        "preference": preference.of_run(record),
        "dial": curves.dial(record),
        "dial_said": dial_curve.said(record),
        "flips": details.flips(record),
        "samples": [details.sample(sample) for sample in record.samples],
        "wording": details.wording(record.wording),
        "cost": details.cost(record),
        "identity": details.identity(record),
        "config": details.flat(record.config),
        "command": shlex.join(record.command),
    }


def badge(record: RunRecord) -> dict[str, str]:
    """The run in a word or two, with the class that colours them: its verdict, or how it ended."""
    if record.status == "FAILED":
        return {"words": "failed", "kind": "forgotten"}
    if record.status in ("KILLED", "RUNNING"):
        said = "stopped early" if record.status == "KILLED" else "not finished"
        return {"words": said, "kind": "slipped"}
    verdict = record.suite_verdict.verdict if record.suite_verdict else ""
    if verdict not in VERDICTS:
        return {"words": "no verdict", "kind": "inconclusive"}
    return {"words": verdict, "kind": verdict}


def _facts(record: RunRecord) -> list[str]:
    """The line under the title: what was tuned, how, on what, when."""
    settings = record.update.settings
    rank = f" r={settings['r']}" if isinstance(settings.get("r"), int) else ""
    counts = record.data.counts.get("train")
    examples = f" ({phrases.count(counts)} examples)" if counts is not None else ""
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
        s = phrases.task_scale(task)
        kind = {"better": "retained", "worse": "forgotten"}.get(phrases.outcome(task), "")
        tiles.append(
            {
                "label": "Learned",
                "value": s.change(task.delta),
                "unit": s.of,
                "note": f"{phrases.label(task.metric)}, "
                f"{s.value(task.base)} → {s.value(task.tuned)}",
                "kind": kind,
            }
        )
    else:
        tiles.append({"label": "Learned", "value": MISSING, "note": "not measured"})
    if suite is not None and suite.delta is not None:
        s = phrases.suite_scale(suite)
        tiles.append(
            {
                "label": ABILITY,
                "value": s.change(suite.delta),
                "unit": "points",
                "note": f"mean accuracy; budget −{s.amount(suite.epsilon)}",
                "kind": suite.verdict if suite.verdict in VERDICTS else "",
            }
        )
    else:
        alone = ", ".join(f"{row.task}: {row.verdict or 'measured'}" for row in record.retention)
        tiles.append({"label": ABILITY, "value": MISSING, "note": alone or "not measured"})
    seconds = record.cost.get("total_seconds") or record.cost.get("train_seconds")
    trainable = phrases.large(record.update.trainable)
    tiles.append(
        {
            "label": "Cost",
            "value": phrases.duration(seconds),
            "note": f"{trainable} trainable parameters" if record.update.trainable else "",
        }
    )
    return tiles
