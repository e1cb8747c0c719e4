"""The start-up probe: which backend a model can be trusted with, found by trying.

Packed and padded scores of a handful of trees are compared, and a token of a sibling branch or of
a neighbouring tree is changed: no other score may move. The second test is what tells a leak from
rounding; the first alone cannot in bf16. One path is longer than the model's sliding window,
because mask faults are invisible below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from myosotis.trees.attention import PackingMode, text_config
from myosotis.trees.scorer import Scorer, evaluating, mask_dtype
from myosotis.trees.tree import Path, Tree

WINDOW = 12
"""The sliding window during the probe: shrunk, so that short trees reach beyond it."""

ROUNDED = (0.5, 0.1)
"""In bf16, how far scores of the same tokens may be apart, at most and on average. On the 135M
model padded rows in bf16 are up to 0.14 (mean 0.035) from fp32, packed ones 0.20 (0.047), and the
two 0.20 (0.045) from each other; a token at the wrong place or with the wrong neighbours is nats
away."""


def probe(model: nn.Module) -> PackingMode:
    """Choose the backend for `model` (in evaluation mode, no gradients, state left as it was)."""
    trees = _trees(text_config(model).vocab_size)
    with evaluating(model), _short_window(text_config(model)):
        reference = _scores(model, trees, PackingMode("padded", "reference", fast_head=False))
        head_ok = (
            _same(model, trees, reference, PackingMode("padded", "head", fast_head=True)) == ""
        )
        fault = _same(model, trees, reference, PackingMode("dense", "probe", fast_head=head_ok))
        fault = fault or _leak(model, trees, PackingMode("dense", "probe", fast_head=head_ok))
    if fault:
        return PackingMode("padded", f"packing check failed: {fault}", head_ok)
    return PackingMode("dense", "packing check passed", head_ok)


def _trees(vocabulary: int) -> list[Tree]:
    """A fork, a chain longer than the window, a tree of two levels, and a short neighbour."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> list[int]:
        return rng.integers(1, min(vocabulary, 30_000), n).tolist()

    long, prefix = draw(2 * WINDOW + 5), draw(4)
    middle = [prefix + draw(3), prefix + draw(2)]
    two_levels = [m + draw(n) for m in middle for n in (3, 2)]
    return [
        Tree.fork(draw(2 * WINDOW), [draw(5), draw(3), draw(WINDOW + 2)]),
        Tree.of([Path(long, [0.0] * 3 + [1.0] * (len(long) - 3))]),
        Tree.of(Path(ids, [0.0] * 4 + [1.0] * (len(ids) - 4)) for ids in two_levels),
        Tree.fork(draw(2), [draw(2), draw(1)]),
    ]


def _scores(model: nn.Module, trees: Sequence[Tree], backend: PackingMode) -> list[np.ndarray]:
    """Log-prob per scored token of every path, computed in a single row where the backend packs."""
    scores = Scorer(model, backend, row_tokens=4096).evaluate(trees)
    return [score.logp / score.weight for score in scores]


def _same(
    model: nn.Module, trees: Sequence[Tree], reference: list[np.ndarray], backend: PackingMode
) -> str:
    """Empty when the backend's scores equal the reference; else what is wrong, in plain words."""
    exact = mask_dtype(model) in (torch.float32, torch.float64)
    try:
        scores = _scores(model, trees, backend)
    except Exception as error:  # noqa: BLE001 - whatever an architecture raises on a mask it does not take
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    apart = np.concatenate([np.abs(a - b) for a, b in zip(scores, reference, strict=True)])
    worst, mean = apart.max(), apart.mean()
    if not (worst <= (2e-4 if exact else ROUNDED[0]) and mean <= (2e-4 if exact else ROUNDED[1])):
        return f"scores differ by up to {worst:.2g} nats per token"  # NaN comes here, too
    return ""


def _leak(model: nn.Module, trees: list[Tree], backend: PackingMode) -> str:
    """Change one token of one path after another: only paths that contain it may move."""
    tolerance = 1e-5 if mask_dtype(model) in (torch.float32, torch.float64) else 1e-2
    before = _scores(model, trees, backend)
    for t, tree in enumerate(trees):
        changed = list(trees)
        paths = tree.paths()
        ids = list(paths[0].ids)
        ids[-1] = 1 + ids[-1] % 97  # in the branch itself, below every fork
        changed[t] = Tree.of([Path(ids, paths[0].weights), *paths[1:]])
        if len(changed[t]) != len(tree):
            continue
        after = _scores(model, changed, backend)
        for other, (a, b) in enumerate(zip(before, after, strict=True)):
            kept = slice(1, None) if other == t else slice(None)
            moved = np.abs(a[kept] - b[kept]).max(initial=0.0)
            if moved > tolerance:
                where = "a sibling branch" if other == t else "a neighbouring tree"
                return f"changing a token of {where} moved a score by {moved:.2g} nats"
    return ""


@contextmanager
def _short_window(config: Any) -> Iterator[None]:
    window = getattr(config, "sliding_window", None)
    if window and window > WINDOW:
        config.sliding_window = WINDOW
    try:
        yield
    finally:
        if window:
            config.sliding_window = window
