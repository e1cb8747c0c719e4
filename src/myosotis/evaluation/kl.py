"""How far a model's predictions are from its base's: KL per token on the task and on general text.

KL on the new task predicts forgetting better than the size of the weights' change ("RL's Razor",
Shenfeld et al. 2025). It moves with confidence alone, so it is an alarm and decides no verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from myosotis.records.schema import KL
from myosotis.retention.statistics.paired import paired
from myosotis.trees.kl import divergence
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update
from myosotis.utils.console import progress

Kept = dict[tuple[int, int], Tensor]

DIVERGENCE = "divergence"
"""The job of ranks that measure together (trees/shared.py)."""


@dataclass
class Texts:
    """Texts of each kind on which the shift is measured, and what the base has at their predicting
    positions: kept from the first measurement on, since it never changes."""

    trees: Mapping[str, Sequence[Tree]]
    of_base: defaultdict[str, Kept] = field(default_factory=lambda: defaultdict(dict))


def measured(scorer: Scorer, update: Update, texts: Texts) -> list[KL]:
    """KL(base || tuned) on each kind of text, the base being what `update.disabled()` gives.

    Every scored token counts once; the interval is that of a ratio over texts.
    """
    found = []
    for name, trees in texts.trees.items():
        if not trees:
            continue
        with progress(f"shift of predictions, {name}", total=len(trees)) as advance:
            if scorer.ask is not None:
                total, weight = scorer.ask(DIVERGENCE, name, advance=advance)
            else:
                total, weight = part(scorer, update, texts, name, advance)
        change = paired(np.zeros(len(total)), total / weight, weights=weight)
        tokens = round(float(weight.sum()))
        found.append(KL(name, change.delta, change.lo, change.hi, len(total), tokens))
    return found


Advance = Callable[[int], object]


def part(
    scorer: Scorer, update: Update, texts: Texts, name: str, advance: Advance | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """KL and weight of each text of a kind, by `divergence`; of one of several ranks its part."""
    kept = texts.of_base[name]
    return divergence(scorer, texts.trees[name], update.disabled, advance, kept)


def merged(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Of the parts of all ranks the whole."""
    return sum(total for total, _ in parts), sum(weight for _, weight in parts)  # type: ignore


def metrics(shifts: Iterable[KL]) -> dict[str, float]:
    """`forgetting/kl_task` and `forgetting/kl_general`, for charts."""
    return {f"forgetting/kl_{s.text}": s.kl for s in shifts if s.kl is not None}
