"""EWC: weights that general text needs are held near where they began, others are free to move.

Elastic weight consolidation (Kirkpatrick et al. 2017, equation 3), with general text in the place
of the earlier task. For LoRA the information and the distance are those of the effective weight,
θ0 + s·B·A, which is what the model computes with; A and B have no place of their own to be held
near.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from myosotis.controls.fisher import kept_fisher
from myosotis.controls.penalty import Penalty
from myosotis.controls.replay import check_tokens
from myosotis.controls.texts import require, texts
from myosotis.updates.change import Change
from myosotis.utils.errors import ConfigError


def weighted_distance(change: Change, fisher: Tensor) -> Tensor:
    """½ Σ F·(θ − θ0)²."""
    return 0.5 * (fisher * change.delta().square()).sum()


@dataclass(frozen=True)
class EWC(Control):
    """`coef`/2 · Σ F·(θ − θ0)², F from the first `items` pieces of `texts` of `tokens` tokens."""

    coef: float
    texts: str | None = "prose"
    items: int = 64
    tokens: int = 128

    @property
    def extra(self) -> Extra:
        return Extra(said=f"the distance of the weights, weighed by what {self.texts} needs")

    def refuse(self, about: About, key: str) -> None:
        at_least_zero(self.coef, f"{key}.coef")
        check_tokens(self.tokens, key)
        at_least_one(self.items, f"{key}.items")
        if self.texts is None:
            raise ConfigError(
                f"{key} needs reference data: {key}.texts=null names none.",
                f"Add {key}.texts=prose, or a file of yours.",
            )
        require(self.texts, f"{key}.texts")
        has_formulas(about, key)
        full_precision(about, key)

    def prepare(self, given: Given) -> Term:
        assert self.texts is not None
        changes = given.update.changes()
        read = texts(self.texts, given, self.tokens, self.items)
        found = dict(zip(map(id, changes), kept_fisher(given, changes, read), strict=True))
        return Penalty(self.coef, changes, lambda c: weighted_distance(c, found[id(c)]))
