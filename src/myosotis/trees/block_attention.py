"""Attention by blocks: on a CPU, the parts of a row's mask in which something can be seen.

A mask over a whole row of several trees is mostly closed, and a CPU pays for every closed entry. So
a row is cut at its branches into blocks of neighbouring tokens; each reads its own tokens and the
blocks above it. The cut is the one with the least work, so that small trees stay in one piece.

It reaches the model as an attribute of the mask it is given, and through transformers' own registry
of attention functions. Where the packing check finds that it gets there, that mask is a single
number, and the square of a row is never made. Where a model makes a mask of its own, or attention
is not SDPA, the mask is whole, and alone decides what is seen.

Shape suffixes: R rows, H heads, G heads a key head, L tokens of a row, E head size, Q queries of a
block, K keys it reads.
"""

from __future__ import annotations

from dataclasses import dataclass
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

DEEPEST = 64
"""Forks below one another at which a row is cut; what lies below stays in one piece."""

UNUSUAL = ("position_bias", "softcap", "s_aux")
"""What a layer may ask of attention that plain products do not have."""

Span = tuple[int, int]


class Block(NamedTuple):
    """Neighbouring tokens of a row, and the spans they read before their own."""

    start: int
    stop: int
    above: tuple[Span, ...]


@dataclass(frozen=True)
class Masks:
    """Additive masks of the rows whose subtrees end at `end_RL`: whole, or a part of one.

    Closed entries are the smallest finite number: a boolean mask is silently ignored by some
    attention implementations, and `-inf` makes NaN of a row that sees nothing.
    """

    end_RL: Tensor
    depth_RL: Tensor
    window: int | None  # a token sees its last so many ancestors, itself among them; None: all
    dtype: torch.dtype

    def whole(self) -> Tensor:
        """(R, 1, L, L)"""
        length = self.end_RL.shape[1]
        return self._part(slice(None), (0, length), (0, length))

    def of(self, row: int, asked: Span, seen: Span) -> Tensor:
        """(1, 1, Q, K): the tokens of the span `asked` of a row against those of `seen`."""
        return self._part(slice(row, row + 1), asked, seen)

    def none(self) -> Tensor:
        """A mask of one number, to be told from a real one by its blocks."""
        return torch.zeros(1, 1, 1, 1, dtype=self.dtype, device=self.end_RL.device)

    def _part(self, rows: slice, asked: Span, seen: Span) -> Tensor:
        place = torch.arange(self.end_RL.shape[1], device=self.end_RL.device)
        query, key = place[slice(*asked)][:, None], place[slice(*seen)]
        inside = (key <= query) & (query < self.end_RL[rows, None, slice(*seen)])
        if self.window is not None:
            depth_RL = self.depth_RL[rows].int()
            apart = depth_RL[:, slice(*asked), None] - depth_RL[:, None, slice(*seen)]
            inside &= apart < self.window
        mask = torch.full(
            inside.shape, torch.finfo(self.dtype).min, dtype=self.dtype, device=inside.device
        )
        return mask.masked_fill_(inside, 0.0)[:, None]


class Blocks:
    """The blocks of every row, and their masks as the heads of a layer want them."""

    def __init__(self, rows: list[list[Block]], masks: Masks) -> None:
        self.rows = rows
        self._masks = masks
        self._folded: dict[int, list[list[Tensor]]] = {}

    def masks(self, groups: int) -> list[list[Tensor]]:
        """(1, 1, G·Q, K) of each block: the same for each of the heads that share a key head."""
        if groups not in self._folded:
            self._folded[groups] = [
                [self._one(r, block).repeat(1, 1, groups, 1) for block in blocks]
                for r, blocks in enumerate(self.rows)
            ]
        return self._folded[groups]

    def whole(self) -> Tensor:
        """(R, 1, L, L): for a layer that cannot be asked block by block."""
        return self._masks.whole()

    def _one(self, row: int, block: Block) -> Tensor:
        own = block.start, block.stop
        return torch.cat([self._masks.of(row, own, seen) for seen in (*block.above, own)], -1)


def cut(end: Ints) -> list[Block]:
    """Blocks of a row whose subtrees end at `end` (L,); they tile the row."""
    return _forest(end, 0, len(end), ())[1]


def rows_of_blocks(end_RL: Tensor, length_R: Tensor) -> list[list[Block]] | None:
    """The blocks of each row; None where none has more than one, or the rows are not on a CPU."""
    if end_RL.device.type != "cpu":
        return None
    ends, lengths = end_RL.numpy(), length_R.tolist()
    rows = [cut(end[:length]) for end, length in zip(ends, lengths, strict=True)]
    return rows if any(len(blocks) > 1 for blocks in rows) else None


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
    if size * size <= 2 * CALL or not forked.any() or len(above) >= DEEPEST:
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
        query, key, value = _as_products(query, key, value)
        if chains is not None:
            return by_chains(query, key, value, chains, scaling), None
        assert isinstance(attention_mask, BlockMask)
        return by_blocks(query, key, value, attention_mask, scaling), None
    if blocks is None or not plain or dropout or key.shape[2] != query.shape[2]:
        if (
            blocks is not None
            and isinstance(attention_mask, Tensor)
            and attention_mask.numel() == 1
        ):
            attention_mask = blocks.whole()
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    masks = blocks.masks(query.shape[1] // key.shape[1])
    done = [
        _row(query[r : r + 1], key[r : r + 1], value[r : r + 1], row, masks[r], scaling)
        for r, row in enumerate(blocks.rows)
    ]
    return torch.cat(done).transpose(1, 2).contiguous(), None


def _as_products(*states: Tensor) -> list[Tensor]:
    """In the dtype of autocast, where that is on: it knows SDPA but not these kernels, and queries
    and keys have been turned by their positions in fp32, while values come out of a product."""
    place = states[0].device.type
    if not torch.is_autocast_enabled(place):
        return list(states)
    return [state.to(torch.get_autocast_dtype(place)) for state in states]


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
