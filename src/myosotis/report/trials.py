"""The trials of a study as such: which ended and which did not, what they cost, what they share.

What belongs here: failed and missing trials, cost, identity and commands.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from myosotis.records.schema import RunRecord
from myosotis.report import details, phrases
from myosotis.report.figure import data_link
from myosotis.report.grouping import (
    SEED,
    ConfigGroup,
    Study,
    holes,
    measured,
    seed_of,
    short,
    written,
)
from myosotis.report.phrases import MISSING
from myosotis.report.selection import Choice

_STATES = {
    "FAILED": "failed",
    "KILLED": "stopped early",
    "RUNNING": "not finished",
    "FINISHED": "nothing measured",
}


def state(run: RunRecord) -> str:
    """How a run that says nothing ended."""
    return "run again since" if measured(run) else _STATES.get(run.status, "no result")


def not_finished(found: Study, most: int | None = None) -> dict[str, Any]:
    """Trials without a result, each with its reason, and those that were never run. Of more than
    `most` those that failed come first, and the `left` are counted."""
    rows = [
        {
            "number": s.number,
            "label": s.label,
            "seed": MISSING if seed_of(run) is None else written(seed_of(run)),
            "state": state(run),
            "kind": "forgotten" if run.status == "FAILED" else "slipped",
            "error": run.error or ("" if measured(run) else "no reason was recorded"),
            "run": run.run_name or run.run_id[:12],
        }
        for s in found.groups
        for run in s.others
    ]
    most = len(rows) if most is None else most
    if len(rows) > most:
        rows.sort(key=lambda row: (row["kind"] != "forgotten", not row["error"]))
    return {
        "rows": rows[:most],
        "left": max(len(rows) - most, 0),
        "missing": missing(found),
        "further": further_seeds(found),
    }


def missing(found: Study) -> list[str]:
    """What the other trials make one expect: grid cells and seeds that no record is of."""
    return [said for said, _ in _gaps(found)]


def _gaps(found: Study) -> list[tuple[str, int]]:
    """What is missing, and how many trials that is."""
    expected, gaps = _expected_seeds(found), []
    for method in dict.fromkeys(s.method for s in found.groups):
        members = [s for s in found.groups if s.method == method]
        gaps += [
            (f"{row} {short(found.axis)}={written(x, found.axis)}: never run", len(expected) or 1)
            for row, x in holes(members) or []
        ]
    for group in found.groups:
        gone = sorted(expected - _seeds(group))
        if gone and _seeds(group):
            gaps.append((f"{group.label}: never run with seed {', '.join(gone)}", len(gone)))
    return gaps


def _seeds(group: ConfigGroup) -> set[str]:
    return {json.dumps(seed_of(r)) for r in group.all if seed_of(r) is not None}


def _expected_seeds(found: Study) -> set[str]:
    """The seeds that most settings ran with. One that only some have was added to them on purpose,
    and is not missing elsewhere."""
    every = [_seeds(group) for group in found.groups]
    known = set[str]().union(*every)
    return {seed for seed in known if 2 * sum(seed in own for own in every) > len(every)}


def further_seeds(found: Study) -> str:
    """Which settings ran with more seeds than the rest."""
    expected = _expected_seeds(found)
    more = [group for group in found.groups if expected and _seeds(group) - expected]
    if not more:
        return ""
    names = [group.label for group in more[:5]]
    names += [f"{len(more) - 5} more"] if len(more) > 5 else []
    return f"With further seeds ran {phrases.listed(names)}."


def alarm(found: Study) -> str:
    """One sentence about trials without a result; empty when all have one."""
    failed = sum(run.status == "FAILED" for s in found.groups for run in s.others)
    other = sum(
        run.status != "FAILED" and not measured(run) for s in found.groups for run in s.others
    )
    gone = sum(number for _, number in _gaps(found))
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{other} did not finish"] if other else []
    were = "was" if gone == 1 else "were"
    if gone and not parts:
        return f"Of the whole grid, {phrases.plural(gone, 'trial')} {were} never run."
    parts += [f"{gone} more {were} never run"] if gone else []
    total = sum(len(s.all) for s in found.groups)
    return f"Of {phrases.plural(total, 'trial')}, {', '.join(parts)}." if parts else ""


def cost(found: Study, choice: Choice) -> dict[str, Any]:
    """Time, memory and sizes, the mean over a setting's seeds."""
    known = {
        key for s in found.measured for r in s.runs for key, v in r.cost.items() if v is not None
    }
    columns = [(key, name, write) for key, name, write in _COSTS if key in known]
    rows = [
        {
            "number": s.number,
            "label": s.label,
            "chosen": s is choice.group,
            "trainable": phrases.count(s.all[0].update.trainable),
            "cells": [_mean(s, key, write) for key, _, write in columns],
        }
        for s in found.measured
    ]
    absent = [name for key, name, _ in _COSTS if key not in known]
    return {"columns": [name for _, name, _ in columns], "rows": rows, "absent": absent}


