"""What an update looks like: how far each weight moved, in how many directions, and in which.

What belongs here: numbers of Δθ against θ0, weight by weight. Lengths are of every weight, and
ranks of every product of two factors (LoRA). What takes a decomposition of a whole matrix is of
some layers, evenly from the first to the last, as many as are cheap. Figures are of the weights
alone: which of them goes with forgetting is for a study to show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from myosotis.controls.orthogonal import inside, top_directions
from myosotis.records.schema import WeightChange
from myosotis.updates.base import Update
from myosotis.updates.change import Change, Computed, LowRank
from myosotis.updates.depth import depth_by_name
from myosotis.utils.device import float64

FEWEST, MOST = 3, 8
"""Layers whose matrices are decomposed: so many at least and at most."""

WORK = 1.6e10
"""Between the two, as many layers as take so many products: a matrix of m × n takes mn·min(m, n).
Of SmolLM2-135M those are 8, which take one core 11 s under LoRA and 15 s under full tuning."""

DIRECTIONS = 16
"""Of the base, the singular directions with the largest singular values."""

FIRST, UNLIKE = 10, 0.5
"""Shuttleworth et al. 2024 (2410.21228): of the first 10 left singular vectors of the tuned matrix,
those that have a cosine of less than .5 with every one of the base's are intruder dimensions."""

SHOWN = 16
"""Singular values that a record keeps of a matrix."""


def weight_changes(update: Update) -> list[WeightChange]:
    """One entry for each weight that moves, in the model's order; none where the update cannot be
    merged."""
    changes = update.differences()
    depth, count = depth_by_name(update.model)
    inside_layers = [each.shape for each in changes if 0 <= depth(each.name) < count]
    chosen = spread(count, affordable(inside_layers, count))
    with torch.no_grad():
        found = [_measured(change, depth(change.name), count, chosen) for change in changes]
    return [one for one in found if one is not None]


def affordable(shapes: Sequence[tuple[int, ...]], count: int) -> int:
    """How many layers of `count` to decompose, by the shapes of what moves in all of them. Of
    fused experts one is looked at."""
    work = sum(math.prod(s[-2:]) * min(s[-2:]) for s in shapes if len(s) > 1) / max(1, count)
    return max(FEWEST, min(MOST, int(WORK / work))) if work else FEWEST


def spread(count: int, layers: int) -> set[int]:
    """`layers` of so many layers: the first, the last, and evenly between."""
    if count <= layers:
        return set(range(count))
    return {round(i * (count - 1) / (layers - 1)) for i in range(layers)}


def _measured(change: Change, depth: int, count: int, chosen: set[int]) -> WeightChange | None:
    """None of a layer that PEFT cannot merge: a run that is over is not to fail by it."""
    *_, kind = change.name.removesuffix(".weight").split(".")
    base = change.origin()
    if not isinstance(change, LowRank):
        try:
            change = _formed(change)
        except (RuntimeError, ValueError, NotImplementedError):
            return None
    length, whole = _length(change), float(float64(base).norm())
    found = WeightChange(
        name=change.name,
        kind=kind,
        layer=depth if 0 <= depth < count else None,
        relative_norm=length / whole if whole else None,
    )
    if not 0 <= depth < count or base.dim() not in (2, 3) or not 0 < length < math.inf:
        return found
    if base.dim() == 3 and depth in chosen:
        change, base = _expert(change, base)
    if base.dim() == 2 and (depth in chosen or isinstance(change, LowRank)):
        values = float64(change.singular_values())
        _ranks(found, values, base)
        if depth in chosen:
            _directions(found, change, base, values)
    return found


def _formed(change: Change) -> Change:
    """The same with Δθ as a matrix that is formed once."""
    delta = change.delta().detach()
    delta = delta.to(torch.promote_types(delta.dtype, torch.float32))
    return Computed(change.name, change.weight, (), lambda: delta)


def _expert(change: Change, base: Tensor) -> tuple[Change, Tensor]:
    """Of fused experts the one that moved most."""
    delta = change.delta()
    most = int(delta.flatten(1).norm(dim=1).argmax())
    return Computed(change.name, change.weight, (), lambda: delta[most]), base[most]


def _length(change: Change) -> float:
    return math.sqrt(max(0.0, float(float64(change.squared_norm()))))


def _ranks(found: WeightChange, values: Tensor, base_OI: Tensor) -> None:
    found.rank = rank(values, max(base_OI.shape))
    found.effective_rank = effective_rank(values)
    found.rank_90 = rank_90(values)


def _directions(found: WeightChange, change: Change, base_OI: Tensor, values: Tensor) -> None:
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
