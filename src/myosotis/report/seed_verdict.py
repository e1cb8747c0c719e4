"""The verdict on a setting over its seeds, and the tasks beside the mean that count in it.

What belongs here: from the records of one setting's runs to one verdict, by the rule of one run
(`records/verdict.py`). The intervals over seeds are in `seeds.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from myosotis.records.schema import RetentionRow, RunRecord
from myosotis.records.verdict import VERDICTS, Verdict, over_runs, task_name, verdict_of, with_tasks
from myosotis.report import phrases
from myosotis.report.crossed import over_items_and_seeds
from myosotis.report.seeds import Estimate, mean_budget


def seed_verdict(
    said: Sequence[str],
    kept: Estimate | None,
    epsilon: float | None,
    runs: Sequence[RunRecord] = (),
) -> str:
    """The verdict over the seeds of one setting; "" where no run has one.

    `said` are the runs' own, `kept` the change of the mean over seeds and `epsilon` its budget.
    From `runs` come the tasks that count by themselves: without them (a half of the items, of which
    a record keeps no rows) they count through what each run says.
    """
    known = [s for s in said if s in VERDICTS]
    if len(known) < 2:
        return known[0] if known else ""
    pooled = Verdict.INCONCLUSIVE
    if not (kept is None or kept.lo is None or kept.hi is None or epsilon is None or epsilon < 0):
        pooled = verdict_of(kept.lo, kept.hi, epsilon)
    rows = {row.task: row for run in runs for row in run.retention}
    verdicts = {task: task_verdict(task, runs) for task in rows}
    judged = {task: verdict for task, verdict in verdicts.items() if verdict}
    own = {name for run in runs for name in own_budgets(run)}
    whole, _ = with_tasks(pooled, judged, own, outside_mean(runs))
    return over_runs(whole, known)


def outside_mean(runs: Sequence[RunRecord]) -> list[str]:
    """The tasks in units of which there is no mean, such as bits per byte of prose. (One with a
    chance level is an accuracy: left out because its base knows nothing of it.)"""
    inside = {task for run in runs if run.suite_verdict for task in run.suite_verdict.tasks}
    rows = [row for run in runs for row in run.retention]
    return list(dict.fromkeys(row.task for row in rows if _outside(row, inside)))


def _outside(row: RetentionRow, inside: Collection[str]) -> bool:
    return bool(inside) and row.task not in inside and row.chance is None


def own_budgets(run: RunRecord) -> set[str]:
    """The tasks to which `retention.budget` gives a budget of their own."""
    budget = run.group("retention").get("budget")
    if not isinstance(budget, Mapping):
        return set()
    return {task_name(str(name)) for name in budget}


def counted_beside(runs: Sequence[RunRecord]) -> list[str]:
    """The tasks that count by themselves: outside the mean, then those with a budget of their own.
    Where there is no mean, every task."""
    named = {row.task for run in runs for row in run.retention if row.delta is not None}
    if not any(run.suite_verdict for run in runs):
        return list(dict.fromkeys(r.task for run in runs for r in run.retention if r.task in named))
    own = sorted({name for run in runs for name in own_budgets(run)})
    return [task for task in dict.fromkeys([*outside_mean(runs), *own]) if task in named]


def task_over_seeds(task: str, runs: Sequence[RunRecord]) -> Estimate | None:
    """The change of one task over seeds, turned so that a loss is negative."""
    return over_items_and_seeds(runs, [_gain(row) for row in _rows(task, runs)], [task])


def task_verdict(task: str, runs: Sequence[RunRecord]) -> str:
    """One task's verdict over seeds, by the rule of the whole."""
    rows = _rows(task, runs)
    said = [row.verdict for row in rows]
    epsilon = mean_budget(row.epsilon for row in rows)
    return seed_verdict(said, task_over_seeds(task, runs), epsilon)


def _rows(task: str, runs: Sequence[RunRecord]) -> list[RetentionRow]:
    return [
        row for run in runs for row in run.retention if row.task == task and row.delta is not None
    ]


def _gain(row: RetentionRow) -> tuple[float, float | None, float | None]:
    assert row.delta is not None
    if row.higher_is_better:
        return row.delta, row.lo, row.hi
    lo, hi = phrases.gain(row.hi, False), phrases.gain(row.lo, False)
    return -row.delta, lo, hi
