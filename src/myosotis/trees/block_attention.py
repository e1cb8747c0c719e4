"""Attention by blocks: on a CPU, the parts of a row's mask in which something can be seen.

A mask over a whole row of several trees is mostly closed, and a CPU pays for every closed entry. So
a row is cut at its branches into blocks of neighbouring tokens; each reads its own tokens and the
blocks above it. The cut is the one with the least work, so that small trees stay in one piece.

It reaches the model as an attribute of the mask it is given anyway, and through transformers' own
registry of attention functions. Where a model makes a mask of its own, or attention is not SDPA,
nothing changes: the mask alone decides what is seen.

Shape suffixes: R rows, H heads, G heads a key head, L tokens of a row, E head size, Q queries of a
block, K keys it reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from myosotis.trees.sparse_attention import Chains, by_blocks, by_chains
from myosotis.trees.tree import Ints

CALL = 64 * 64
"""What one more call costs, in entries of a mask."""

UNUSUAL = ("position_bias", "softcap", "s_aux")
"""What a layer may ask of attention that plain products do not have."""

Span = tuple[int, int]


class Block(NamedTuple):
    """Neighbouring tokens of a row, and the spans they read before their own."""

    start: int
    stop: int
    above: tuple[Span, ...]


class Blocks:
    """The blocks of every row, and their masks as the heads of a layer want them."""

    def __init__(self, rows: list[list[Block]], mask: Tensor) -> None:
        self.rows = rows
        self._mask = mask
        self._folded: dict[int, list[list[Tensor]]] = {}

    def masks(self, groups: int) -> list[list[Tensor]]:
        """(1, 1, G·Q, K) of each block: the same for each of the heads that share a key head."""
        if groups not in self._folded:
            self._folded[groups] = [
                [self._one(r, block).repeat(1, 1, groups, 1) for block in blocks]
                for r, blocks in enumerate(self.rows)
            ]
        return self._folded[groups]

    def _one(self, row: int, block: Block) -> Tensor:
        lines = self._mask[row : row + 1, :, block.start : block.stop]
        spans = (*block.above, (block.start, block.stop))
        return torch.cat([lines[..., start:stop] for start, stop in spans], -1)


def cut(end: Ints) -> list[Block]:
    """Blocks of a row whose subtrees end at `end` (L,); they tile the row."""
    return _forest(end, 0, len(end), ())[1]


def attach(masks: Iterable[Tensor], end_RL: Tensor, length_R: Tensor) -> None:
    """Give (R, 1, L, L) masks of the same rows their blocks, where a row has more than one."""
    if end_RL.device.type != "cpu":
        return
    ends, lengths = end_RL.numpy(), length_R.tolist()
    rows = [cut(end[:length]) for end, length in zip(ends, lengths, strict=True)]
    if any(len(blocks) > 1 for blocks in rows):
        for mask in masks:
            mask.blocks = Blocks(rows, mask.detach())  # type: ignore[attr-defined]


def _forest(end: Ints, start: int, stop: int, above: tuple[Span, ...]) -> tuple[int, list[Block]]:
    """The cheapest cut of neighbouring subtrees, and what it costs."""
    cost, blocks = 0, []
    while start < stop:
        here, cut_here = _subtree(end, start, above)
        start = int(end[start])
        before = blocks[-1] if blocks and blocks[-1].above == above and len(cut_here) == 1 else None
        closed = 2 * (before.stop - before.start) * (start - before.stop) if before else CALL
        cost += here
        if before and closed < CALL:  # small neighbours in one call
            cut_here = [blocks.pop()._replace(stop=start)]
            cost += closed - CALL
        blocks += cut_here
    return cost, blocks


def _subtree(end: Ints, start: int, above: tuple[Span, ...]) -> tuple[int, list[Block]]:
    stop = int(end[start])
    size, seen = stop - start, sum(b - a for a, b in above)
    whole = size * (seen + size) + CALL, [Block(start, stop, above)]
    forked = end[start:stop] < stop
    if size * size <= 2 * CALL or not forked.any():
        return whole
    fork = start + int(np.argmax(forked))
    trunk = fork - start
    below, blocks = _forest(end, fork, stop, (*above, (start, fork)))
    cost = trunk * (seen + trunk) + CALL + below
    return min(whole, (cost, [Block(start, fork, above), *blocks]), key=lambda costed: costed[0])


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | BlockMask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' SDPA; block by block where the mask comes with blocks, on a GPU by the kernels
    of sparse_attention.py.

    query (R, H, L, E), key and value (R, H/G, L, E); returns (R, L, H, E). Raises `ValueError`
    where a layer asks for what those kernels do not have.
    """
    blocks: Blocks | None = getattr(attention_mask, "blocks", None)
    chains: Chains | None = getattr(attention_mask, "chains", None)
    plain = all(kwargs.get(name) is None for name in (*UNUSUAL, "cache"))
    if isinstance(attention_mask, BlockMask) or chains is not None:
        if dropout or not plain or key.shape[2] != query.shape[2]:
            raise ValueError("attention without a mask knows no dropout, bias, cap, sink or cache")
        if chains is not None:
            return by_chains(query, key, value, chains, scaling), None
        assert isinstance(attention_mask, BlockMask)
        return by_blocks(query, key, value, attention_mask, scaling), None
    if blocks is None or not plain or dropout or key.shape[2] != query.shape[2]:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    masks = blocks.masks(query.shape[1] // key.shape[1])
    done = [
        _row(query[r : r + 1], key[r : r + 1], value[r : r + 1], row, masks[r], scaling)
        for r, row in enumerate(blocks.rows)
    ]
    return torch.cat(done).transpose(1, 2).contiguous(), None


def _row(
    q: Tensor, k: Tensor, v: Tensor, blocks: list[Block], masks: list[Tensor], scale: float | None
) -> Tensor:
    """(1, H, L, E) of one row. The heads that share a key head are asked as one, one after the
    other: keys and values need not be repeated for them."""
    heads, size = k.shape[1], q.shape[3]
    length = blocks[-1].stop if blocks else 0
    sizes = [block.stop - block.start for block in blocks] + [q.shape[2] - length]
    qs, ks, vs = (x.split(sizes, 2) for x in (q, k, v))
    at = {(block.start, block.stop): i for i, block in enumerate(blocks)}
    out = []
    for i, block in enumerate(blocks):
        read = [*(at[span] for span in block.above), i]
        asked = qs[i].reshape(1, heads, -1, size)
        keys, values = torch.cat([ks[j] for j in read], 2), torch.cat([vs[j] for j in read], 2)
        attended = scaled_dot_product_attention(
            asked, keys, values, attn_mask=masks[i], scale=scale
        )
        out.append(attended.view(1, q.shape[1], -1, attended.shape[3]))
    out.append(q.new_zeros(1, q.shape[1], sizes[-1], v.shape[3]))  # padding: nobody reads it
    return torch.cat(out, 2)


AttentionInterface.register("sdpa", attention)
