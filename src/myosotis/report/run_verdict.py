"""The verdict on one run, taken apart: what the mean says by itself, and what counts beside it.

What belongs here: reading a record's verdicts by the one rule (`records/verdict.py`). The sentences
are in `narrator.py`; the verdict over several seeds is in `seed_verdict.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from myosotis.records.schema import RetentionRow, RunRecord
from myosotis.records.verdict import MIN_ITEMS, OPEN, VERDICTS, verdict_of, with_tasks
from myosotis.report import phrases
from myosotis.report.seed_verdict import outside_mean, own_budgets, seed_verdict
from myosotis.report.seeds import mean_budget, over_seeds

BENCHMARKS = "the benchmarks"
"""What sentences call the mean over the benchmarks."""

MOST_SECONDS = 3e8
"""Ten years: what takes longer is no time to tell."""


def mean_verdict(record: RunRecord) -> str:
    """What the mean's own interval says, before other tasks are counted in; "" without a mean.

    Earlier versions recorded only the whole; the rule gives the mean's from its interval.
    """
    suite = record.suite_verdict
    if suite is None or suite.delta is None:
        return ""
    if suite.mean_verdict in VERDICTS:
        return suite.mean_verdict
    if suite.lo is None or suite.hi is None or suite.epsilon is None:
        return suite.verdict
    if not (suite.lo <= suite.hi and suite.epsilon >= 0):
        return ""
    counts = [row.n for row in record.retention if row.task in suite.tasks and row.n is not None]
    return verdict_of(suite.lo, suite.hi, suite.epsilon, sum(counts) if counts else None)


def mean_over_seeds(runs: Sequence[RunRecord]) -> str:
    """The mean's own verdict over seeds, before other tasks are counted in."""
    suites = [run.suite_verdict for run in runs if run.suite_verdict is not None]
    known = [s for s in suites if s.delta is not None]
    kept = over_seeds([(s.delta, s.lo, s.hi) for s in known if s.delta is not None])
    epsilon = mean_budget(s.epsilon for s in known)
    return seed_verdict([mean_verdict(run) for run in runs], kept, epsilon)


def beside_the_mean(record: RunRecord) -> list[RetentionRow]:
    """The tasks that count by themselves: outside the mean, or with a budget of their own."""
    alone = {*outside_mean([record]), *own_budgets(record)}
    return [row for row in record.retention if row.task in alone]


def worse_than_mean(record: RunRecord) -> list[RetentionRow]:
    """The tasks that made the run's verdict another than the mean's."""
    mean, suite = mean_verdict(record), record.suite_verdict
    if suite is None or mean not in VERDICTS or suite.verdict == mean:
        return []
    verdicts = {row.task: row.verdict for row in record.retention if row.verdict in VERDICTS}
    _, worse = with_tasks(mean, verdicts, own_budgets(record), outside_mean([record]))
    return [row for row in record.retention if row.task in worse]


@dataclass(frozen=True)
class ToSettle:
    """`more` items would settle what is open: `per_task` in all of each of the `tasks`; None where
    the record says no number. `seconds` is what they cost, `held` how many items a task has, `key`
    the setting that asks so many; empty for a comparison of logs, which have to be written anew.
    `too_few`: there is no verdict of so few items, whatever they say."""

    tasks: Sequence[str]
    more: int | None
    per_task: int | None = None
    seconds: float | None = None
    held: int | None = None
    too_few: bool = False
    key: str = "retention.items"

    @property
    def enough(self) -> bool:
        """Whether the tasks hold as many items as it takes."""
        return self.held is None or self.per_task is None or self.per_task <= self.held


def to_settle(record: RunRecord) -> ToSettle | None:
    """What would settle the run's verdict; None where it is settled, or was not reached."""
    suite = record.suite_verdict
    if suite is None or suite.verdict not in OPEN:
        return None
    rows = {row.task: row for row in record.retention}
    if mean_verdict(record) in OPEN:
        inside = [rows[task] for task in suite.tasks if task in rows]
        return items_of(record, inside, suite.needed_items)
    alone = [row for row in beside_the_mean(record) if row.verdict in OPEN]
    most = max(alone, key=lambda row: row.needed_items or 0, default=None)
    return items_of(record, [most], most.needed_items) if most is not None else None


def items_of(record: RunRecord, rows: Sequence[RetentionRow], needed: int | None) -> ToSettle:
    """`needed` items of `rows` together, in the proportions measured."""
    names, now = [row.task for row in rows], sum(row.n or 0 for row in rows)
    key = _key(record)
    if needed is None or not now:
        return ToSettle(names, None, too_few=0 < now < MIN_ITEMS, key=key)
    more = max(needed - now, 1)
    largest = max(row.n or 0 for row in rows)
    each = -(-needed * largest // now)
    held = [row.items_of for row in rows if row.items_of is not None]
    seconds = _seconds(record, more)
    return ToSettle(names, more, each, seconds, min(held, default=None), key=key)


def _key(record: RunRecord) -> str:
    if "compare" in record.config:
        return ""
    asked = record.config.get("retention")
    rounds = isinstance(asked, dict) and asked.get("settle") is True
    return "retention.max_items" if rounds else "retention.items"


def _seconds(record: RunRecord, items: int) -> float | None:
    """What so many more items take, base and tuned, at the speed of those that were measured."""
    measured = sum(row.n or 0 for row in record.retention)
    final = record.cost.get("final_seconds")
    if not measured or final is None:
        return None
    seconds = items / measured * (final + (record.cost.get("base_seconds") or 0.0))
    return seconds if 0 <= seconds < MOST_SECONDS else None


def measurably_worse(row: RetentionRow) -> bool:
    """Whether the whole interval lies on the side of a loss."""
    ends = [phrases.gain(end, row.higher_is_better) for end in (row.lo, row.hi)]
    return all(end is not None and end < 0 for end in ends)


def slightly_worse(record: RunRecord) -> list[str]:
    """What is measurably worse: the mean, and the tasks that count beside it."""
    suite = record.suite_verdict
    mean = [BENCHMARKS] if suite and suite.hi is not None and suite.hi < 0 else []
    worse = [row for row in beside_the_mean(record) if measurably_worse(row)]
    return [*mean, *(phrases.task_said(row.task) for row in worse)]
