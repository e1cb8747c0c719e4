"""The start-up probe: which backend a model can be trusted with, found by trying.

A model that reads ahead is refused: in padded rows what follows a token is changed, and no score
before it may move. Then packed and padded scores of a handful of trees are compared, and a token of
a sibling branch or of a neighbouring tree is changed: no other score may move. The latter is what
tells a leak from rounding; the comparison alone cannot in bf16. One path is longer than the model's
sliding window, because mask faults are invisible below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from myosotis.trees import block_attention
from myosotis.trees.attention import PackingMode, text_config
from myosotis.trees.scorer import Scorer, device_of, evaluating, mask_dtype
from myosotis.trees.sparse_attention import BLOCK, has_flex, has_varlen
from myosotis.trees.tree import Path, Tree
from myosotis.utils.errors import AssetError

WINDOW = 12
"""The sliding window during the probe: shrunk, so that short trees reach beyond it."""

ROUNDED = (0.5, 0.1)
"""In bf16, how far scores of the same tokens may be apart, at most and on average. On the 135M
model padded rows in bf16 are up to 0.14 (mean 0.035) from fp32, packed ones 0.20 (0.047), and the
two 0.20 (0.045) from each other; a token at the wrong place or with the wrong neighbours is nats
away."""

AHEAD, AHEAD_ROUNDED = 1e-3, 0.05
"""In nats: how far what follows may move a log-prob at most; in bf16, where experts get other
tokens to compute with, on average over all words."""


def probe(model: nn.Module, products: torch.dtype | None = None) -> PackingMode:
    """Choose the backend for `model` (in evaluation mode, no gradients, state left as it was), as
    a `Scorer` runs it that multiplies in `products`: a kernel is tried in the numbers it will get.

    Raises `AssetError` for a model whose tokens see those behind them.
    """
    require_causal(model)
    trees = _trees(text_config(model).vocab_size)
    refused: list[str] = []
    with evaluating(model), _short_window(text_config(model)):
        reference = _scores(model, trees, REFERENCE)
        head_ok = not _same(model, trees, reference, PackingMode("padded", "head"))
        if products is not None:  # the head was judged more sharply in the weights' own numbers
            reference = _scores(model, trees, REFERENCE, products)
        for mode in candidates(model, products):
            mode = replace(mode, fast_head=head_ok)
            if not (fault := fault_of(model, mode, products, reference)):
                return replace(mode, reason="; ".join(["packing check passed", *refused]))
            refused.append(f"{mode.description}: {fault}")
    return PackingMode("padded", f"packing check failed: {'; '.join(refused)}", head_ok)


REFERENCE = PackingMode("padded", "reference", fast_head=False)


def candidates(model: nn.Module, products: torch.dtype | None = None) -> list[PackingMode]:
    """What can be tried on the device that the model is on, the fastest first."""
    place, dtype = device_of(model), products or mask_dtype(model)
    modes = [PackingMode("dense", "candidate")]
    if place.type == "cpu":
        modes.insert(0, PackingMode("dense", "candidate", by_blocks=True))
    if has_flex(place):
        modes.insert(0, PackingMode("flex", "candidate"))
        if has_varlen(place, dtype):
            modes.insert(0, PackingMode("flex", "candidate", varlen=True))
    return modes


def fault_of(
    model: nn.Module,
    mode: PackingMode,
    products: torch.dtype | None = None,
    reference: Sequence[np.ndarray] | None = None,
) -> str:
    """What is wrong with this mode, tried on such forests as it will read; empty: nothing.
    `reference` are the padded scores of the first of them, where they are known."""
    words = text_config(model).vocab_size
    forests = [_trees(words)]
    if mode.one_row:
        forests.append(_long_trees(text_config(model)))
    if mode.varlen:
        forests.append([Tree.of([path]) for tree in _trees(words) for path in tree.paths()])
    with evaluating(model), _short_window(text_config(model)), _small_blocks(mode.by_blocks):
        for forest in forests:
            known, reference = reference or _scores(model, forest, REFERENCE, products), None
            fault = _same(model, forest, known, mode, products)
            if fault := fault or _leak(model, forest, mode, products):
                return fault
    return ""


def _long_trees(config: Any) -> list[Tree]:
    """Several blocks of a block mask: seen in whole, in part and not at all, among short trees.
    Half the context at most, which some models have a table for."""
    rng = np.random.default_rng(2)
    most = (getattr(config, "max_position_embeddings", None) or 8 * BLOCK) // 2

    def draw(n: int) -> list[int]:
        return rng.integers(1, min(config.vocab_size, 30_000), min(n, most)).tolist()

    chain = draw(2 * BLOCK + 40)
    weights = [0.0] * (len(chain) - 9) + [1.0] * 9
    fork = Tree.fork(draw(2 * BLOCK + 9), [draw(BLOCK + 5), draw(6)])
    return [fork, *_trees(config.vocab_size), Tree.of([Path(chain, weights)])]


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


def require_causal(model: nn.Module) -> None:
    """Raise `AssetError` where what follows a token moves the log-probs after it.

    Three rows begin alike; two go on differently, and the third, padded, not at all.
    """
    rng = np.random.default_rng(1)
    ids_RL = torch.from_numpy(rng.integers(1, min(text_config(model).vocab_size, 30_000), (3, 16)))
    ids_RL[1:, :8] = ids_RL[0, :8]
    mask_RL = torch.ones_like(ids_RL)
    mask_RL[2, 8:] = 0
    place = device_of(model)
    with evaluating(model):
        logits_RLV = model(
            input_ids=ids_RL.to(place), attention_mask=mask_RL.to(place), use_cache=False
        ).logits[:, :8]
        logp_RLV = logits_RLV.float().log_softmax(-1)
    moved = (logp_RLV[1:] - logp_RLV[0]).abs()
    far = float(moved.max() if _exact(model) else moved.mean())
    if far > (AHEAD if _exact(model) else AHEAD_ROUNDED):
        raise AssetError(
            f"{type(model).__name__} reads ahead: the tokens behind a token moved the scores at "
            f"it by {far:.2g} nats.",
            "A causal language model is needed: one that predicts each token from those before it.",
        )


def _exact(model: nn.Module, products: torch.dtype | None = None) -> bool:
    return (products or mask_dtype(model)) in (torch.float32, torch.float64)


def _scores(
    model: nn.Module,
    trees: Sequence[Tree],
    backend: PackingMode,
    products: torch.dtype | None = None,
) -> list[np.ndarray]:
    """Log-prob per scored token of every path, computed in a single row where the backend packs."""
    scores = Scorer(model, backend, row_tokens=4096, products=products).evaluate(trees)
    return [score.logp / score.weight for score in scores]


def _same(
    model: nn.Module,
    trees: Sequence[Tree],
    reference: Sequence[np.ndarray],
    backend: PackingMode,
    products: torch.dtype | None = None,
) -> str:
    """Empty when the backend's scores equal the reference; else what is wrong, in plain words."""
    exact = _exact(model, products)
    try:
        scores = _scores(model, trees, backend, products)
    except Exception as error:  # noqa: BLE001 - whatever an architecture raises on a mask it does not take
        what = str(error).strip().splitlines()[0] if str(error).strip() else ""
        return f"the model does not take the mask of a packed row ({type(error).__name__}: {what})"
    apart = np.concatenate([np.abs(a - b) for a, b in zip(scores, reference, strict=True)])
    worst, mean = apart.max(), apart.mean()
    if not (worst <= (2e-4 if exact else ROUNDED[0]) and mean <= (2e-4 if exact else ROUNDED[1])):
        return f"scores differ by up to {worst:.2g} nats per token"  # NaN comes here, too
    return ""


