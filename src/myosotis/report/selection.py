"""Which setting to ship, which ones lie on the front, and what cannot be told apart.

What belongs here: decisions over the settings of a study, from the numbers in their records. The
winner is chosen on one half of the items and claimed on the other (docs/science.md, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from myosotis.records.schema import Half, RunRecord
from myosotis.report import phrases
from myosotis.report.grouping import ConfigGroup, Study
from myosotis.report.seeds import Estimate, over_seeds, separable

Part = Literal["select", "report", "all"]
Mark = Literal["front", "tied", "behind"]


@dataclass(frozen=True)
class GroupStats:
    """What a part of the items says of a setting; `gain` is turned so that better is positive."""

    gain: Estimate | None
    kept: Estimate | None
    epsilon: float | None
    verdict: str


def shown(setting: ConfigGroup, part: Part = "all") -> GroupStats:
    """Task gain and change of the suite's mean, over the setting's seeds."""
    halves = [half_of(run, part) for run in setting.runs]
    tasks = [h.task for h in halves if h.task is not None and h.task.delta is not None]
    gains = []
    for task in tasks:
        better = task.higher_is_better
        lo, hi = (task.lo, task.hi) if better else (task.hi, task.lo)
        gain = phrases.gain(task.delta, better)
        if gain is not None:
            gains.append((gain, phrases.gain(lo, better), phrases.gain(hi, better)))
    suites = [h.suite for h in halves if h.suite is not None and h.suite.delta is not None]
    kept = over_seeds([(s.delta, s.lo, s.hi) for s in suites if s.delta is not None])
    budgets = [s.epsilon for s in suites if s.epsilon is not None]
    epsilon = sum(e / len(budgets) for e in budgets) if budgets else None
    return GroupStats(
        over_seeds(gains), kept, epsilon, _verdict([s.verdict for s in suites], kept, epsilon)
    )


def half_of(run: RunRecord, part: Part) -> Half:
    """One half of a run's items, or all of them."""
    return Half(run.task, run.suite_verdict) if part == "all" else run.halves.get(part, Half())


def _verdict(said: Sequence[str], kept: Estimate | None, epsilon: float | None) -> str:
    """The verdict over seeds, by the same rule as for one run, from the interval over seeds."""
    known = [s for s in said if s in phrases.EXPLAINED]
    if len(known) < 2 or all(s == "inconclusive" for s in known):
        # One run has its verdict; and where none has enough items, more seeds bring none.
        return known[0] if known else ""
    if kept is None or kept.lo is None or kept.hi is None or epsilon is None:
        return "inconclusive"
    if kept.lo > -epsilon:
        return "retained"
    if kept.hi < -epsilon:
        return "forgotten"
    return "slipped" if kept.hi < 0 else "inconclusive"


@dataclass(frozen=True)
class Choice:
    """The setting to ship. `how`: retained | unsettled | nothing | different | unmeasured.

    `run` is the one of its seeds that gained most where the setting was chosen. `rivals` were as
    eligible, and what they gain cannot be told from it; `greedier` learned more and are not.
    """

    how: str
    setting: ConfigGroup | None = None
    run: RunRecord | None = None
    chosen_on: Part = "all"
    claimed_on: Part = "all"
    rivals: list[ConfigGroup] = field(default_factory=list)
    greedier: list[ConfigGroup] = field(default_factory=list)


def choose(study: Study) -> Choice:
    """Most task gain among the settings shown to be inside the retention budget.

    Where none is shown to be, among those whose loss is not shown to be beyond it and is estimated
    to be inside.
    """
    settings = [s for s in study.measured if (w := shown(s)).gain and w.kept]
    if len({task_of(s) for s in study.measured} - {None}) > 1:
        return Choice("different")
    if not settings:
        return Choice("unmeasured")
    halved = all(
        shown(s, part).gain and shown(s, part).kept
        for s in settings
        for part in ("select", "report")
    )
    on: Part = "select" if halved else "all"
    seen = {s.number: shown(s, on) for s in settings}
    how = "retained"
    eligible = [s for s in settings if _inside(s, seen[s.number])]
    if not eligible:
        how, eligible = "unsettled", [s for s in settings if _perhaps(seen[s.number])]
    if not eligible:
        return Choice("nothing", chosen_on=on, claimed_on=on)

    def gain(setting: ConfigGroup) -> float:
        found = seen[setting.number].gain
        assert found is not None
        return found.value

    best = max(eligible, key=gain)
    return Choice(
        how,
        best,
        max(best.runs, key=lambda run: gain_of(run, on)),
        on,
        "report" if halved else "all",
        _close([s for s in eligible if s is not best], best, seen),
        sorted([s for s in settings if s not in eligible and gain(s) > gain(best)], key=gain)[::-1],
    )


def task_of(setting: ConfigGroup) -> tuple[str, str, bool] | None:
    """What a setting's task is measured in."""
    tasks = [run.task for run in setting.runs if run.task is not None]
    return (tasks[0].metric, tasks[0].unit, tasks[0].higher_is_better) if tasks else None


def gain_of(run: RunRecord, part: Part) -> float:
    """One run's task gain."""
    task = half_of(run, part).task
    if task is None or task.delta is None:
        return float("-inf")
    return phrases.gain(task.delta, task.higher_is_better) or 0.0


def _inside(setting: ConfigGroup, seen: GroupStats) -> bool:
    loose = any(
        run.suite_verdict is not None and run.suite_verdict.accept == "not_forgotten"
        for run in setting.runs
    )
    return seen.verdict == "retained" or (loose and seen.verdict in ("slipped", "inconclusive"))


def _perhaps(seen: GroupStats) -> bool:
    if seen.kept is None or seen.epsilon is None:
        return False
    return seen.verdict != "forgotten" and seen.kept.value > -seen.epsilon


def _close(
    others: Sequence[ConfigGroup], best: ConfigGroup, seen: dict[int, GroupStats]
) -> list[ConfigGroup]:
    top = seen[best.number].gain
    assert top is not None
    close = []
    for setting in others:
        gain = seen[setting.number].gain
        if gain is not None and not separable(gain, top):
            close.append(setting)
    return close


def front(study: Study) -> dict[int, Mark]:
    """Each setting's place among the others, by number, on all items.

    `front`: none learned more and kept more. `tied`: behind one of the front, but not separably on
    either axis. `behind`: separably worse than a setting of the front that is no worse elsewhere.
    """
    placed: dict[int, tuple[Estimate, Estimate]] = {}
    for setting in study.measured:
        seen = shown(setting)
        if seen.gain is not None and seen.kept is not None:
            placed[setting.number] = (seen.gain, seen.kept)
    best = [n for n, (g, k) in placed.items() if not _beaten(g, k, placed.values())]
    marks: dict[int, Mark] = {}
    for number, (gain, kept) in placed.items():
        if number in best:
            marks[number] = "front"
            continue
        over = [
            placed[n]
            for n in best
            if placed[n][0].value >= gain.value and placed[n][1].value >= kept.value
        ]
        clear = any(separable(g, gain) or separable(k, kept) for g, k in over)
        marks[number] = "behind" if clear else "tied"
    return marks


def _beaten(gain: Estimate, kept: Estimate, placed: Iterable[tuple[Estimate, Estimate]]) -> bool:
    """Whether another is at least as good on both axes, and better on one."""
    return any(
        g.value >= gain.value
        and k.value >= kept.value
        and (g.value, k.value) != (gain.value, kept.value)
        for g, k in placed
    )
