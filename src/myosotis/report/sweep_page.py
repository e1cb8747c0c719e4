"""The page of many runs: which setting to ship and why, and how the others stand.

What belongs here: the plane and the table of settings, and where each further section comes from.
A single run's story is `run_page.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from myosotis.records.schema import GENERAL_TEXTS, RunRecord
from myosotis.report import decision, factors, forgotten, heat_map, phrases, preference, trials
from myosotis.report.grouping import ConfigGroup, Study, study
from myosotis.report.numbers import Numbers
from myosotis.report.phrases import MISSING
from myosotis.report.selection import Choice, Mark, choose, front, group_stats
from myosotis.report.svg.tradeoff import Place, place_key, plane

TOLD_IN_FULL = 8
"""Runs whose own stories stand at the end of the page."""


def view(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Everything the template needs for several runs."""
    found = study(records)
    choice, marks, numbers = choose(found), front(found), Numbers.of(found)
    comparable = choice.how != "different"
    return {
        "headline": decision.headline(found, choice),
        "ledes": decision.ledes(found, choice, numbers),
        "tiles": decision.tiles(choice, numbers),
        "alarm": trials.alarm(found),
        "notes": trials.differences(records),
        "decision": decision.table(choice, numbers),
        "plane": _plane(found, choice, marks, numbers) if comparable else None,
        "settings": group_rows(found, choice, marks, numbers),
        "unit": numbers.unit if comparable else "",
        "replicated": any(len(s.runs) > 1 for s in found.groups),
        "two_seeds": any(len(s.runs) == 2 for s in found.groups),
        "heat": heat_map.heat_maps(found, choice, numbers) if comparable else [],
        "rates": factors.along_axis(found, numbers) if comparable else None,
        "dial": factors.dials(found, choice, marks, numbers) if comparable else None,
        "benchmarks": forgotten.benchmarks(found, choice),
        "items": forgotten.items(found),
        "ladder": trials.ladder(found, choice, numbers) if comparable else None,
        "preference": preference.of_groups(found),
        "cost": trials.cost(found, choice),
        "trials": trials.not_finished(found),
        "identity": trials.identity(records),
        "common": trials.common(records),
        "commands": trials.commands(found, choice),
        "told": told_in_full(found, choice, marks),
        "runs": len(records),
        "general_text": any(row.task in GENERAL_TEXTS for r in records for row in r.retention),
    }


MARKS = {
    "front": "a best trade-off",
    "tied": "not told from a best trade-off",
    "behind": "beaten on all that counts",
}


def _plane(
    found: Study, choice: Choice, marks: Mapping[int, Mark], numbers: Numbers
) -> dict[str, Any] | None:
    places = [Place(0.0, 0.0, "base", "base: the origin", "base")]
    epsilons = []
    for group in found.measured:
        seen = group_stats(group)
        if seen.gain is None or seen.kept is None:
            continue
        if seen.epsilon is not None:
            epsilons.append(seen.epsilon)
        mark = marks[group.number]
        style = "chosen" if group is choice.group else mark
        name = "" if mark == "behind" and style != "chosen" else str(group.number)
        places.append(
            Place(
                seen.gain.value,
                seen.kept.value,
                name,
                f"{group.number}, {numbers.said(group)}; {_mark_said(group, marks)}",
                style,
                _ends(seen.gain.lo, seen.gain.hi),
                _ends(seen.kept.lo, seen.kept.hi),
            )
        )
    if len(places) < 2:
        return None
    on_front = [p for p in places if p.style in ("front", "chosen")]
    line = sorted((p.x, p.y) for p in on_front if marks.get(_number(p)) == "front")
    epsilon = sum(e / len(epsilons) for e in epsilons) if epsilons else None
    widest = max(abs(p.x) for p in places)
    s = phrases.scale(numbers.metric, numbers.unit, -widest / 5, widest / 5)
    used = [
        style
        for style in ("chosen", "front", "tied", "behind")
        if any(p.style == style for p in places)
    ]
    said = {**MARKS, "chosen": "the choice"}
    return {
        "drawn": plane(
            places,
            epsilon=epsilon,
            x_value=lambda v: s.change(numbers.sign * v),
            y_value=numbers.kept.change,
            joined=line,
            title="Change in general ability against what was learned",
            height=400,
        ),
        "x_unit": ", ".join(filter(None, (phrases.label(numbers.metric), numbers.unit))),
        "epsilon": numbers.kept.amount(epsilon),
        "keys": [{"drawn": place_key(style), "said": said[style]} for style in used],
    }


def _ends(lo: float | None, hi: float | None) -> tuple[float, float] | None:
    return None if lo is None or hi is None else (lo, hi)


def _number(place: Place) -> int:
    return int(place.name) if place.name.isdigit() else 0


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
                "mark_said": _mark_said(group, marks),
                "badge": badge,
                "kind": seen.verdict if group.runs else "forgotten",
                "lost": _lost(group),
                "seeds": phrases.count(len(group.runs)),
                "failed": dead,
                "trainable": phrases.large(first.update.trainable),
                **decision.cells(seen, numbers),
            }
        )
    return rows


def _mark_said(group: ConfigGroup, marks: Mapping[int, Mark]) -> str:
    """A setting's place in words; of one seed no more is claimed than that it has one."""
    if (mark := marks.get(group.number)) is None:
        return MISSING
    if len(group.runs) > 1:
        return MARKS[mark]
    return f"{MARKS[mark]}, with one seed" if mark == "front" else "one seed: not told apart"


def _lost(group: ConfigGroup) -> list[str]:
    """Benchmarks called forgotten with any seed: one that is no accuracy is not in the mean."""
    rows = [row for run in group.runs for row in run.retention]
    return list(dict.fromkeys(row.task for row in rows if row.verdict == "forgotten"))


def told_in_full(
    found: Study, choice: Choice, marks: Mapping[int, Mark]
) -> list[tuple[int, RunRecord]]:
    """The runs whose stories follow, with the numbers of their settings: all where there are few,
    else the choice, then one a setting from the front outwards."""
    every = [(s.number, run) for s in found.groups for run in s.all]
    if len(every) <= TOLD_IN_FULL:
        return every
    order = {"front": 1, "tied": 2, "behind": 3}
    first = [(s.number, s.runs[0]) for s in found.measured if s is not choice.group]
    first.sort(key=lambda entry: (order.get(marks.get(entry[0], ""), 4), entry[0]))
    chosen = [(choice.group.number, choice.run)] if choice.group and choice.run else []
    return [*chosen, *first][:TOLD_IN_FULL]
