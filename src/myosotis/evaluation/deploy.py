"""What tuning gained in and out of the distribution of the training data.

Held-out examples are drawn as the training data were; what the model will see is not. The gain on a
sample of that, beside the gain on held-out examples, is what can be hoped for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from myosotis.evaluation.results import task_quality
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.records.schema import DeployResult, TaskQuality
from myosotis.retention.statistics.paired import paired

FEWEST_OF_GROUP = 5


def deploy_result(
    inside: TaskQuality, base: TaskScore, tuned: TaskScore, groups: Sequence[str | None]
) -> DeployResult:
    """The gain on what the model will see, against the gain `inside` on held-out examples.

    `groups` names the group of each example, or None; the worst is the one that gained least.
    """
    outside = task_quality(base, tuned)
    found = DeployResult(outside=outside)
    if None not in (inside.delta, inside.lo, inside.hi, outside.delta, outside.lo, outside.hi):
        found.gap, found.gap_lo, found.gap_hi = _gap(inside, outside)
    found.warning = _vanished(inside, outside)
    if tuned.aggregate is None:
        _worst(found, base, tuned, groups)
    return found


def _gap(inside: TaskQuality, outside: TaskQuality) -> tuple[float, float, float]:
    """outside - inside with its 95 % interval: of two samples that share no example, each with its
    own (MOVER, Zou & Donner 2008)."""
    a, a_lo, a_hi = (float(x or 0.0) for x in (outside.delta, outside.lo, outside.hi))
    b, b_lo, b_hi = (float(x or 0.0) for x in (inside.delta, inside.lo, inside.hi))
    gap = a - b
    return gap, gap - math.hypot(a - a_lo, b_hi - b), gap + math.hypot(a_hi - a, b - b_lo)


def _gain(row: TaskQuality) -> tuple[float, float]:
    """The interval turned so that more is better."""
    lo, hi = float(row.lo or 0.0), float(row.hi or 0.0)
    return (lo, hi) if row.higher_is_better else (-hi, -lo)


def _vanished(inside: TaskQuality, outside: TaskQuality) -> str:
    """A sentence where there is a gain inside and none is shown outside."""
    if _gain(inside)[0] <= 0 or _gain(outside)[0] > 0:
        return ""
    worse = _gain(outside)[1] < 0
    said = "is worse than the base" if worse else "is not shown to be better than the base"
    return (
        f"The gain on held-out examples ({inside.metric} {inside.delta:+.3g}) is not there on what "
        f"the model will see (data.deploy): there it {said} ({outside.delta:+.3g}, "
        f"{outside.lo:+.3g} to {outside.hi:+.3g}, n={outside.n})."
    )


def _worst(
    found: DeployResult, base: TaskScore, tuned: TaskScore, groups: Sequence[str | None]
) -> None:
    """The group that gained least, its interval wide enough for having been picked (Bonferroni)."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(groups[: len(tuned.scores)]):
        if name is not None:
            places.setdefault(name, []).append(i)
    known = {name: at for name, at in places.items() if len(at) >= FEWEST_OF_GROUP}
    if len(known) < 2:
        return
    sign = 1 if tuned.higher_is_better else -1
    change = sign * (tuned.scores - base.scores)
    worst = min(known, key=lambda name: float(np.mean(change[known[name]])))
    at = known[worst]
    row = paired(
        base.scores[at],
        tuned.scores[at],
        higher_is_better=base.higher_is_better,
        level=1 - 0.05 / len(known),
    )
    found.worst_group, found.groups = worst, len(known)
    found.worst = TaskQuality(
        metric=base.metric,
        higher_is_better=base.higher_is_better,
        base=row.base,
        tuned=row.tuned,
        n=row.n,
        delta=row.delta,
        lo=row.lo,
        hi=row.hi,
        unit=base.unit,
    )
