"""Two measurements of one task, brought item to item.

What belongs here: what a comparison needs to know of a measured task, and the refusal to compare
what was not measured alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from myosotis.retention.benchmarks.scores import TaskScores
from myosotis.retention.statistics import calibration
from myosotis.retention.statistics.intervals import Floats
from myosotis.retention.statistics.paired import LEVEL, Paired, paired
from myosotis.utils.errors import DataError


@dataclass(frozen=True, eq=False)
class Pair:
    """One task of both models, its items in the order of the base."""

    name: str
    base: TaskScores
    tuned: TaskScores
    order: list[int]  # where each item of the base stands among those of the tuned model
    seed: int

    @classmethod
    def of(cls, name: str, base: TaskScores, tuned: TaskScores, seed: int = 0) -> Pair:
        """Raises `DataError`, naming what differs, when the two cannot be compared."""
        for field in ("metric", "higher_is_better", "chance"):
            if getattr(base, field) != getattr(tuned, field):
                raise DataError(
                    f"{name}: the two models were measured differently: {field} is "
                    f"{getattr(base, field)!r} for the base, "
                    f"{getattr(tuned, field)!r} for the tuned model."
                )
        return cls(name, base, tuned, _order(name, base.items, tuned.items), seed)

    def at(self, level: float = LEVEL) -> Paired:
        """The task's metric compared, with its interval at `level`."""
        return paired(
            *self.primary,
            clusters=self.base.clusters,
            weights=self.base.weights,
            strata=self.base.strata,
            higher_is_better=self.base.higher_is_better,
            level=level,
            seed=self.seed,
        )

    @property
    def primary(self) -> tuple[Floats, Floats]:
        """(n,) scores of the metric, base and tuned."""
        metric = self.base.metric
        return self.base.scores[metric], self.tuned.scores[metric][self.order]

    def p_gold(self) -> Paired | None:
        """The probability of the gold choice compared; None where there are no choices."""
        return self.compare_metric("p_gold")

    def compare_metric(self, metric: str, *, higher_is_better: bool = True) -> Paired | None:
        """Another metric of the same items compared; None unless both models have it."""
        if not all(metric in side.scores for side in (self.base, self.tuned)):
            return None
        scores = self.base.scores[metric], self.tuned.scores[metric]
        return self._compare(*scores, higher_is_better=higher_is_better)

    def p_gold_tempered(self) -> Paired | None:
        """The same, each model at its own best temperature; None where that is not to be had."""
        base, tuned = tempered(self.base), tempered(self.tuned)
        return None if base is None or tuned is None else self._compare(base, tuned)

    def _compare(
        self, base: Floats, tuned: Floats, *, higher_is_better: bool = True
    ) -> Paired | None:
        tuned = tuned[self.order]
        if not np.isfinite(base + tuned).all():  # some items have no gold choice
            return None
        return paired(
            base,
            tuned,
            clusters=self.base.clusters,
            strata=self.base.strata,
            higher_is_better=higher_is_better,
            seed=self.seed,
        )

    @property
    def discordant(self) -> tuple[int, int] | None:
        """Items turned from right to wrong and from wrong to right; None unless all are 0 or 1."""
        base, tuned = self.primary
        if not np.isin([base, tuned], (0.0, 1.0)).all():
            return None
        return int((tuned < base).sum()), int((tuned > base).sum())


def tempered(task: TaskScores) -> Floats | None:
    """(n,) p_gold at the temperature where the gold choices are likeliest; see `_by_choice`."""
    if (logp := _by_choice(task)) is None:
        return None
    temperature = calibration.best_temperature(logp, task.gold, task.item_weights)
    return calibration.p_gold(logp, task.gold, temperature)


def ece(task: TaskScores) -> float | None:
    """Expected calibration error of the length-normalised choice; see `_by_choice`."""
    logp = _by_choice(task)
    return None if logp is None else calibration.ece(logp, task.gold, task.item_weights)


def _by_choice(task: TaskScores) -> Floats | None:
    """(n, k) length-normalised log-probs, -inf where an item has fewer choices.

    None without choices, or where an item has several gold ones (a temperature is fitted for one).
    """
    gold, count = task.gold, np.diff(task.offsets)
    if "p_gold" not in task.scores or (gold < 0).any() or (count < 2).any():
        return None
    logp = calibration.by_choice(task.logp / task.lengths, task.offsets)
    same = np.allclose(calibration.p_gold(logp, gold), task.scores["p_gold"], atol=1e-6)
    return logp if same else None


def _order(name: str, base: Sequence[str], tuned: Sequence[str]) -> list[int]:
    """Where each item of the base stands among those of the tuned model."""
    place = {item: i for i, item in enumerate(tuned)}
    if len(place) != len(tuned) or len(set(base)) != len(base):
        raise DataError(f"{name}: an item id occurs twice; items cannot be paired.")
    if set(base) != set(place):
        only_base, only_tuned = len(set(base) - set(place)), len(set(place) - set(base))
        raise DataError(
            f"{name}: the two models were not measured on the same items "
            f"({only_base} only of the base, {only_tuned} only of the tuned).",
            "Measure both with the same retention.items, retention.seed and few-shot setting.",
        )
    return [place[item] for item in base]
