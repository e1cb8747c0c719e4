"""The dial: base and tuned model interpolated, and how strong the update may be.

θ0 + αΔθ goes from the base (α = 0) to the tuned model (α = 1). Interpolating weights often keeps
most of what was learned and recovers most of what was lost (WiSE-FT, Wortsman et al. 2022).

The strengths are held against the base on the half of the questions that chooses: validation
examples, and half of the benchmark items. The one that gains most inside the budget is then asked
the other half, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from myosotis.data.kinds import REWARD
from myosotis.evaluation import results
from myosotis.evaluation.evaluator import EvalResult, Evaluator
from myosotis.evaluation.task_metrics import METRICS
from myosotis.records.schema import DialChoice, DialPoint
from myosotis.retention.benchmarks.task import Half
from myosotis.retention.budget import Budget
from myosotis.trees.scorer import Scorer
from myosotis.updates.base import Update

GRID = (0.25, 0.5, 0.75, 1.0)
RESOLUTION = 1 / 16
"""How far the search goes: gaps beside the chosen strength are halved down to this."""


class Reading(NamedTuple):
    """What one strength showed on the half that chooses."""

    alpha: float
    gain: float  # of task quality over the base, in the metric's unit; positive is better
    inside: bool  # the verdict of the benchmarks is inside the budget


BASE = Reading(0.0, 0.0, True)
"""At α = 0 nothing is learned and nothing is lost."""


def best(readings: Sequence[Reading]) -> Reading | None:
    """The largest gain inside the budget, the weaker one of equals; None if none gains anything."""
    gaining = [r for r in readings if r.alpha > 0 and r.inside and r.gain > 0]
    return max(gaining, key=lambda r: (r.gain, -r.alpha), default=None)


def next_strength(readings: Sequence[Reading], resolution: float = RESOLUTION) -> float | None:
    """Where a better strength may hide: the middle of the wider gap beside the best one so far.

    Towards the next stronger one the verdict changes, or the gain falls. Where the gain falls, its
    peak may also lie on the weaker side; below a change of verdict it is still rising. None when
    the gaps are as narrow as `resolution`, or the strongest of all is the best.
    """
    known = sorted([BASE, *readings])
    place = known.index(best(readings) or BASE)
    weaker, stronger = known[:place][-1:], known[place + 1 :][:1]
    beside = [(r.alpha, known[place].alpha) for r in stronger]
    if stronger and stronger[0].inside:
        beside += [(r.alpha, known[place].alpha) for r in weaker]
    gaps = [(abs(a - b), (a + b) / 2) for a, b in beside if abs(a - b) > resolution]
    return max(gaps)[1] if gaps else None


def explore(
    look: Callable[[float], Reading], strengths: Sequence[float], *, refine: bool
) -> list[Reading]:
    """`look` at each of the strengths and, with `refine`, where a better one may hide."""
    readings = [look(alpha) for alpha in strengths]
    while refine and (alpha := next_strength(readings)) is not None:
        readings.append(look(alpha))
    return sorted(readings)


class Dialled(NamedTuple):
    """The strengths on the half that chooses, weakest first, and what was chosen."""

    points: list[DialPoint]
    choice: DialChoice


def turn(
    evaluator: Evaluator,
    scorer: Scorer,
    update: Update,
    base: EvalResult,
    tuned: EvalResult,
    *,
    metric: str,
    budget: Budget,
    strengths: Sequence[float],
    refine: bool,
) -> Dialled:
    """Measure θ0 + αΔθ at `strengths`, the whole update, and with `refine` where it matters.

    `base` and `tuned` (α = 1) are sittings on everything. Task gain is read in `metric`, or in the
    log-likelihood of answers where that metric is no mean, or would need texts at every strength
    (a reward is measured); where what chooses has no such metric (graded answers, of pairs taken
    apart), in the one of its own. Raises `ConfigError` when the update cannot be scaled.
    """
    kind, _ = evaluator.half_of_task("selection")
    if metric != REWARD and (
        metric not in METRICS or METRICS[metric].generates or METRICS[metric].aggregated
    ):
        metric = "loglik"
    elif metric not in kind.metrics:
        metric = kind.compared_by
    asked = {0.0: base.retention, 1.0: tuned.retention}

    def sit(alpha: float, half: Half) -> EvalResult:
        with update.scaled(alpha):
            return evaluator.sit_half(scorer, half, f"α={alpha:g}", asked.get(alpha))

    origin = sit(0.0, "selection")
    points: dict[float, DialPoint] = {}

    def look(alpha: float) -> Reading:
        read = point(alpha, metric, origin, sit(alpha, "selection"), budget)
        points[alpha] = read
        assert read.task is not None
        gain = read.task if METRICS[metric].higher_is_better else -read.task
        return Reading(alpha, gain, _inside(read, budget))

    chosen = best(explore(look, sorted({*strengths, 1.0}), refine=refine))
    choice = DialChoice(
        metric=metric,
        unit=METRICS[metric].unit,
        higher_is_better=METRICS[metric].higher_is_better,
        budget=budget.fraction,
        accept=budget.accept,
        items=sum(len(task.items) for task in evaluator.halves["report"]),
    )
    if chosen is not None:
        of_base = EvalResult(base.retention.half("report"), base.quality)
        reported = {
            alpha: point(alpha, metric, of_base, sit(alpha, "report"), budget)
            for alpha in {chosen.alpha, 1.0}
        }
        choice.alpha = chosen.alpha
        choice.reported, choice.full = reported[chosen.alpha], reported[1.0]
        choice.confirmed = _inside(choice.reported, budget)
    return Dialled([points[alpha] for alpha in sorted(points)], choice)


def point(
    alpha: float, metric: str, base: EvalResult, scaled: EvalResult, budget: Budget
) -> DialPoint:
    """Change of task quality and of the suite's mean at strength `alpha`, with intervals."""
    change = results.task_quality(base.quality[metric], scaled.quality[metric])
    rows, suite = results.retention_rows(base.retention, scaled.retention, budget)
    in_mean = suite.tasks if suite else []
    return DialPoint(
        alpha=alpha,
        task=change.delta,
        task_lo=change.lo,
        task_hi=change.hi,
        retention=suite.delta if suite else None,
        retention_lo=suite.lo if suite else None,
        retention_hi=suite.hi if suite else None,
        epsilon=suite.epsilon if suite else None,
        verdict=suite.verdict if suite else "",
        beside=[row for row in rows if row.task not in in_mean],
    )


def _inside(point: DialPoint, budget: Budget) -> bool:
    """Whether the benchmarks are inside the budget; not where they gave no verdict."""
    return bool(point.verdict) and budget.accepts(point.verdict)
