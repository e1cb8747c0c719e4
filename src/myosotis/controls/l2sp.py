"""L2-SP: the weights are held near where they began (Li, Grandvalet & Davoine 2018, equation 3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from myosotis.controls import About, Control, Extra, Given, Term, at_least_zero, has_formulas
from myosotis.controls.penalty import Penalty
from myosotis.updates.change import Change


def half_squared_distance(change: Change) -> Tensor:
    """½‖θ − θ0‖²; of LoRA ½‖s·B·A‖², without forming the product."""
    return 0.5 * change.squared_norm()


@dataclass(frozen=True)
class L2SP(Control):
    """`coef`/2 · ‖θ − θ0‖², over every weight that moves."""

    coef: float

    @property
    def extra(self) -> Extra:
        return Extra(said="the distance of the weights to where they began")

    def refuse(self, about: About, key: str) -> None:
        at_least_zero(self.coef, f"{key}.coef")
        has_formulas(about, key)

    def prepare(self, given: Given) -> Term:
        return Penalty(self.coef, given.update.changes(), half_squared_distance)
