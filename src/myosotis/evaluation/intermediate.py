"""What the benchmarks say while a model trains: one look, as rows, a verdict and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from myosotis.evaluation import results
from myosotis.records.schema import CurvePoint, RetentionRow, SuiteVerdict
from myosotis.records.verdict import Verdict
from myosotis.retention.benchmarks.measure import TreeScorer
from myosotis.retention.benchmarks.scores import Measurement, tasks_in_mean
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.budget import Budget
from myosotis.retention.sequential_eval import SequentialResult, spent, until_settled
from myosotis.utils.console import progress

ALARM = "forgetting/alarm"
ASKED, SAVED = "cost/look_items", "cost/look_items_saved"


class IntermediateEval(NamedTuple):
    """One look at the benchmarks: a row a task, the verdict on their mean, what is logged, and what
    speaks of a loss (`sequential_eval.signs`)."""

    rows: list[RetentionRow]
    suite: SuiteVerdict | None
    metrics: dict[str, float]
    signs: tuple[str, ...]


def look(
    suite: Suite,
    scorer: TreeScorer,
    base: Measurement,
    budget: Budget,
    *,
    floor: int | None,
    ceiling: int | None,
    cheap: bool = False,
    evaluations: int = 1,
) -> IntermediateEval:
    """Measure the weights as they are now, until the verdict is settled
    (`sequential_eval.until_settled`).

    Without a `floor` everything is asked at once, and the verdict is that of a final measurement. A
    `cheap` look asks the floor, and goes on where that speaks of a loss. Of so many `evaluations`
    of a training, "forgotten" is said at a level that holds for all of them together.
    """
    with progress("benchmarks, while training", total=len(suite.items)) as advance:
        items = len(suite.items) if floor is None else floor
        found = until_settled(
            suite,
            scorer,
            base,
            budget,
            floor=items,
            ceiling=ceiling,
            cheap=cheap,
            evaluations=evaluations,
            advance=advance,
        )
    rows, verdict = results.retention_rows(found.base, found.now, budget)
    if floor is not None and verdict is not None and found.interval is not None:
        verdict = _at_every_look(verdict, found, evaluations)
    elif verdict is not None and verdict.verdict == Verdict.FORGOTTEN and evaluations > 1:
        level = spent(evaluations)
        _, sure = results.retention_rows(found.base, found.now, budget, level=level)
        verdict = _at_every_evaluation(verdict, sure, evaluations)
    forgetting = results.forgetting_metrics(rows, verdict)
    asked = {ASKED: float(found.items), SAVED: float(found.saved)}
    metrics = {
        **_levels(base, rows, verdict),
        **forgetting,
        **asked,
        ALARM: float(bool(found.signs)),
    }
    return IntermediateEval(rows, verdict, metrics, found.signs)


def _at_every_look(plain: SuiteVerdict, found: SequentialResult, evaluations: int) -> SuiteVerdict:
    """The verdict from the interval that holds at all looks together."""
    assert found.interval is not None
    note = (
        f"{found.items} of {found.items_of} items asked; the interval holds at all planned looks "
        "together."
    )
    if evaluations > 1:
        note += f" {_spending(evaluations)}"
    return dataclasses.replace(
        plain,
        lo=found.interval[0],
        hi=found.interval[1],
        epsilon=found.epsilon,
        verdict=found.verdict.value,
        note=note,
    )


def _at_every_evaluation(
    plain: SuiteVerdict, sure: SuiteVerdict | None, evaluations: int
) -> SuiteVerdict:
    """The verdict "forgotten" where that is also said at the level of all evaluations together, and
    otherwise "slipped": measurably worse, not surely beyond the budget."""
    if sure is not None and sure.verdict == Verdict.FORGOTTEN:
        return plain
    note = f"{plain.note} {_spending(evaluations)}".strip()
    return dataclasses.replace(plain, verdict=Verdict.SLIPPED.value, note=note)


def _spending(evaluations: int) -> str:
    return (
        f"“Forgotten” is said at a level that holds for all {evaluations} evaluations of the "
        "training."
    )


def _levels(
    base: Measurement, rows: list[RetentionRow], suite: SuiteVerdict | None
) -> dict[str, float]:
    """`retention/<task>` and `retention/mean`: the base's score on all items plus the change.

    The change is paired, on the items asked; so curves do not jump where fewer were asked.
    """
    found = {f"retention/{row.task}": base[row.task].mean + (row.delta or 0.0) for row in rows}
    like = [base[name].mean for name in tasks_in_mean(base.tasks)]
    if like and suite is not None:
        found["retention/mean"] = sum(like) / len(like) + (suite.delta or 0.0)
    return found


def items_asked(curves: Iterable[CurvePoint]) -> dict[str, float]:
    """For the cost of a run: benchmark items asked while training, and those that needed not be."""
    points = list(curves)
    totals = {"retention_items": ASKED, "retention_items_saved": SAVED}
    return {
        name: sum(point.value or 0.0 for point in points if point.name == look)
        for name, look in totals.items()
    }
