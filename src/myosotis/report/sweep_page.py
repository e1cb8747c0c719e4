"""The page of many runs: which setting to ship and why, and how the others stand.

What belongs here: where each section comes from, and which runs are told in full. The first screen
is `decision.py` beside `settings_table.py`; a single run's story is `run_page.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from myosotis.records.schema import GENERAL_TEXTS, RunRecord
from myosotis.report import (
    decision,
    factors,
    forgotten,
    heat_map,
    kl_curve,
    ladder,
    phrases,
    preference,
    sequence,
    trials,
)
from myosotis.report.export import render_csv
from myosotis.report.figure import data_link
from myosotis.report.grouping import Study, study
from myosotis.report.numbers import Numbers
from myosotis.report.planes import mark_said, planes
from myosotis.report.selection import Choice, Mark, choose, front, group_stats
from myosotis.report.settings_table import lost_by_a_seed, settings_table

TOLD_IN_FULL, TOLD_OF_MANY = 8, 2
"""Runs whose own stories stand at the end of the page: of a study, and of one of `MANY` runs."""

MANY = 100
"""Runs from which the page lists less, and says where the rest is."""


CONTENTS = (
    ("sequence", "sequence", "One task after another"),
    ("decision", "decision", "Which to ship, and why"),
    ("planes", "plane", "Forgetting against learning"),
    ("settings", "settings", "The settings"),
    ("heat", "grid", "Over the grid"),
    ("rates", "rates", "Where is the best {axis}?"),
    ("dial", "dial", "Turning them down"),
    ("price", "price", "The price in KL"),
    ("preference", "preference", "Preferences"),
    ("benchmarks", "benchmarks", "Benchmark by benchmark"),
    ("items", "items", "What was forgotten, item by item"),
    ("cost", "cost", "What it cost"),
    ("ladder", "ladder", "The ladder"),
    ("trials", "trials", "Failed and missing trials"),
    ("commands", "again", "To run it again"),
    ("told", "runs", "The runs in full"),
)
"""The sections: where their data stand, their id and their title."""


def view(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Everything the template needs for several runs."""
    shown = _sections(records)
    axis = shown["rates"]["name"] if shown["rates"] else ""
    contents = [(id, title.format(axis=axis)) for key, id, title in CONTENTS if shown[key]]
    return {**shown, "contents": contents}


def _sections(records: Sequence[RunRecord]) -> dict[str, Any]:
    found = study(records)
    stages = sequence.of_records(records)
    # The stages of a sequence stand on each other: none of them is chosen.
    choice = choose(found) if stages is None else Choice("different")
    marks = front(found) if stages is None else {}
    numbers, comparable = Numbers.of(found), choice.how != "different"
    return {
        "sequence": stages,
        "headline": decision.headline(found, choice) if stages is None else stages["headline"],
        "why": decision.why(choice, numbers),
        "tied": decision.tied(choice),
        "settle": decision.settle(choice),
        "ledes": decision.ledes(found, choice, numbers),
        "table": settings_table(found, choice, marks, numbers) if comparable else None,
        "csv_link": data_link("runs.csv", render_csv(records, found)),
        "alarm": trials.alarm(found),
        "notes": trials.differences(records) if stages is None else [],
        "decision": decision.table(choice, numbers),
        "planes": planes(found, choice, marks, numbers) if comparable else None,
        "settings": [] if comparable else group_rows(found, choice, marks, numbers),
        "unit": numbers.unit if comparable else "",
        "replicated": any(len(s.runs) > 1 for s in found.groups),
        "two_seeds": any(len(s.runs) == 2 for s in found.groups),
        "heat": heat_map.heat_maps(found, choice, numbers) if comparable else [],
        "rates": factors.along_axis(found, numbers) if comparable else None,
        "dial": factors.dials(found, choice, marks, numbers) if comparable else None,
        "price": kl_curve.of_runs(records) if comparable else None,
        "benchmarks": forgotten.benchmarks(found, choice),
        "items": forgotten.items(found),
        "ladder": ladder.ladder(found, choice, numbers) if comparable else None,
        "preference": preference.of_groups(found),
        "cost": trials.cost(found, choice),
        "trials": trials.not_finished(found, MANY),
        "identity": trials.identity(records),
        "common": trials.common(records),
        "commands": trials.commands(found, choice, MANY),
        "told": told_in_full(found, choice, marks),
        "runs": len(records),
        "general_text": any(row.task in GENERAL_TEXTS for r in records for row in r.retention),
    }


def group_rows(
    found: Study, choice: Choice, marks: Mapping[int, Mark], numbers: Numbers
) -> list[dict[str, Any]]:
    """Every setting, measured or not, in the order of their numbers."""
    rows = []
    for group in found.groups:
        seen = group_stats(group)
        first = (group.runs or group.others)[0]
        dead = sum(run.status == "FAILED" for run in group.others)
        badge = (seen.verdict or "no verdict") if group.runs else trials.state(first)
        rows.append(
            {
                "number": group.number,
                "label": group.label,
                "chosen": group is choice.group,
                "mark": marks.get(group.number, ""),
                "mark_said": mark_said(group, marks),
                "badge": badge,
                "kind": seen.verdict if group.runs else "forgotten",
                "lost": lost_by_a_seed(group),
                "seeds": phrases.count(len(group.runs)),
                "failed": dead,
                "trainable": phrases.large(first.update.trainable),
                **decision.cells(seen, numbers),
            }
        )
    return rows


def told_in_full(
    found: Study, choice: Choice, marks: Mapping[int, Mark]
) -> list[tuple[int, RunRecord]]:
    """The runs whose stories follow, with the numbers of their settings: all where there are few,
    else the choice, then one a setting from the front outwards."""
    every = [(s.number, run) for s in found.groups for run in s.all]
    if len(every) <= TOLD_IN_FULL:
        return every
    most = TOLD_IN_FULL if len(every) <= MANY else TOLD_OF_MANY
    order = {"front": 1, "tied": 2, "behind": 3, "over": 4}
    first = [(s.number, s.runs[0]) for s in found.measured if s is not choice.group]
    first.sort(key=lambda entry: (order.get(marks.get(entry[0], ""), 5), entry[0]))
    chosen = [(choice.group.number, choice.run)] if choice.group and choice.run else []
    return [*chosen, *first][:most]
