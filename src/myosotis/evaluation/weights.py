"""What an update looks like: how far each weight moved, in how many directions, and in which.

What belongs here: numbers of Δθ against θ0, weight by weight. Lengths are of every weight; what
takes a decomposition is of the matrices of a few layers, from the first to the last. Figures are of
the weights alone: which of them goes with forgetting is for a study to show.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from myosotis.controls.orthogonal import inside, top_directions
from myosotis.records.schema import WeightChange
from myosotis.updates.base import Update
from myosotis.updates.change import Change
from myosotis.updates.depth import depth_by_name
from myosotis.utils.device import float64

LAYERS = 3
"""Layers whose matrices are decomposed."""

DIRECTIONS = 16
"""Of the base, the singular directions with the largest singular values."""

FIRST, UNLIKE = 10, 0.5
"""Shuttleworth et al. 2024 (2410.21228): of the first 10 left singular vectors of the tuned matrix,
those that have a cosine of less than .5 with every one of the base's are intruder dimensions."""

SHOWN = 16
"""Singular values that a record keeps of a matrix."""


def weight_changes(update: Update) -> list[WeightChange]:
    """One entry for each weight that moves, in the model's order; none where the update has no
    difference of weights (`Capabilities.explicit`)."""
    if not update.capabilities.explicit:
        return []
    depth, count = depth_by_name(update.model)
    chosen = spread(count)
    with torch.no_grad():
        return [_measured(change, depth(change.name), count, chosen) for change in update.changes()]


def spread(count: int) -> set[int]:
    """`LAYERS` of so many layers: the first, the last, and evenly between."""
    if count <= LAYERS:
        return set(range(count))
    return {round(i * (count - 1) / (LAYERS - 1)) for i in range(LAYERS)}


def _measured(change: Change, depth: int, count: int, chosen: set[int]) -> WeightChange:
    *_, kind = change.name.removesuffix(".weight").split(".")
    base = change.origin()
    length, whole = _length(change), float(float64(base).norm())
    found = WeightChange(
        name=change.name,
        kind=kind,
        layer=depth if 0 <= depth < count else None,
        relative_norm=length / whole if whole else None,
    )
    if depth in chosen and base.dim() == 2 and length > 0:
        _decompose(found, change, base)
    return found


def _length(change: Change) -> float:
    return math.sqrt(max(0.0, float(float64(change.squared_norm()))))


def _decompose(found: WeightChange, change: Change, base_OI: Tensor) -> None:
    values = float64(change.singular_values())
    found.rank = rank(values, max(base_OI.shape))
    found.effective_rank = effective_rank(values)
    found.rank_90 = rank_90(values)
    found.spectrum = [round(float(v), 4) for v in (values / values[0])[:SHOWN]]
    left, right = top_directions(base_OI, min(base_OI.shape))
    top = inside(change, left[:, :DIRECTIONS], right[:, :DIRECTIONS])
    found.top_share = min(1.0, max(0.0, 2 * float(top) / float(values.square().sum())))
    delta_OI = change.delta()
    found.intruders = intruders(left, base_OI.to(delta_OI) + delta_OI)


def rank(values: Tensor, size: int) -> int:
    """How many singular values are more than rounding in fp32: `size` is the longer side."""
    return int((values > values.max() * size * torch.finfo(torch.float32).eps).sum())


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of the singular values as shares of their sum (Roy & Vetterli 2007): r
    equal ones give r."""
    shares = values[values > 0] / values.sum()
    return float((-(shares * shares.log()).sum()).exp())


def rank_90(values: Tensor) -> int:
    """The fewest singular values that hold 90 % of the squared norm."""
    held = values.square().cumsum(0) / values.square().sum()
    return int((held < 0.9 - 1e-12).sum()) + 1


def intruders(before_OK: Tensor, tuned_OI: Tensor) -> int:
    """Of the `FIRST` left singular vectors of the tuned matrix, how many are like none of the
    base's, which are `before_OK`."""
    after_OK, _ = top_directions(tuned_OI, min(FIRST, *tuned_OI.shape))
    cosine = (before_OK.T.to(after_OK) @ after_OK).abs().amax(0)
    return int((cosine < UNLIKE).sum())
