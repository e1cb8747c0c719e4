"""Continuous scores of multiple choice: how sure of the gold choice, and how rightly so.

What belongs here: pure functions of the choices' log-probs. Arrays are `logp` (n, k), natural log,
length-normalised, -inf where an item has fewer than k choices, and `gold` (n,) indices. Nothing
here decides a verdict: p_gold moves with confidence alone, so it is an alarm (docs/science.md,
section 3) and is looked at beside its value at the model's own best temperature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

Floats = NDArray[np.float64]

TEMPERATURES = (1e-3, 1e3)
"""Bounds of the search. Log-probs a character differ little: their best temperature is near .03."""


def by_choice(values: ArrayLike, offsets: ArrayLike) -> Floats:
    """(n, k) of flat `values`, item i's in `offsets[i]:offsets[i+1]`; -inf where an item has fewer
    choices."""
    count = np.diff(np.asarray(offsets))
    rows = np.full((len(count), count.max()), -np.inf)
    rows[np.arange(count.max()) < count[:, None]] = values
    return rows


def probabilities(logp: ArrayLike, temperature: float = 1.0) -> Floats:
    """(n, k) softmax of logp / temperature over the choices."""
    return special.softmax(np.asarray(logp, np.float64) / temperature, axis=1)


def p_gold(logp: ArrayLike, gold: ArrayLike, temperature: float = 1.0) -> Floats:
    """(n,) probability of the gold choice among the choices."""
    return _at(probabilities(logp, temperature), gold)


def ece(
    logp: ArrayLike,
    gold: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 15,
    temperature: float = 1.0,
) -> float:
    """Expected calibration error of the top choice, in [0, 1] (Guo et al. 2017, eq. 3).

    Mean |accuracy - confidence| over equal-width bins of confidence, weighted by their items;
    `weights` (n,) say how much each item counts.
    """
    p = probabilities(logp, temperature)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == np.asarray(gold)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    weight = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    gap = np.bincount(which, weight * (right - confidence), minlength=bins)
    return float(np.abs(gap).sum() / weight.sum())


def best_temperature(logp: ArrayLike, gold: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The temperature at which the gold choices are likeliest (Guo et al. 2017, section 4.2).

    A model that became more or less sure of everything, and knows as much as before, has the same
    p_gold at its best temperature.
    """
    scores = np.asarray(logp, np.float64)
    weights = None if weights is None else np.asarray(weights, np.float64)

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        gain = _at(scaled, gold) - np.asarray(special.logsumexp(scaled, axis=1))
        return -float(np.average(gain, weights=weights))

    low, high = np.log(TEMPERATURES)
    best = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(np.exp(best.x))  # pyright: ignore[reportAttributeAccessIssue]


def _at(values: Floats, gold: ArrayLike) -> Floats:
    return values[np.arange(len(values)), np.asarray(gold)]
