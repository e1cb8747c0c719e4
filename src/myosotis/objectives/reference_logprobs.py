"""The base's log-probs of training data, which preference objectives measure gains from.

Computed once, before anything is attached, kept in the cache by content (model, dtype, backend,
tokens), and used by every epoch and every trial of a sweep; or live, of the examples of a step. A
tree then carries them, and so does the answer to another prompt beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from myosotis.models import wheels
from myosotis.objectives import others
from myosotis.trees.scorer import Scorer, scorer_version
from myosotis.trees.tree import Tree, digest
from myosotis.utils.atomic_write import replacing
from myosotis.utils.console import progress
from myosotis.utils.one_process import kept


def live(trees: Sequence[Tree], scorer: Scorer) -> list[Tree]:
    """The trees with the log-probs that `scorer`'s model gives their paths now, in the rows that a
    step of these trees computes: in bf16 a score depends on its company."""
    with torch.enable_grad():  # rows are made for training
        batches = scorer.my_batches(trees)
    scores = scorer.evaluate_batches(trees, batches)
    if (elsewhere := others(trees)) or scorer.lockstep:
        scores += scorer.evaluate(elsewhere)
    return _carrying(trees, [score.logp for score in scores])


def referenced(
    given: Sequence[Tree], scorer: Scorer, *, model: str, dtype: str, what: str
) -> list[Tree]:
    """The trees with the log-probs that `scorer`'s model gives their paths.

    `model` is the content hash of that model. Nothing is lost when the cache cannot be written.
    """
    trees = [*given, *others(given)]
    about = f"{model}\n{dtype}\n{scorer.conditions()}\n{scorer_version()}"
    path = wheels.cache_dir() / "references" / f"{digest(about, trees)[:40]}.npy"
    sizes = [len(tree.leaves) for tree in trees]

    def score() -> np.ndarray:
        with progress(f"reference, {what}", total=len(trees)) as advance:
            scores = scorer.evaluate(trees, advance)
        return np.concatenate([np.zeros(0), *(one.logp for one in scores)])

    values = kept(path, partial(_read, path, sum(sizes)), score, partial(_write, path))
    return _carrying(given, np.split(values, np.cumsum(sizes)[:-1]) if sizes else [])


def _carrying(trees: Sequence[Tree], logp: Sequence[np.ndarray]) -> list[Tree]:
    """The trees with their references: those of the trees first, then those of the others."""
    of_others = iter(logp[len(trees) :])
    carrying = []
    for tree, reference in zip(trees, logp, strict=False):
        other = tree.other and replace(tree.other, reference=next(of_others))
        carrying.append(replace(tree, reference=reference, other=other))
    return carrying


def _read(path: Path, count: int) -> np.ndarray | None:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def _write(path: Path, values: np.ndarray) -> None:
    with suppress(OSError), replacing(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, values)
