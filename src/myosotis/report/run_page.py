"""What the scorecard shows of one run record: every section as plain data for the template.

What belongs here: the head of the page, and which section is made where. How a number is written
is in `phrases.py`, how it is drawn in `report/svg/charts.py`, how it is laid out in the template.
"""

from __future__ import annotations

import shlex
from typing import Any

from myosotis.records.schema import GENERAL_TEXTS, RunRecord
from myosotis.records.verdict import VERDICTS
from myosotis.report import (
    curves,
    deploy,
    details,
    dial_curve,
    intervals,
    narrator,
    overview,
    policy,
    preference,
    rated,
    remedy,
    weights,
)
from myosotis.report.export import render_csv
from myosotis.report.figure import data_link

CONTENTS = (
    ("ledes", "words", "In words"),
    ("plane", "plane", "Forgetting against learning"),
    ("task", "task", "What it learned"),
    ("forest", "benchmarks", "What it kept"),
    ("curves", "curves", "While it trained"),
    ("preference", "preference", "Preferences"),
    ("policy", "policy", "Rewards"),
    ("dial", "dial", "Turning it down"),
    ("weights", "weights", "How the weights moved"),
    ("flips", "flips", "What it got wrong that the base got right"),
    ("samples", "samples", "In its own words"),
    ("cost", "cost", "What it cost"),
    ("command", "again", "To run it again"),
)
"""The sections: where their data stand, their id and their title."""


def run_view(record: RunRecord, number: int = 1) -> dict[str, Any]:
    """Everything the template needs for one run; `number` is that of its setting."""
    shown = _sections(record, number)
    there = {**shown, "curves": shown["curves"] or shown["more_curves"]}
    there["flips"] = shown["flips"]["counted"] or shown["flips"]["first"]
    there["task"] = shown["task"] or not shown["forest"]  # a comparison has no task
    always = ("forest", "cost", "command")
    return {
        **shown,
        "contents": [(id, title) for key, id, title in CONTENTS if key in always or there[key]],
    }


def _sections(record: RunRecord, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "record": record,
        "name": record.run_name or record.run_id[:12] or "unnamed run",
        "headline": narrator.headline(record),
        "ledes": narrator.ledes(record),
        "badge": badge(record),
        "overview": overview.overview(record),
        "facts": overview.grey_line(record),
        "settle": remedy.settle(record),
        "csv_link": data_link("run.csv", render_csv([record])),
        "plane": curves.plane_of_run(record),
        "task": intervals.task_rows(record),
        "deploy": deploy.sentences(record),
        "forest": intervals.forest(record),
        "run_row": intervals.run_row(record),
        "shift": intervals.shift(record),
        "general_text": any(row.task in GENERAL_TEXTS for row in record.retention),
        "curves": curves.curves(record),
        "more_curves": curves.more_curves(record),
        "preference": preference.of_run(record),
        "policy": policy.of_run(record),
        "dial": curves.dial(record),
        "dial_said": dial_curve.said(record),
        "weights": weights.of_run(record),
        "flips": details.flips(record),
        "samples": [details.sample(sample) for sample in record.samples],
        "wording": details.wording(record.wording),
        "ratings": [
            *rated.ratings_said(record.ratings),
            *rated.judge_said(record.judge),
            *rated.refusals_said(record.refusal_judge),
        ],
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
