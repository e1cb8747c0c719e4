"""Orthogonal: the change of a matrix is kept out of the directions that the base uses most.

With U and V the first k left and right singular vectors of a weight W of the base,

    ½(‖Uᵀ·ΔW‖² + ‖ΔW·V‖² − ‖Uᵀ·ΔW·V‖²)

is half the squared norm of what ΔW has inside them: ‖ΔW‖² less that of (I − UUᵀ)·ΔW·(I − VVᵀ),
which OPLoRA (2510.13003) leaves. As a penalty, as O-LoRA (Wang et al. 2023) keeps new directions
from those of earlier tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from myosotis.controls import (
    About,
    Control,
    Extra,
    Given,
    Term,
    at_least_one,
    at_least_zero,
    full_precision,
    has_formulas,
)
from myosotis.controls.penalty import Penalty
from myosotis.updates.change import Change
from myosotis.updates.depth import depth_by_name
from myosotis.utils.console import progress
from myosotis.utils.device import float64
from myosotis.utils.errors import ConfigError


def top_directions(weight_OI: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` left (out, K) and right (in, K) singular vectors of a matrix.

    By the eigenvectors of the smaller Gram matrix, in float64, which is exact enough for the first
    ones and takes a tenth of the time of a whole decomposition.
    """
    wide = float64(weight_OI.detach())
    tall = wide.shape[0] >= wide.shape[1]
    gram = wide.T @ wide if tall else wide @ wide.T
    _, vectors = torch.linalg.eigh(gram)
    near = vectors[:, -min(count, vectors.shape[1]) :].flip(1)
    far = torch.nn.functional.normalize((wide if tall else wide.T) @ near, dim=0)
    left, right = (far, near) if tall else (near, far)
    dtype = torch.promote_types(weight_OI.dtype, torch.float32)
    return left.to(weight_OI.device, dtype), right.to(weight_OI.device, dtype)


def inside(change: Change, left_OK: Tensor, right_IK: Tensor) -> Tensor:
    """Half the squared norm of what Δθ has inside the directions; see the top of the file."""
    rows_KI = change.rows_along(left_OK)
    columns_OK = change.columns_along(right_IK)
    both = rows_KI @ right_IK
    return 0.5 * (rows_KI.square().sum() + columns_OK.square().sum() - both.square().sum())


@dataclass(frozen=True)
class Orthogonal(Control):
    """`coef` times what the changes have inside the base's first `directions` singular directions,
    of every matrix in the layers that moves."""

    coef: float
    directions: int = 16

    @property
    def extra(self) -> Extra:
        return Extra(said=f"what lies in the first {self.directions} directions of each matrix")

    def refuse(self, about: About, key: str) -> None:
        at_least_zero(self.coef, f"{key}.coef")
        at_least_one(self.directions, f"{key}.directions")
        has_formulas(about, key)
        full_precision(about, key)

    def prepare(self, given: Given) -> Term:
        depth, layers = depth_by_name(given.update.model)
        matrices = [
            change
            for change in given.update.changes()
            if change.weight.ndim == 2 and 0 <= depth(change.name) < layers
        ]
        if not matrices:
            raise ConfigError(
                "control.orthogonal: this update moves no matrix of a layer", "control=l2sp"
            )
        found: dict[int, tuple[Tensor, Tensor]] = {}
        with progress("singular directions of the base", total=len(matrices)) as advance:
            for change in matrices:
                found[id(change)] = top_directions(change.origin(), self.directions)
                advance(1)
        return Penalty(self.coef, matrices, lambda change: inside(change, *found[id(change)]))
