"""Base against tuned, task by task and as a suite: the rows every report of retention shows.

What belongs here: pairing two measurements, the verdict of each task adjusted for the others, and
the verdict on their mean. Training, `evaluate` and the dial all call `compare`. Arrays in, rows of
the run record out; the statistics are in `retention/statistics/paired.py`.

How the verdicts of several tasks are adjusted for each other is in
`retention/statistics/multiple_testing.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from myosotis.records.schema import RetentionRow, SuiteVerdict
from myosotis.records.verdict import (
    MIN_CLUSTERS,
    MIN_ITEMS,
    OPEN,
    DetectableEffect,
    verdict_of,
)
from myosotis.retention.benchmarks.scores import TaskScores, tasks_in_mean
from myosotis.retention.budget import Budget, chance_corrected, detectable_effect
from myosotis.retention.statistics.multiple_testing import Judged, items_to_settle, judge
from myosotis.retention.statistics.paired import (
    LEVEL,
    Paired,
    holm,
    mcnemar_midp,
    mean_clusters,
    mean_interval,
    minimum_detectable_effect,
)
from myosotis.retention.statistics.pairing import Pair, ece
from myosotis.utils.errors import DataError


class Comparison(NamedTuple):
    """The rows in the order of the base's tasks; no suite where no task is accuracy-like."""

    rows: list[RetentionRow]
    suite: SuiteVerdict | None


