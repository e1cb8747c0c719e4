"""The price in KL: what the runs of a study lost, by how far their predictions moved.

What belongs here: the curve, its error at what it has not seen, and a forecast for a run whose
benchmarks were not asked (RL's Razor, Shenfeld et al. 2025, arXiv 2509.04259). How it is shown is
in `kl_curve.py`.

The curve is a·√x + b·x + c·x² with no coefficient below 0: it begins at nothing lost, never falls,
and may bend either way. Its intervals are CV+ (Barber et al. 2021): every learning rate is left out
in turn (every setting, where fewer than three rates were tried), its runs are predicted from the
others', and a new run is expected as far from the curves as those were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from myosotis.records.schema import GENERAL_TEXTS, RunRecord
from myosotis.report.grouping import study

if TYPE_CHECKING:  # numpy is imported where a curve is drawn, which most pages have none of
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.90
FEWEST_RUNS, FEWEST_GROUPS = 9, 3
"""Below 9 runs an interval of 90 % has no end: 0.9 · (8 + 1) is more than 8."""

MEAN = "mean"
"""The suite's mean accuracy, among the names of what was lost."""


def basis(x: Floats) -> Floats:
    """(n, 3): √x, x, x²; a KL that rounding made negative is 0."""
    import numpy as np

    x = np.maximum(x, 0.0)
    return np.stack([np.sqrt(x), x, x * x], axis=-1)


def coefficients(x: Floats, y: Floats) -> Floats:
    """(3,) of the curve, by least squares with none below 0. Columns are brought to one length
    first: x² is small where x is."""
    import numpy as np
    from scipy.optimize import nnls

    columns = basis(x)
    lengths = np.maximum(np.linalg.norm(columns, axis=0), 1e-30)
    found, _ = nnls(columns / lengths, y)
    return found / lengths


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to lose, with its 90 % interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Price:
    """What was lost of `lost` by KL on `text`, over n runs in `groups`; a loss is positive.

    `without[g]` is the curve without group g; `error` and `error_of_mean` are root mean squares at
    the groups left out: of the curves, and of the mean of the other runs.
    """

    lost: str
    text: str
    x: Floats  # (n,)
    y: Floats  # (n,)
    groups: tuple[int, ...]
    by_rate: bool
    curve: Floats
    without: dict[int, Floats]
    residuals: Floats
    error: float
    error_of_mean: float

    def at(self, kl: float) -> Forecast:
        """The expectation at a KL. CV+: order statistics of the left-out curves' predictions, each
        give or take the residual of a run that its curve had not seen."""
        import numpy as np

        at = basis(np.array([kl]))[0]
        each = np.array([at @ self.without[g] for g in self.groups])
        rank = math.ceil(LEVEL * (len(each) + 1))
        lo = np.sort(each - self.residuals)[len(each) - rank]
        hi = np.sort(each + self.residuals)[rank - 1]
        return Forecast(float(at @ self.curve), float(lo), float(hi))


def price(records: Sequence[RunRecord], lost: str, text: str) -> Price | None:
    """The curve of one measure over KL on one kind of text; None of too few runs."""
    return _price(_numbered(records), lost, text)


Numbered = Sequence[tuple[int, RunRecord]]
"""Measured runs, with the numbers of their settings."""


def _price(numbered: Numbered, lost: str, text: str) -> Price | None:
    import numpy as np

    rows = [
        (number, rate, kl, loss)
        for number, run in numbered
        if (kl := kl_of(run, text)) is not None
        and (loss := loss_of(run, lost)) is not None
        and (rate := _rate(run)) is not None
    ]
    rates = sorted({rate for _, rate, _, _ in rows})
    by_rate = len(rates) >= FEWEST_GROUPS
    groups = tuple(rates.index(rate) if by_rate else number for number, rate, _, _ in rows)
    if len(rows) < FEWEST_RUNS or len(set(groups)) < FEWEST_GROUPS:
        return None
    x, y = (np.array([row[i] for row in rows], float) for i in (2, 3))
    of = np.array(groups)
    without = {g: coefficients(x[of != g], y[of != g]) for g in sorted(set(groups))}
    predicted = np.array([basis(x[i : i + 1])[0] @ without[g] for i, g in enumerate(groups)])
    means = np.array([y[of != g].mean() for g in groups])
    residuals = np.abs(y - predicted)
    return Price(
        lost=lost,
        text=text,
        x=x,
        y=y,
        groups=groups,
        by_rate=by_rate,
        curve=coefficients(x, y),
        without=without,
        residuals=residuals,
        error=float(np.sqrt((residuals**2).mean())),
        error_of_mean=float(np.sqrt(((y - means) ** 2).mean())),
    )


def prices(records: Sequence[RunRecord]) -> list[Price]:
    """Of every measure that counts, the curve over that kind of text whose error is smaller."""
    found, numbered = [], _numbered(records)
    for lost in (MEAN, *GENERAL_TEXTS):
        each = [_price(numbered, lost, text) for text in ("general", "task")]
        if known := [one for one in each if one is not None]:
            found.append(min(known, key=lambda one: one.error))
    return found


def kl_of(run: RunRecord, text: str) -> float | None:
    """KL(base || tuned) of a run on one kind of text, nats per token."""
    return next((s.kl for s in run.shift if s.text == text), None)


def loss_of(run: RunRecord, lost: str) -> float | None:
    """What a run lost, positive when worse: of the mean accuracy, or of one benchmark."""
    if lost == MEAN:
        suite = run.suite_verdict
        return None if suite is None or suite.delta is None else -suite.delta
    row = next((row for row in run.retention if row.task == lost), None)
    if row is None or row.delta is None:
        return None
    return -row.delta if row.higher_is_better else row.delta


def _rate(run: RunRecord) -> float | None:
    try:
        return float(run.group("optimizer")["lr"])
    except (KeyError, TypeError, ValueError):
        return None


def _numbered(records: Sequence[RunRecord]) -> Numbered:
    return [(group.number, run) for group in study(records).measured for run in group.runs]
