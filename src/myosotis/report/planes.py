"""The planes of a study: what was learned against each measure that counts.

What belongs here: which settings stand where in a plane, and what their marks are called. Which of
them are on the front is decided in `selection.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from myosotis.records.schema import RetentionRow, RunRecord
from myosotis.report import phrases, prompted
from myosotis.report.figure import Figure
from myosotis.report.grouping import ConfigGroup, Study
from myosotis.report.numbers import Numbers
from myosotis.report.phrases import Scale
from myosotis.report.run_verdict import mean_over_seeds
from myosotis.report.seed_verdict import counted_beside, task_over_seeds, task_verdict
from myosotis.report.seeds import Estimate, mean_budget
from myosotis.report.selection import Choice, Mark, group_stats
from myosotis.report.svg.tradeoff import Place, Plane, place_key

MARKS: dict[str, str] = {
    "front": "a best trade-off",
    "tied": "not told from a best trade-off",
    "behind": "beaten on all that counts",
    "over": "over budget",
}
ORDER = ("chosen", "front", "tied", "behind", "over", "prompted")


@dataclass(frozen=True)
class Measure:
    """Something that counts against the budget, over the settings of a study.

    `of` gives a setting's change with a loss negative, `epsilon` its budget and `verdict` what the
    measure alone says; `scale` and `sign` write a change in the metric's own direction.
    """

    name: str
    unit: str
    scale: Scale
    sign: int
    of: Callable[[ConfigGroup], Estimate | None]
    epsilon: Callable[[ConfigGroup], float | None]
    verdict: Callable[[ConfigGroup], str]

    def change(self, value: float | None) -> str:
        return self.scale.change(None if value is None else self.sign * value)

    def interval(self, found: Estimate) -> str:
        if found.lo is None or found.hi is None:
            return "no interval"
        ends = sorted((self.sign * found.lo, self.sign * found.hi))
        return phrases.interval(self.scale, *ends)


def measures(found: Study, numbers: Numbers) -> list[Measure]:
    """The mean's, then each task that counts beside it (general text, a budget of its own)."""
    every = []
    if any(group_stats(group).kept is not None for group in found.measured):
        every.append(
            Measure(
                "Mean accuracy", "points", numbers.kept, 1, lambda g: group_stats(g).kept,
                lambda g: group_stats(g).epsilon, lambda g: mean_over_seeds(g.runs),
            )
        )  # fmt: skip
    for task in counted_beside([run for group in found.measured for run in group.runs]):
        every.append(_of_task(found, task))
    return every


def _of_task(found: Study, task: str) -> Measure:
    rows = [row for group in found.measured for row in _rows(group, task)]
    halves = sorted(r.hi / 2 - r.lo / 2 for r in rows if r.hi is not None and r.lo is not None)
    half = halves[len(halves) // 2] if halves else 0.0
    scale, first = phrases.scale(rows[0].metric, "", -half, half), rows[0]
    unit = scale.of + ("" if first.higher_is_better else ", lower is better")
    return Measure(
        phrases.task_title(task),
        unit,
        scale,
        1 if first.higher_is_better else -1,
        lambda group: task_over_seeds(task, group.runs),
        lambda group: mean_budget(row.epsilon for row in _rows(group, task)),
        lambda group: task_verdict(task, group.runs),
    )


def _rows(group: ConfigGroup, task: str) -> list[RetentionRow]:
    return [row for run in group.runs for row in run.retention if row.task == task]


def planes(
    found: Study, choice: Choice, marks: Mapping[int, Mark], numbers: Numbers
) -> dict[str, Any] | None:
    """A plane for each measure that counts, all with the same marks."""
    figures = [
        (measure, figure)
        for measure in measures(found, numbers)
        if (figure := _plane(found, choice, marks, numbers, measure)) is not None
    ]
    if not figures:
        return None
    used = {_style(group, choice, marks) for group in found.measured if group.number in marks}
    used |= {p.style for p in prompted.places_of(_runs(found), str)}
    said = {**MARKS, "chosen": "the choice", "prompted": "the base, asked otherwise"}
    return {
        "drawn": [{"title": m.name, "unit": m.unit, "figure": figure} for m, figure in figures],
        "crowded": any(isinstance(f.source, Plane) and f.source.crowded for _, f in figures),
        "keys": [{"drawn": place_key(s), "said": said[s]} for s in ORDER if s in used],
    }


def _plane(
    found: Study,
    choice: Choice,
    marks: Mapping[int, Mark],
    numbers: Numbers,
    measure: Measure,
) -> Figure | None:
    places, budgets, front = [Place(0.0, 0.0, "base", "base: the origin", "base")], [], []
    for group in found.measured:
        gain, kept = group_stats(group).gain, measure.of(group)
        if gain is None or kept is None or group.number not in marks:
            continue
        budgets.append(measure.epsilon(group))
        style = _style(group, choice, marks)
        if marks[group.number] == "front":
            front.append((gain.value, kept.value))
        places.append(
            Place(
                gain.value,
                kept.value,
                str(group.number),
                f"{group.number}, {numbers.said(group)}, {measure.name.lower()} "
                f"{measure.change(kept.value)}; {mark_said(group, marks)}",
                style,
                _ends(gain),
                _ends(kept),
            )
        )
    if len(places) < 2:
        return None
    places += prompted.places_of(
        _runs(found), lambda v: numbers.task.change(None if v is None else numbers.sign * v)
    )
    widest = max(abs(p.x) for p in places)
    s = phrases.scale(numbers.metric, numbers.unit, -widest / 5, widest / 5)
    task = ", ".join(filter(None, (phrases.label(numbers.metric), numbers.unit)))
    plane = Plane(
        f"{measure.name} against what was learned",
        places,
        mean_budget(budgets),
        lambda v: s.change(numbers.sign * v),
        measure.change,
        f"task: change of {task}",
        f"{measure.name}: change, {measure.unit}",
        sorted(front),
        height=360,
    )
    return Figure.of(f"plane-{measure.name}", plane)


def _runs(found: Study) -> list[RunRecord]:
    return [run for group in found.measured for run in group.runs]


def _style(group: ConfigGroup, choice: Choice, marks: Mapping[int, Mark]) -> str:
    return "chosen" if group is choice.group else marks[group.number]


def _ends(found: Estimate) -> tuple[float, float] | None:
    return None if found.lo is None or found.hi is None else (found.lo, found.hi)


def mark_said(group: ConfigGroup, marks: Mapping[int, Mark]) -> str:
    """A setting's place in words; of one seed no more is claimed than that it has one."""
    if (mark := marks.get(group.number)) is None:
        return phrases.MISSING
    if len(group.runs) > 1 or mark == "over":
        return MARKS[mark]
    return f"{MARKS[mark]}, with one seed" if mark == "front" else "one seed: not told apart"