def compare(
    base_tasks: Mapping[str, TaskScores],
    tuned_tasks: Mapping[str, TaskScores],
    budget: Budget | None = None,
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Comparison:
    """Compare two measurements of the same items.

    Items are paired by their ids. Intervals and verdicts are at `level`. Raises `DataError` naming
    what differs when the two did not measure the same tasks, metrics or items.
    """
    budget = budget or Budget()
    if set(base_tasks) != set(tuned_tasks):
        odd = sorted(set(base_tasks) ^ set(tuned_tasks))
        raise DataError(f"Only one of the two models was measured on: {', '.join(odd)}.")
    pairs = [Pair.of(name, base_tasks[name], tuned_tasks[name], seed) for name in base_tasks]
    plain = [pair.at(level) for pair in pairs]
    epsilons = [budget.epsilon(p.base, pair.name) for pair, p in zip(pairs, plain, strict=True)]
    mcnemar = [_mcnemar(pair, p) for pair, p in zip(pairs, plain, strict=True)]
    adjusted = holm([p.p if m is None else m for p, m in zip(plain, mcnemar, strict=True)])
    judged = judge([pair.at for pair in pairs], epsilons, level)
    columns = zip(pairs, plain, epsilons, judged, mcnemar, adjusted, strict=True)
    inside = tasks_in_mean(base_tasks)
    rows = [
        _row(pair, p, epsilon, verdict, mid_p, p_holm, pair.name in inside)
        for pair, p, epsilon, verdict, mid_p, p_holm in columns
    ]
    like = [
        (p, epsilon, pair.name)
        for pair, p, epsilon in zip(pairs, plain, epsilons, strict=True)
        if pair.name in inside
    ]
    if not like:
        return Comparison(rows, None)
    outside = {pair.name for pair in pairs if not pair.base.accuracy_like}
    silent = {pair.name for pair in pairs if pair.base.nothing_to_lose}
    speaking = [row for row in rows if row.task not in silent]
    return Comparison(rows, _with_tasks(_suite(like, budget, level), speaking, budget, outside))


def reachable_verdicts(
    base_tasks: Mapping[str, TaskScores], budget: Budget | None = None
) -> list[DetectableEffect]:
    """Which verdicts these items can reach, known once the base is measured: accuracy-like tasks,
    then (where there are several) their mean. Other scores vary in ways not known beforehand."""
    budget = budget or Budget()
    like = {name: base_tasks[name] for name in tasks_in_mean(base_tasks)}
    found = [
        detectable_effect(
            name, len(task.items), budget.epsilon(task.mean, name), tasks=len(base_tasks)
        )
        for name, task in like.items()
    ]
    if len(like) > 1:
        # As many items in one task would give the mean the same standard error.
        alike = len(like) ** 2 / sum(1 / len(task.items) for task in like.values())
        epsilon = budget.epsilon_of_mean({name: task.mean for name, task in like.items()})
        found.append(detectable_effect("suite mean", round(alike), epsilon, pooled=len(like)))
    return found


def _row(
    pair: Pair,
    p: Paired,
    epsilon: float,
    judged: Judged,
    mcnemar: float | None,
    adjusted: float,
    in_mean: bool,
) -> RetentionRow:
    flips, sure = pair.discordant, pair.p_gold()
    wider = p if judged.level == p.level else pair.at(judged.level)
    return RetentionRow(
        task=pair.name,
        metric=pair.base.metric,
        higher_is_better=pair.base.higher_is_better,
        chance=pair.base.chance,
        n=p.n,
        items_of=pair.base.items_of,
        base=p.base,
        tuned=p.tuned,
        delta=p.delta,
        se=p.se,
        lo=p.lo,
        hi=p.hi,
        mde=p.mde,
        epsilon=epsilon,
        verdict=judged.verdict.value,
        p_mcnemar=mcnemar,
        p_holm=adjusted,
        needed_items=judged.needed_items and judged.needed_items.fewest,
        needed_items_most=judged.needed_items and judged.needed_items.most,
        p_gold_base=sure and sure.base,
        p_gold_tuned=sure and sure.tuned,
        p_gold_delta=sure and sure.delta,
        p_gold_lo=sure and sure.lo,
        p_gold_hi=sure and sure.hi,
        right_to_wrong=flips and flips[0],
        wrong_to_right=flips and flips[1],
        note=" ".join(_notes(pair, p, epsilon, judged, in_mean)),
        ece_base=ece(pair.base),
        ece_tuned=ece(pair.tuned),
        epsilon_above_chance=chance_corrected(epsilon, p.base, pair.base.chance),
        adjusted_lo=wider.lo,
        adjusted_hi=wider.hi,
    )


def _mcnemar(pair: Pair, p: Paired) -> float | None:
    """McNemar's p of 0/1 scores: mid-p, or of clusters and strata the one that their interval
    inverts."""
    if (flips := pair.discordant) is None:
        return None
    simple = p.clusters == p.n and pair.base.strata is None
    return mcnemar_midp(*flips) if simple else p.p


def _notes(pair: Pair, p: Paired, epsilon: float, judged: Judged, in_mean: bool) -> list[str]:
    """What a reader must know beside the numbers of a row, in plain words."""
    notes = [said] if (said := pair.base.note) else []
    if p.n < MIN_ITEMS:
        notes.append(f"Fewer than {MIN_ITEMS} items: too few for a verdict.")
    elif p.effective_clusters < MIN_CLUSTERS:
        notes.append(_few_clusters(p.effective_clusters))
    elif (alone := verdict_of(*p.gain, epsilon)) != judged.verdict:
        notes.append(
            f"This interval alone would say {alone}; adjusted for the other tasks (Holm) it is "
            f"{judged.verdict}."
        )
    if p.clusters < p.n:
        notes.append(
            f"{p.n} items share {p.clusters} passages or subjects, which widens the interval."
        )
    if pair.base.strata is not None:
        notes.append(
            "Items of which the base was unsure are asked more often, and count for less in return."
        )
    if pair.base.at_chance:
        notes.append(
            "The base is within noise of chance: this task can hardly show a loss"
            + (", as no other here can." if in_mean else ", and is not in the mean.")
        )
    if pair.base.nothing_to_lose:
        notes.append(
            f"The base does this on {pair.base.primary.sum():.0f} of {p.n} items: there is next to "
            "nothing to lose, and the verdict of the whole does not wait for it."
        )
    notes += _format(pair)
    sure = pair.p_gold()
    if sure is not None and sure.lo <= 0 <= sure.hi:
        return notes
    if (even := pair.p_gold_tempered()) is not None:  # p_gold moved: did more than confidence?
        notes.append(
            "At each model's best temperature p_gold changed by "
            f"{even.delta:+.4f} ({even.lo:+.4f} to {even.hi:+.4f})."
        )
    return notes


def _few_clusters(effective: float) -> str:
    return (
        f"The passages or subjects that the items share are worth {effective:.1f} of equal size: "
        f"fewer than {MIN_CLUSTERS} are too few for a verdict."
    )


def _format(pair: Pair) -> list[str]:
    """Of written answers: whether there was an answer to read, apart from whether it was right."""
    if (read := pair.compare_metric("answered")) is None:
        return []
    notes = [
        f"An answer could be read in {read.base:.1%} of the base's texts and {read.tuned:.1%} of "
        f"the tuned model's ({read.delta:+.1%}, {read.lo:+.1%} to {read.hi:+.1%}): the rest has "
        "lost the format, whatever it knows."
    ]
    for name in pair.base.scores:
        metric, _, reading = name.partition(",")
        if (
            reading
            and metric == pair.base.metric
            and (other := pair.compare_metric(name)) is not None
        ):
            notes.append(
                f"Read by {reading}, {metric} is {other.base:.1%} and {other.tuned:.1%} "
                f"({other.delta:+.1%}, {other.lo:+.1%} to {other.hi:+.1%})."
            )
    return notes


def _needed_note(tasks: int) -> str:
    """What the number of items that would settle the mean stands for."""
    of = f" of all {tasks} tasks together, in the proportions measured," if tasks > 1 else ""
    return (
        f"The items needed are{of} for a model that lost nothing (or twice the budget), and for "
        "one that changed as measured."
    )


def _with_tasks(
    suite: SuiteVerdict, rows: Sequence[RetentionRow], budget: Budget, outside: Collection[str]
) -> SuiteVerdict:
    """The verdict with those of the tasks that count by themselves (`Budget.worst`)."""
    verdicts = {row.task: row.verdict for row in rows}
    said, worse = budget.worst(suite.verdict, verdicts, outside)
    if not worse:
        return suite
    note = (
        f"The mean alone is {suite.verdict}; what counts is {', '.join(worse)}, which has a budget "
        "of its own or is forgotten outside the mean."
    )
    return replace(suite, verdict=said, note=f"{suite.note} {note}".strip())


def _suite(like: Sequence[tuple[Paired, float, str]], budget: Budget, level: float) -> SuiteVerdict:
    """The mean change over the tasks of `tasks_in_mean`: each counts alike, as does its budget."""
    found, epsilons, names = (list(column) for column in zip(*like, strict=True))
    k = len(found)
    delta, base = (float(np.mean([getattr(p, name) for p in found])) for name in ("delta", "base"))
    lo, hi = mean_interval(found)
    clusters = mean_clusters(found)
    se = float(np.sqrt(sum(p.se**2 for p in found))) / k
    epsilon = float(np.mean(epsilons))
    total, needed, note = sum(p.n for p in found), None, ""
    said = verdict_of(lo, hi, epsilon, total, clusters)
    if total < MIN_ITEMS:
        note = f"Fewer than {MIN_ITEMS} items: too few for a verdict."
    elif clusters < MIN_CLUSTERS:
        note = _few_clusters(clusters)
    elif said in OPEN:
        binary = all(p.binary for p in found)
        needed = items_to_settle(total, se, delta + epsilon, epsilon, level, binary=binary)
        note = _needed_note(k) if needed else ""
    return SuiteVerdict(
        delta=delta,
        lo=lo,
        hi=hi,
        epsilon=epsilon,
        verdict=said.value,
        base=base,
        tuned=base + delta,
        mde=minimum_detectable_effect(se),
        needed_items=needed and needed.fewest,
        needed_items_most=needed and needed.most,
        tasks=names,
        budget=budget.fraction if not budget.tasks else None,
        accept=budget.accept,
        note=note,
        mean_verdict=said.value,
    )
