"""How the numbers of a study are written: one scale for all of its settings.

What belongs here: from estimates to text, in the task's own unit and direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from myosotis.records.schema import TaskQuality
from myosotis.report import phrases
from myosotis.report.grouping import ConfigGroup, Study
from myosotis.report.phrases import MISSING, Scale
from myosotis.report.seeds import Estimate
from myosotis.report.selection import Part, group_stats


@dataclass(frozen=True)
class Numbers:
    """Task gains and changes of the benchmarks' mean, with as many digits as the intervals bear.

    Gains are kept with better positive and are written as the change of the metric: `sign` is -1
    where lower is better.
    """

    task: Scale
    kept: Scale
    metric: str
    sign: int

    @classmethod
    def of(cls, study: Study) -> Numbers:
        """The scales of a study."""
        seen = [group_stats(group) for group in study.measured]
        tasks = [run.task for s in study.measured for run in s.runs if run.task is not None]
        task = tasks[0] if tasks else TaskQuality("")
        half = _typical([s.gain for s in seen])
        kept = _typical([s.kept for s in seen])
        return cls(
            phrases.scale(task.metric, task.unit, -half, half),
            phrases.scale("acc", "", -kept, kept),
            task.metric,
            1 if task.higher_is_better else -1,
        )

    def gain(self, found: Estimate | None) -> str:
        return MISSING if found is None else self.task.change(self.sign * found.value)

    def gain_interval(self, found: Estimate | None) -> str:
        if found is None or found.lo is None or found.hi is None:
            return "" if found is None else "no interval"
        ends = sorted((self.sign * found.lo, self.sign * found.hi))
        return phrases.interval(self.task, *ends)

    def loss(self, found: Estimate | None) -> str:
        """The change of the mean accuracy, in points."""
        return MISSING if found is None else self.kept.change(found.value)

    def loss_interval(self, found: Estimate | None) -> str:
        return "" if found is None else phrases.interval(self.kept, found.lo, found.hi)

    @property
    def unit(self) -> str:
        """What a change of the task is counted in."""
        return self.task.of

    def said(self, group: ConfigGroup, part: Part = "all") -> str:
        """A setting in a phrase, for tooltips and screen readers."""
        seen = group_stats(group, part)
        return (
            f"{group.label}: task {self.gain(seen.gain)} ({self.gain_interval(seen.gain)}), "
            f"benchmarks {self.loss(seen.kept)} points ({self.loss_interval(seen.kept)})"
        )


def _typical(found: Sequence[Estimate | None]) -> float:
    """The median half-width of the intervals; without any, of the values' range."""
    halves = [f.hi / 2 - f.lo / 2 for f in found if f and f.lo is not None and f.hi is not None]
    if halves:
        return median(halves)
    values = [abs(f.value) for f in found if f]
    return max(values, default=0.0) / 5
