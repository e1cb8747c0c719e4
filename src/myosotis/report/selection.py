"""Which setting to ship, which ones lie on the front, and what cannot be told apart.

What belongs here: decisions over the settings of a study, from the numbers in their records. The
winner is chosen on one half of the items and claimed on the other (docs/science.md, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from myosotis.records.items import benchmark_items, example_items
from myosotis.records.schema import HalfResult, RunRecord
from myosotis.records.verdict import Verdict, inside_budget
from myosotis.report import phrases
from myosotis.report.contrast import Measure, told_apart
from myosotis.report.crossed import over_items_and_seeds
from myosotis.report.grouping import ConfigGroup, Study, study
from myosotis.report.seed_verdict import counted_beside, seed_verdict, task_over_seeds
from myosotis.report.seeds import Estimate, mean_budget

Part = Literal["selection", "report", "all"]
Mark = Literal["front", "tied", "behind", "over"]


@dataclass(frozen=True)
class GroupStats:
    """What a part of the items says of a setting; `gain` is turned so that better is positive."""

    gain: Estimate | None
    kept: Estimate | None
    epsilon: float | None
    verdict: str


def group_stats(group: ConfigGroup, part: Part = "all") -> GroupStats:
    """Task gain and change of the suite's mean, over the setting's seeds; computed once, as a page
    asks for it dozens of times."""
    key = (part, *map(id, group.runs))
    if key not in group.known:
        group.known[key] = _group_stats(group, part)
    return group.known[key]


def _group_stats(group: ConfigGroup, part: Part) -> GroupStats:
    halves = [half_of(run, part) for run in group.runs]
    tasks = [h.task for h in halves if h.task is not None and h.task.delta is not None]
    gains = []
    for task in tasks:
        better = task.higher_is_better
        lo, hi = (task.lo, task.hi) if better else (task.hi, task.lo)
        gain = phrases.gain(task.delta, better)
        if gain is not None:
            gains.append((gain, phrases.gain(lo, better), phrases.gain(hi, better)))
    suites = [h.suite for h in halves if h.suite is not None and h.suite.delta is not None]
    parts = [(s.delta, s.lo, s.hi) for s in suites if s.delta is not None]
    half = _half(part)
    names = [task.metric for task in tasks[:1]]
    gain = over_items_and_seeds(group.runs, gains, names, half, example_items)
    kept = over_items_and_seeds(group.runs, parts, suites[0].tasks if suites else [], half)
    epsilon = mean_budget(s.epsilon for s in suites)
    said = [h.suite.verdict for h in halves if h.suite is not None]
    rows = group.runs if part == "all" else ()
    return GroupStats(gain, kept, epsilon, seed_verdict(said, kept, epsilon, rows))


def learned(group: ConfigGroup, seen: GroupStats, part: Part = "all") -> Measure | None:
    """The task gain of a setting on a part of the items, as it is compared with another's."""
    if (gain := seen.gain) is None:
        return None
    found = task_of(group)
    return Measure(gain, group.runs, [found[0]] if found else [], example_items, _half(part))


def kept_of_mean(group: ConfigGroup, seen: GroupStats) -> Measure | None:
    """The change of the suite's mean on all items, as it is compared with another's."""
    if (kept := seen.kept) is None:
        return None
    suites = [run.suite_verdict for run in group.runs if run.suite_verdict is not None]
    return Measure(kept, group.runs, suites[0].tasks if suites else [], benchmark_items)


def kept_of_task(group: ConfigGroup, task: str) -> Measure:
    """The change of one task, as it is compared with another's."""
    found = task_over_seeds(task, group.runs)
    return UNKNOWN if found is None else Measure(found, group.runs, [task], benchmark_items)


def _half(part: Part) -> str:
    return "" if part == "all" else part


def half_of(run: RunRecord, part: Part) -> HalfResult:
    """One half of a run's items, or all of them."""
    if part == "all":
        return HalfResult(run.task, run.suite_verdict)
    return run.halves.get(part, HalfResult())


@dataclass(frozen=True)
class Choice:
    """The setting to ship. `how`: retained | unsettled | nothing | different | unmeasured.

    `run` is the one of its seeds that gained most where the setting was chosen. `rivals` were as
    eligible, and what they gain cannot be told from it; `greedier` learned more and are not.
    """

    how: str
    group: ConfigGroup | None = None
    run: RunRecord | None = None
    chosen_on: Part = "all"
    claimed_on: Part = "all"
    rivals: list[ConfigGroup] = field(default_factory=list)
    greedier: list[ConfigGroup] = field(default_factory=list)


def choose(found: Study) -> Choice:
    """Most task gain among the settings shown to be inside the retention budget.

    Where none is shown to be, among those whose loss is not shown to be beyond it and is estimated
    to be inside.
    """
    on_all = {s.number: group_stats(s) for s in found.measured}
    groups = [s for s in found.measured if _is_whole(on_all[s.number])]
    if not comparable(found):
        return Choice("different")
    if not groups:
        return Choice("unmeasured")
    selection = {s.number: group_stats(s, "selection") for s in groups}
    halved = all(map(_is_whole, selection.values())) and all(
        _is_whole(group_stats(s, "report")) for s in groups
    )
    on: Part = "selection" if halved else "all"
    seen = selection if halved else on_all
    how = "retained"
    eligible = [s for s in groups if _inside(s, seen[s.number])]
    if not eligible:
        how, eligible = "unsettled", [s for s in groups if _perhaps(seen[s.number])]
    if not eligible:
        return Choice("nothing", chosen_on=on, claimed_on=on)

    def gain(group: ConfigGroup) -> float:
        learned = seen[group.number].gain
        assert learned is not None
        return learned.value

    best = max(eligible, key=gain)
    return Choice(
        how,
        best,
        max(best.runs, key=lambda run: gain_of(run, on)),
        on,
        "report" if halved else "all",
        _close([s for s in eligible if s is not best], best, seen, on),
        sorted([s for s in groups if s not in eligible and gain(s) > gain(best)], key=gain)[::-1],
    )