def _mean(group: ConfigGroup, key: str, write: Any) -> str:
    values = [v for run in group.runs if (v := run.cost.get(key)) is not None]
    return write(sum(v / len(values) for v in values)) if values else MISSING


_COSTS = (
    ("train_seconds", "training", phrases.duration),
    ("total_seconds", "whole run", phrases.duration),
    ("tokens_per_second", "tokens/s", phrases.count),
    ("peak_memory_gb", "peak memory, GB", phrases.general),
    ("update_bytes", "size of the update", phrases.size),
)


def differences(records: Sequence[RunRecord]) -> list[str]:
    """What makes runs hard to compare, and what their base is, in sentences."""
    notes = dict.fromkeys(
        f"The base model {r.model.id}: {r.model.note}." for r in records if r.model.note
    )
    return [*apart(records), *notes]


def apart(records: Sequence[RunRecord]) -> list[str]:
    """What makes runs hard to compare, in sentences."""
    drawn = [] if share_a_draw(records) else [str(r.suite.get("hash", "")) for r in records]
    told = {
        "different benchmark items": drawn,
        "different base weights": [r.model.content_hash for r in records],
        "different training data": [r.data.hash for r in records],
    }
    return [
        f"These runs have {what}: their numbers are set side by side, but are not paired."
        for what, values in told.items()
        if len({v for v in values if v}) > 1
    ]


def share_a_draw(records: Sequence[RunRecord]) -> bool:
    """Whether all were asked the beginning of one draw of items: those that were asked until their
    verdicts were settled have more of it than others, and are paired on what they share."""
    draws: dict[str, list[list[str]]] = {}
    for record in records:
        if not isinstance(tasks := record.suite.get("tasks"), list) or not tasks:
            return False
        for task in tasks:
            if not isinstance(task, dict) or not isinstance(items := task.get("items"), list):
                return False
            draws.setdefault(str(task.get("task")), []).append([str(item) for item in items])
    longest = {task: max(items, key=len) for task, items in draws.items()}
    return all(
        asked == longest[task][: len(asked)] for task, items in draws.items() for asked in items
    )


def identity(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Model, data, code and versions: once where all agree, else each with its number of runs."""
    named: dict[str, list[str]] = {}
    for record in records:
        for name, value in details.identity(record):
            if name not in _OF_ONE_RUN and value != "not recorded":
                named.setdefault(name, []).append(value)
    rows = []
    for name, values in named.items():
        counts = {value: values.count(value) for value in dict.fromkeys(values)}
        if len(counts) == 1:
            rows.append({"name": name, "values": [values[0]], "same": True})
            continue
        listed = [f"{value} ({phrases.plural(n, 'run')})" for value, n in list(counts.items())[:6]]
        listed += [f"and {len(counts) - 6} more"] if len(counts) > 6 else []
        rows.append({"name": name, "values": listed, "same": False})
    return rows


_OF_ONE_RUN = ("Run", "Status", "Started", "Ended", "Configuration")


def common(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The configuration all runs share, and the keys in which they differ with their values."""
    flat = [dict(details.flat(record.config)) for record in records if record.config]
    keys = list(dict.fromkeys(key for values in flat for key in values))
    shared, differ = [], []
    for key in keys:
        values = list(dict.fromkeys(v[key] for v in flat if key in v))
        if len(values) == 1 and all(key in v for v in flat):
            shared.append((key, values[0]))
        elif key not in ("out", SEED) and not key.startswith("tracking."):
            more = f" and {len(values) - 8} more" if len(values) > 8 else ""
            differ.append((key, ", ".join(values[:8]) + more))
    return {"shared": shared, "differ": differ, "without": len(records) - len(flat)}


def commands(found: Study, choice: Choice, most: int) -> dict[str, Any]:
    """The command of the chosen run, and those of all: on the page, or of more than `most` as a
    file."""
    every = [shlex.join(run.command) or "not recorded" for s in found.groups for run in s.all]
    few = len(every) <= most
    return {
        "chosen": shlex.join(choice.run.command) if choice.run else "",
        "all": every if few else [],
        "count": len(every),
        "link": "" if few else data_link("commands.txt", "\n".join([*every, ""])),
    }