def _leak(
    model: nn.Module, trees: list[Tree], backend: PackingMode, products: torch.dtype | None
) -> str:
    """Change one token of one path after another: only paths that contain it may move."""
    tolerance = 1e-5 if _exact(model, products) else 1e-2
    before = _scores(model, trees, backend, products)
    for t, tree in enumerate(trees):
        changed = list(trees)
        paths = tree.paths()
        ids = list(paths[0].ids)
        ids[-1] = 1 + ids[-1] % 97  # in the branch itself, below every fork
        changed[t] = Tree.of([Path(ids, paths[0].weights), *paths[1:]])
        if len(changed[t]) != len(tree):
            continue
        after = _scores(model, changed, backend, products)
        for other, (a, b) in enumerate(zip(before, after, strict=True)):
            kept = slice(1, None) if other == t else slice(None)
            moved = np.abs(a[kept] - b[kept]).max(initial=0.0)
            if moved > tolerance:
                where = "a sibling branch" if other == t else "a neighbouring tree"
                return f"changing a token of {where} moved a score by {moved:.2g} nats"
    return ""


@contextmanager
def _small_blocks(wanted: bool) -> Iterator[None]:
    """Small trees are cut into blocks, too, where those are to be tried."""
    before = block_attention.CALL
    block_attention.CALL = 0 if wanted else before
    try:
        yield
    finally:
        block_attention.CALL = before


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
