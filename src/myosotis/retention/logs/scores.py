"""From matched logs to the measurements that `retention/compare.py` takes, and to the flips.

What belongs here: which tasks make one row (the members of a group that the log pools, each a
cluster), which metric a row rests on, and where the log-probs of choices say how sure a model was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from myosotis.records.schema import Flip
from myosotis.retention.benchmarks.scores import TaskScores
from myosotis.retention.benchmarks.task import PRIMARY
from myosotis.retention.flips import in_turn
from myosotis.retention.logs.log import ItemText, LoggedItem, accuracy_like, primary
from myosotis.retention.logs.match import COMMON, Matched, Pair
from myosotis.retention.statistics import calibration
from myosotis.utils.errors import DataError


class Entry(NamedTuple):
    """One item of a row: its name there, the task it is of, and what both models made of it."""

    id: str
    member: str
    base: LoggedItem
    tuned: LoggedItem


@dataclass
class Row:
    """One row of the comparison."""

    name: str
    metric: str
    higher_is_better: bool
    entries: list[Entry]
    members: Mapping[str, Pair]
    by_member: bool = False  # its items are clustered by the task they are of


@dataclass
class Measured:
    """Both models' scores by row, what flipped, and what to say of it."""

    base: dict[str, TaskScores] = field(default_factory=dict)
    tuned: dict[str, TaskScores] = field(default_factory=dict)
    flips: list[Flip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def measured(
    found: Matched,
    metrics: Sequence[str] = (),
    *,
    common: bool = False,
    by_member: bool = True,
) -> Measured:
    """The rows of two matched logs. `metrics` are the wanted ones, the first that a row has. The
    members of a group are its clusters, unless `by_member` is false: then those of the logs.

    Raises `ConfigError` where a row has none of them, `DataError` where an item has no score; with
    `common` such items are left out, and counted.
    """
    done, flipped = Measured(), []
    for name, members in _rows(found.tasks).items():
        row = _row(name, members, metrics, done.notes, common=common)
        row.by_member = by_member and len(members) > 1
        done.base[name], done.tuned[name] = _scores(row)
        flipped.append(list(_flips(row)))
    done.flips = [_flip(row, entry) for row, entry in in_turn(flipped)]
    return done


def _rows(tasks: Mapping[str, Pair]) -> dict[str, dict[str, Pair]]:
    """Tasks by the row they belong to: a group of both logs whose members share a metric is one."""
    groups: dict[str, dict[str, Pair]] = {}
    for name, pair in tasks.items():
        group = pair.base.group if pair.base.group == pair.tuned.group else ""
        groups.setdefault(group, {})[name] = pair
    alone = groups.pop("", {})
    for group in list(groups):
        members = groups[group]
        first = next(iter(members.values())).base
        alike = {tuple(m for m in PRIMARY if m in pair.base.metrics) for pair in members.values()}
        if len(members) == 1 or len(alike) > 1 or group in tasks or not first.metrics:
            alone |= groups.pop(group)
    return {name: {name: pair} for name, pair in alone.items()} | groups


def _row(
    name: str,
    members: Mapping[str, Pair],
    metrics: Sequence[str],
    notes: list[str],
    *,
    common: bool,
) -> Row:
    metric = primary(members, metrics)
    entries, without = [], []
    for member, pair in members.items():
        for key, item in pair.base.items.items():
            label = f"{member}/{key}" if len(members) > 1 else key
            entry = Entry(label, member, item, pair.tuned.items[key])
            scored = metric in item.scores and metric in entry.tuned.scores
            (entries if scored else without).append(entry)
    if without:
        said = (
            f"{name}: {len(without)} of {len(entries) + len(without)} items have no {metric} in "
            f"both logs, e.g. item {without[0].id[:60]}."
        )
        if not common or not entries:
            raise DataError(said, COMMON if entries else "")
        notes.append(f"{said} Left out (--common).")
    first = next(iter(members.values())).base
    return Row(name, metric, first.higher_is_better(metric), entries, members)


# ---------------------------------------------------------------------------- scores


def _scores(row: Row) -> tuple[TaskScores, TaskScores]:
    sides = [[entry.base for entry in row.entries], [entry.tuned for entry in row.entries]]
    chance = _chance(row)
    known = all(_choices_hold(row.metric, side) for side in sides)
    base, tuned = (_side(row, side, chance, known) for side in sides)
    return base, tuned


def _side(row: Row, items: Sequence[LoggedItem], chance: float | None, known: bool) -> TaskScores:
    values = [item.scores[row.metric] for item in items]
    kept = [item.logp if known else () for item in items]
    scores = {row.metric: np.array(values)}
    for name in ("p_gold", "answered"):
        if all(name in item.scores for item in items) and name != row.metric:
            scores[name] = np.array([item.scores[name] for item in items])
    for name in {m for item in items[:1] for m in item.scores if m.startswith(f"{row.metric},")}:
        if all(name in item.scores for item in items):
            scores[name] = np.array([item.scores[name] for item in items])
    gold = np.array([item.gold[0] if item.gold else -1 for item in items], np.int64)
    logp = np.array([value for values in kept for value in values])
    lengths = np.array([n for item in items if known for n in item.lengths])
    offsets = np.cumsum([0, *map(len, kept)]).astype(np.int64)
    if known:
        normalised = calibration.by_choice(logp / lengths, offsets)
        scores["p_gold"] = calibration.p_gold(normalised, gold)
    sizes = [side.population for pair in row.members.values() for side in pair[:1]]
    population = sum(size for size in sizes if size) if all(sizes) else len(items)
    return TaskScores(
        task=row.name,
        metric=row.metric,
        higher_is_better=row.higher_is_better,
        accuracy_like=_accuracy_like(row),
        chance=chance,
        items_of=max(population, len(items)),
        note="",
        identity={},
        items=[entry.id for entry in row.entries],
        clusters=_clusters(row),
        halves=["report"] * len(items),
        aggregates={},
        scores=scores,
        weights=np.array([item.weight for item in items]),
        choice=np.array([_choice(row.metric, item, known) for item in items], np.int64),
        gold=gold,
        logp=logp,
        lengths=lengths,
        offsets=offsets,
    )


def _accuracy_like(row: Row) -> bool:
    values = [side.scores[row.metric] for entry in row.entries for side in entry[2:]]
    return accuracy_like(row.metric, row.higher_is_better, values)


def _clusters(row: Row) -> list[str | None]:
    """The member of a group, else what the log says; clusters that no two items share are none."""
    named = [entry.member if row.by_member else entry.base.cluster for entry in row.entries]
    return list(named) if len(set(named)) < len(named) else [None] * len(named)


def _chance(row: Row) -> float | None:
    """The score of guessing: one over the choices, 0 for an answer in words; None where unknown."""
    given = [pair.base.chance for pair in row.members.values()]
    if given[0] is not None:
        return given[0]
    shares = [
        max(len(entry.base.gold), 1) / len(entry.base.logp) if entry.base.logp else 0.0
        for entry in row.entries
    ]
    if row.metric in ("acc", "acc_norm") and all(shares):
        return math.fsum(shares) / len(shares)
    return 0.0 if row.metric.partition(",")[0] == "exact_match" and not any(shares) else None


def _choices_hold(metric: str, items: Sequence[LoggedItem]) -> bool:
    """Whether log-probs, lengths and right answers, as they were read, give the very scores that
    the log has: only then is more made of them."""
    checked = [name for name in ("acc", "acc_norm") if all(name in i.scores for i in items)]
    if not checked or metric not in ("acc", "acc_norm"):
        return False
    for item in items:
        if len(item.gold) != 1 or len(item.logp) != len(item.lengths) or len(item.logp) < 2:
            return False
        for name in checked:
            if (_best(name, item) in item.gold) != (item.scores[name] == 1):
                return False
    return True


def _best(metric: str, item: LoggedItem) -> int:
    """The first of the likeliest choices, as `argmax` of lm-eval takes it."""
    by = item.lengths if metric == "acc_norm" else (1.0,) * len(item.logp)
    values = [logp / length for logp, length in zip(item.logp, by, strict=True)]
    return values.index(max(values))


def _choice(metric: str, item: LoggedItem, known: bool) -> int:
    return _best(metric, item) if known else item.choice


# ---------------------------------------------------------------------------- flips


def _flips(row: Row) -> Iterable[tuple[Row, Entry]]:
    """Items answered right by the base and wrong by the tuned model."""
    for entry in row.entries:
        if entry.base.scores[row.metric] == 1 and entry.tuned.scores[row.metric] == 0:
            yield row, entry


def _flip(row: Row, entry: Entry) -> Flip:
    """With its texts; of written answers the two stand in place of choices."""
    shown = [ItemText() if side.text is None else side.text() for side in (entry.base, entry.tuned)]
    was, now = (_taken(row.metric, side) for side in (entry.base, entry.tuned))
    choices = list(shown[0].choices)
    if not choices and any(text.answer for text in shown):
        choices, was, now = [text.answer for text in shown], 0, 1
    places = range(len(choices))
    return Flip(
        task=row.name,
        item=entry.id,
        prompt=shown[0].prompt,
        choices=choices,
        gold=was if was in places else None,  # the base was right
        base_choice=was if was in places else None,
        tuned_choice=now if now in places else None,
    )


def _taken(metric: str, item: LoggedItem) -> int:
    if item.choice >= 0:
        return item.choice
    return _best(metric, item) if item.logp and len(item.logp) == len(item.lengths) else -1
