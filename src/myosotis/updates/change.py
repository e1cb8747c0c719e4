"""Δθ of single weights, as formulas of what trains.

What belongs here: for one weight of the base, the parameters that move it and how; so that what
measures a distance to θ0, or a direction of Δθ, reads every update alike and never forms more than
one matrix at a time. An update says by its capability `explicit` whether it has such formulas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from myosotis.updates.tensors import plain_weight
from myosotis.utils.device import float64


@dataclass(frozen=True, eq=False)
class Change(ABC):
    """How far one weight is from where it began."""

    name: str  # of the weight in the base model
    weight: Parameter  # what the base model computes with; its gradient is that of the whole weight

    @property
    @abstractmethod
    def parameters(self) -> Iterable[Parameter]:
        """What trains and moves the weight."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight, in however many bits it is kept."""
        return tuple(self.weight.shape)

    @abstractmethod
    def origin(self) -> Tensor:
        """θ0 as numbers, in fp32 at least, on the device of the weight. Not to be written to."""

    @abstractmethod
    def delta(self) -> Tensor:
        """Δθ, of the shape of the weight; differentiable in `parameters`."""

    def squared_norm(self) -> Tensor:
        """‖Δθ‖² (Frobenius), a differentiable scalar."""
        return self.delta().square().sum()

    def singular_values(self) -> Tensor:
        """Those of Δθ of a matrix, the largest first."""
        return torch.linalg.svdvals(self.delta().float())

    def rows_along(self, left_OK: Tensor) -> Tensor:
        """(K, in) Lᵀ·Δθ of a matrix, for directions L in its output space."""
        return left_OK.T @ self.delta()

    def columns_along(self, right_IK: Tensor) -> Tensor:
        """(out, K) Δθ·R of a matrix, for directions R in its input space."""
        return self.delta() @ right_IK


@dataclass(frozen=True, eq=False)
class Moved(Change):
    """The weight itself trains: Δθ = θ − θ0."""

    base: Callable[[], Tensor]

    @property
    def parameters(self) -> Iterable[Parameter]:
        return (self.weight,)

    def origin(self) -> Tensor:
        return plain_weight(self.base())

    def delta(self) -> Tensor:
        return self.weight - self.base()


@dataclass(frozen=True, eq=False)
class LowRank(Change):
    """Δθ = s·B·A (Hu et al. 2021), or its transpose where the weight is stored as (in, out)."""

    a: Parameter  # (r, d_in)
    b: Parameter  # (d_out, r)
    scale: float
    transposed: bool = False

    @property
    def parameters(self) -> Iterable[Parameter]:
        return (self.a, self.b)

    @property
    def shape(self) -> tuple[int, ...]:
        sides = len(self.b), self.a.shape[1]
        return sides[::-1] if self.transposed else sides

    def origin(self) -> Tensor:
        return plain_weight(self.weight)

    def delta(self) -> Tensor:
        product = self.scale * (self.b @ self.a)
        return product.T if self.transposed else product

    def squared_norm(self) -> Tensor:
        """s²·tr((BᵀB)(AAᵀ)): two products of r × r numbers, and Δθ is never formed."""
        return self.scale**2 * ((self.b.T @ self.b) * (self.a @ self.a.T)).sum()

    def singular_values(self) -> Tensor:
        """Of the r × r product of the two triangular factors: B = Q·R and Aᵀ = P·S give B·A =
        Q·(R·Sᵀ)·Pᵀ."""
        into, out = torch.linalg.qr(float64(self.a).T).R, torch.linalg.qr(float64(self.b)).R
        return abs(self.scale) * torch.linalg.svdvals(out @ into.T)

    def rows_along(self, left_OK: Tensor) -> Tensor:
        out, into = (self.a.T, self.b.T) if self.transposed else (self.b, self.a)
        return self.scale * ((left_OK.T @ out) @ into)

    def columns_along(self, right_IK: Tensor) -> Tensor:
        out, into = (self.a.T, self.b.T) if self.transposed else (self.b, self.a)
        return self.scale * (out @ (into @ right_IK))


@dataclass(frozen=True, eq=False)
class Computed(Change):
    """Δθ by a method's own formula, formed each time."""

    moved_by: tuple[Parameter, ...]
    formula: Callable[[], Tensor]

    @property
    def parameters(self) -> Iterable[Parameter]:
        return self.moved_by

    def origin(self) -> Tensor:
        return plain_weight(self.weight)

    def delta(self) -> Tensor:
        return self.formula()


@dataclass(frozen=True, eq=False)
class Merged(Change):
    """Δθ = what merging makes of the weight − θ0, formed each time and not differentiable: for what
    has no formula. Of fused experts the weight is (experts, …)."""

    base: Callable[[], Tensor]
    tuned: Callable[[], Tensor]

    @property
    def parameters(self) -> Iterable[Parameter]:
        return ()

    def origin(self) -> Tensor:
        return plain_weight(self.base())

    def delta(self) -> Tensor:
        base = self.origin()
        return self.tuned().to(base) - base