def _is_whole(stats: GroupStats) -> bool:
    """Whether both the task and the benchmarks were measured."""
    return stats.gain is not None and stats.kept is not None


def best_run(records: Sequence[RunRecord]) -> RunRecord | None:
    """The run to ship: who learned most among those within budget. Where no benchmark was measured,
    who learned most."""
    choice = choose(study(records))
    if choice.how == "unmeasured":
        done = [r for r in records if r.status == "FINISHED" and r.task is not None]
        return max(done, key=lambda run: gain_of(run, "all"), default=None)
    return choice.run


def task_of(group: ConfigGroup) -> tuple[str, str, bool] | None:
    """What a setting's task is measured in."""
    tasks = [run.task for run in group.runs if run.task is not None]
    return (tasks[0].metric, tasks[0].unit, tasks[0].higher_is_better) if tasks else None


def comparable(found: Study) -> bool:
    """Whether the settings were measured in one metric on one set of held-out data."""
    tasks = {task_of(setting) for setting in found.measured} - {None}
    return len(tasks) <= 1 and len(held_out(found)) <= 1


def held_out(found: Study) -> set[str]:
    """The held-out data that the settings were measured on, by their hash; older records do not
    say."""
    runs = [run for setting in found.measured for run in setting.runs if run.task is not None]
    return {str(run.data.manifest.get("test_hash") or "") for run in runs} - {""}


def gain_of(run: RunRecord, part: Part) -> float:
    """One run's task gain."""
    task = half_of(run, part).task
    if task is None or task.delta is None:
        return float("-inf")
    return phrases.gain(task.delta, task.higher_is_better) or 0.0


def _inside(group: ConfigGroup, seen: GroupStats) -> bool:
    accepts = {run.suite_verdict.accept for run in group.runs if run.suite_verdict is not None}
    accept = "not_forgotten" if "not_forgotten" in accepts else "retained"
    return inside_budget(seen.verdict, accept) is True


def _perhaps(seen: GroupStats) -> bool:
    if seen.kept is None or seen.epsilon is None:
        return False
    return seen.verdict != Verdict.FORGOTTEN and seen.kept.value >= -seen.epsilon


def _close(
    others: Sequence[ConfigGroup], best: ConfigGroup, seen: Mapping[int, GroupStats], on: Part
) -> list[ConfigGroup]:
    """Those whose gain is not told from the best's; all of them, if that has one seed."""
    gains = {group.number: learned(group, seen[group.number], on) for group in (best, *others)}
    top = gains[best.number]
    assert top is not None
    known = [(group, gain) for group in others if (gain := gains[group.number]) is not None]
    apart = told_apart([(gain, top) for _, gain in known])
    return [group for (group, _), told in zip(known, apart, strict=True) if not told]


def front(found: Study) -> dict[int, Mark]:
    """Each setting's place among the others, by number, on all items.

    `front`: none learned more, kept more of the mean and of every task that counts beside it.
    `tied`: behind one of the front, but not told apart on any of these. `behind`: told to be worse
    than a setting of the front that is no worse elsewhere, by Holm's procedure over all such
    comparisons. A setting of one seed is never told from another. `over`: forgotten, and no
    trade-off to offer, however much it learned.
    """
    if not comparable(found):
        return {}
    beside = counted_beside([run for group in found.measured for run in group.runs])
    placed: dict[int, list[Measure]] = {}
    marks: dict[int, Mark] = {}
    for group in found.measured:
        seen = group_stats(group)
        gain, kept = learned(group, seen), kept_of_mean(group, seen)
        if gain is None or kept is None:
            continue
        if seen.verdict == Verdict.FORGOTTEN:
            marks[group.number] = "over"
        else:
            placed[group.number] = [gain, kept, *(kept_of_task(group, task) for task in beside)]
    best = [n for n, at in placed.items() if not any(_beats(o, at) for o in placed.values())]
    compared = [
        (number, pair)
        for number, at in placed.items()
        for n in best
        if _beats(placed[n], at)
        for pair in zip(placed[n], at, strict=True)
    ]
    apart = told_apart([pair for _, pair in compared])
    behind = {number for (number, _), told in zip(compared, apart, strict=True) if told}
    for n in placed:
        marks[n] = "front" if n in best else "behind" if n in behind else "tied"
    return marks


UNKNOWN = Measure(Estimate(float("-inf")))
"""Of a task that a setting was not measured on: it keeps no other from being better."""


def _beats(one: Sequence[Measure], other: Sequence[Measure]) -> bool:
    """Whether one is at least as good on every axis, and better on one."""
    pairs = [(a.estimate.value, b.estimate.value) for a, b in zip(one, other, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
