"""Numbers over seeds: a mean with an interval that knows of items and of seeds.

What belongs here: the little statistics a page of many runs needs, on plain floats: no NumPy here.
Everything about one run was computed when it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Estimate:
    """A mean over `seeds` runs, with its 95 % interval where one is known."""

    value: float
    lo: float | None = None
    hi: float | None = None
    seeds: int = 1


Part = tuple[float, float | None, float | None]
"""What one run says: a value and its 95 % interval over items."""


@lru_cache(maxsize=1024)
def t_quantile(degrees: float) -> float:
    """The 97.5 % point of Student's t, by bisection of `t_tails`; at least 1 degree of freedom is
    taken. Not SciPy's, whose import would take longer than reading the records and writing the
    page: 0.4 s, with NumPy's. The tests hold it against SciPy."""
    degrees = max(degrees, 1.0)
    low, high = 1.95, 12.71
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, degrees) > 0.05 else (low, middle)
    return (low + high) / 2


def mean_budget(epsilons: Iterable[float | None]) -> float | None:
    """The mean of the budgets that are known; None without any. Divided first: a record of another
    tool may hold numbers whose sum is beyond all measures."""
    known = [epsilon for epsilon in epsilons if epsilon is not None]
    return sum(epsilon / len(known) for epsilon in known) if known else None


def over_seeds(parts: Iterable[Part]) -> Estimate | None:
    """The mean of several seeds. None without any.

    Two things make it uncertain. The seeds: t times their standard deviation over √k. The items,
    which all seeds share, so that more seeds do not help: the mean half-width of the runs' own
    intervals. Both are independent and are added in squares, on either side of the mean. That is
    careful, since a run's own interval holds some of the noise of its seed; where the items are at
    hand, `crossed.py` takes that apart.
    """
    known = [(v, lo, hi) for v, lo, hi in parts if math.isfinite(v)]
    if not known:
        return None
    k = len(known)
    mean = sum(v / k for v, _, _ in known)
    between = 0.0
    if k > 1:
        between = t_quantile(k - 1) * spread([v for v, _, _ in known]) / math.sqrt(k)
    below = [v - lo for v, lo, _ in known if lo is not None]
    above = [hi - v for v, _, hi in known if hi is not None]
    if len(below) < k or len(above) < k:
        return Estimate(mean, seeds=k)
    if k == 1:
        return Estimate(mean, *known[0][1:])
    lo = mean - math.hypot(sum(b / k for b in below), between)
    hi = mean + math.hypot(sum(a / k for a in above), between)
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return Estimate(mean, seeds=k)
    return Estimate(mean, lo, hi, k)


def spread(values: Sequence[float]) -> float:
    """The standard deviation of two or more values."""
    mean = sum(v / len(values) for v in values)
    return math.hypot(*(v - mean for v in values)) / math.sqrt(len(values) - 1)


def difference_p(a: Estimate, b: Estimate) -> float:
    """Two-sided p-value of "these two settings are alike", where the seeds let it be asked.

    The half-widths that face each other are added in squares: the interval of a difference of
    independent means. Their ratio to the difference is read as Student's t with the fewer seeds'
    degrees of freedom. The items are the same on both sides, so this is careful: where they lie
    beside the records, `contrast.py` compares item by item. 1 without intervals, and of a setting
    with one seed: its interval does not know how another seed would do.
    """
    low, high = (a, b) if a.value <= b.value else (b, a)
    degrees = min(a.seeds, b.seeds) - 1
    if low.hi is None or high.lo is None or degrees < 1:
        return 1.0
    half, apart = math.hypot(low.hi - low.value, high.value - high.lo), high.value - low.value
    if not half:
        return 0.0 if apart else 1.0
    return t_tails(t_quantile(degrees) * apart / half, degrees)


def t_tails(t: float, degrees: float) -> float:
    """P(|T| >= t >= 0) of Student's t: its density over x = sqrt(degrees) * tan(angle) is the power
    `degrees` - 1 of the cosine (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4), integrated by
    Simpson's rule. The tests hold it against SciPy."""
    end, steps = math.atan(t / math.sqrt(degrees)), 200
    width = end / steps
    heights = [math.cos(i * width) ** (degrees - 1) for i in range(steps + 1)]
    inside = heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2])
    factor = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2))
    return max(0.0, 1 - 2 * factor / math.sqrt(math.pi) * inside * width / 3)
