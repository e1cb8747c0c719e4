"""The first screen of a run: task, benchmarks and general text as strips on one baseline.

What belongs here: which numbers stand there, and on which scale. What is measured against a budget
is drawn in shares of it, so that the budget lies at one place in every strip; what was learned has
no budget, and a scale of its own from the same zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from myosotis.records.schema import RetentionRow, RunRecord
from myosotis.report import intervals, phrases
from myosotis.report.figure import Figure
from myosotis.report.phrases import Scale
from myosotis.report.run_verdict import beside_the_mean, mean_verdict
from myosotis.report.svg.forest import Cell, Forest
from myosotis.report.svg.marks import Axis
from myosotis.report.svg.strips import SAME_SHAPE, Bar, interval_strip


@dataclass(frozen=True)
class _Measure:
    """One strip before it is drawn; `scale` writes its changes, `sign` is -1 if less is better."""

    name: str
    what: str
    bar: Bar
    scale: Scale
    sign: int
    words: str  # its verdict, or what the interval says of the task
    moved: str

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The interval as changes of the metric."""
        ends = (self.bar.lo, self.bar.hi)
        lo, hi = (None if end is None else self.sign * end for end in ends)
        return (lo, hi) if self.sign > 0 else (hi, lo)


def overview(record: RunRecord) -> dict[str, Any] | None:
    """The strips with their numbers; None where nothing was measured against the base."""
    task, kept = _task(record), [*_mean(record), *map(_benchmark, _beside(record))]
    if not kept and task is None:
        return None
    in_budgets = [m.bar.scaled(_per_budget(m.bar)) for m in kept]
    axis = _axis(in_budgets)
    scaled = [(m, _per_budget(m.bar)) for m in kept]
    if task is not None:
        scaled.insert(0, (task, _fitting(task.bar, axis)))
    cells = [
        (m, Cell(m.bar, axis, _change(m), phrases.interval(m.scale, *m.ends), m.scale.of, by))
        for m, by in scaled
    ]
    forest = Forest("Change from the base", ["right is better"], [(m.name, [c]) for m, c in cells])
    return {
        "rows": [
            {
                "name": m.name,
                "what": m.what,
                "moved": m.moved,
                "change": cell.change,
                "of": m.scale.of,
                "interval": cell.interval,
                "budget": _budget(m),
                "words": m.words,
                "kind": SAME_SHAPE.get(m.bar.mark, m.bar.mark),
                "drawn": interval_strip(cell.drawn, axis),
            }
            for m, cell in cells
        ],
        "adjusted": any(m.bar.wide for m, _ in cells),
        "figure": Figure.of("overview", forest),
    }


def _change(measure: _Measure) -> str:
    value = measure.bar.value
    return measure.scale.change(None if value is None else measure.sign * value)


def _budget(measure: _Measure) -> str:
    """The change at which the budget ends, with its sign: `−2.4`."""
    epsilon = measure.bar.epsilon
    return "" if epsilon is None else measure.scale.change(-measure.sign * epsilon)


def _task(record: RunRecord) -> _Measure | None:
    task = record.task
    if task is None or task.delta is None:
        return None
    s, bar = phrases.task_scale(task), intervals.task_bar(task)
    words = {"better": "learned", "worse": "got worse", "same": "no change shown"}
    moved = f"{s.value(task.base)} → {s.value(task.tuned)}"
    sign = 1 if task.higher_is_better else -1
    what = phrases.label(task.metric)
    return _Measure("Task", what, bar, s, sign, words.get(bar.mark, ""), moved)


def _mean(record: RunRecord) -> list[_Measure]:
    suite, bar = record.suite_verdict, intervals.mean_bar(record)
    if suite is None or bar is None:
        return []
    s = phrases.suite_scale(suite)
    what = "accuracy" if len(suite.tasks) == 1 else f"mean accuracy of {len(suite.tasks)}"
    moved = f"{s.value(suite.base)} → {s.value(suite.tuned)}"
    return [_Measure("Benchmarks", what, bar, s, 1, mean_verdict(record), moved)]


def _beside(record: RunRecord) -> list[RetentionRow]:
    """What is in no mean and counts; without a mean, whatever was measured."""
    rows = record.retention if record.suite_verdict is None else beside_the_mean(record)
    return [row for row in rows if row.delta is not None]


def _benchmark(row: RetentionRow) -> _Measure:
    s = phrases.row_scale(row)
    name = phrases.task_title(row.task)
    what = phrases.label(row.metric) + ("" if row.higher_is_better else ", lower is better")
    moved = f"{s.value(row.base)} → {s.value(row.tuned)}"
    sign = 1 if row.higher_is_better else -1
    bar = intervals.row_bar(row)
    return _Measure(name, what, bar, s, sign, bar.mark, moved)


def _per_budget(bar: Bar) -> float:
    """What turns a bar into shares of its budget; without one, into shares of its own length."""
    longest = max((abs(end) for end in bar.ends), default=0.0)
    unit = max(bar.epsilon or longest, longest / 1e6)  # a budget of nearly nothing is no unit
    return 1 / unit if 1e-290 < unit < 1e290 else 0.0  # nor is a number beyond all measures


def _axis(bars: Sequence[Bar]) -> Axis:
    """An axis in budgets, with room on both sides of zero."""
    ends = [end for bar in bars for end in bar.ends]
    lo = min([-1.35, *(1.08 * end for end in ends)])
    hi = max([-0.75 * lo, *(1.08 * end for end in ends)])
    return Axis(lo, hi, 1, 99)


def _fitting(bar: Bar, axis: Axis) -> float:
    """What brings a bar with a scale of its own just inside the axis."""
    room = [axis.hi / end if end > 0 else axis.lo / end for end in bar.ends if abs(end) > 1e-300]
    by = 0.93 * min(room, default=1.0)
    return by if by < 1e290 else 0.0


def grey_line(record: RunRecord) -> list[str]:
    """Model, controls, data, items, seed and time: what the strips rest on."""
    settings = record.update.settings
    rank = f" r={settings['r']}" if isinstance(settings.get("r"), int) else ""
    trained = record.data.counts.get("train")
    examples = f" ({phrases.count(trained)} examples)" if trained is not None else ""
    items = [row.n for row in record.retention if row.n is not None]
    asked = ""
    if items:
        ends = dict.fromkeys((phrases.count(min(items)), phrases.count(max(items))))
        asked = f"{' to '.join(ends)} items per benchmark"
    seed = record.config.get("seed")
    seconds = record.cost.get("total_seconds") or record.cost.get("train_seconds")
    return [
        fact
        for fact in (
            record.model.id,
            f"{record.update.name}{rank}" if record.update.name else "",
            " and ".join(one.name for one in record.controls),
            f"{record.data.name}{examples}" if record.data.name else "",
            asked,
            f"seed {seed}" if isinstance(seed, int) else "",
            phrases.duration(seconds) if seconds else "",
            record.started[:10],
        )
        if fact
    ]
