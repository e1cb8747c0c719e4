"""Attention on a GPU without a mask of a row's whole square: blocks in which nothing can be seen
are skipped, and the rest is decided inside the kernel.

`flex` serves any trees: torch's flex_attention, with a block mask made from `end` alone. `varlen`
serves rows of chains (instructions, one after the other), as flash attention serves them: each
chain is a sequence of its own. Both reach the model as the mask it is given, and through the
function that is registered with transformers (block_attention.py). Which of them a model is given
is decided by the packing check, on the device, with the branch that will be used.

Shape suffixes: R rows, L tokens of a row, H heads, E head size, n blocks of a row, C chains.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
"""Tokens of a block: flex_attention's own. Rows are padded to a multiple of it."""


class Chains(NamedTuple):
    """Rows that are chains one after the other, padding among them."""

    starts_C: Tensor  # int32, in the flattened rows, and their end
    longest: int
    window: int | None  # tokens that one sees, itself among them; None: all before it


def has_flex(device: torch.device) -> bool:
    """Compiled on a GPU; elsewhere it runs as it is written, in memory of the whole square."""
    return device.type == "cuda"


def has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Flash kernels are for half precision on a GPU; torch offers them from 2.10 on."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return varlen_attn is not None


def block_mask(end_RL: Tensor, depth_RL: Tensor, window: int | None = None) -> BlockMask:
    """What rows see whose subtrees end at `end_RL`: token q sees k where `k <= q < end[k]` and,
    with a window, where it is fewer than `window` places below k on its path.

    L is a multiple of `BLOCK`. A block is skipped where no pair of it can be seen, and not looked
    into where every pair is, by the largest and smallest `end` and depth of its tokens. Nothing of
    size L·L is made, and the device is not waited for.
    """
    rows, length = end_RL.shape
    n = length // BLOCK
    at_n = torch.arange(n, device=end_RL.device)
    first_n, last_n = at_n * BLOCK, at_n * BLOCK + BLOCK - 1
    ends_RnB = end_RL.view(rows, n, BLOCK)
    top_Rn, low_Rn = ends_RnB.amax(-1)[:, None], ends_RnB.amin(-1)[:, None]  # along the keys
    some = (at_n[:, None] >= at_n) & (top_Rn > first_n[:, None])
    full = (at_n[:, None] > at_n) & (low_Rn > last_n[:, None])
    if window is not None:
        depth_RnB = depth_RL.view(rows, n, BLOCK)
        high_Rn, deep_Rn = depth_RnB.amin(-1), depth_RnB.amax(-1)
        some &= high_Rn[:, :, None] - deep_Rn[:, None] < window
        full &= deep_Rn[:, :, None] - high_Rn[:, None] < window

    def visible(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (key <= query) & (query < end_RL[row, key])
        if window is None:
            return seen
        return seen & (depth_RL[row, query] - depth_RL[row, key] < window)

    return BlockMask.from_kv_blocks(
        *_as_lists(some & ~full), *_as_lists(full), BLOCK_SIZE=BLOCK, mask_mod=visible
    )


def _as_lists(chosen_Rnn: Tensor) -> tuple[Tensor, Tensor]:
    """How many key blocks each query block reads, and which, those first."""
    order = chosen_Rnn.int().argsort(dim=-1, descending=True, stable=True)
    return chosen_Rnn.sum(-1, dtype=torch.int32)[:, None], order.int()[:, None]


def carrier(chains: Chains) -> Tensor:
    """A mask of one number that carries chains through a model to the attention function."""
    mask = torch.zeros(1, 1, 1, 1, device=chains.starts_C.device)
    mask.chains = chains  # type: ignore[attr-defined]
    return mask


def by_blocks(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: float | None
) -> Tensor:
    """query (R, H, L, E), key and value (R, H/G, L, E); returns (R, L, H, E)."""
    shared = query.shape[1] != key.shape[1]
    attended = _flex(query.device.type)(
        query, key, value, block_mask=mask, scale=scale, enable_gqa=shared
    )
    return attended.transpose(1, 2).contiguous()


@cache
def _flex(device: str) -> Callable[..., Tensor]:
    function: Callable[..., Any] = flex_attention
    return torch.compile(function) if device == "cuda" else function


def by_chains(
    query: Tensor, key: Tensor, value: Tensor, chains: Chains, scale: float | None
) -> Tensor:
    """As `by_blocks`."""
    from torch.nn.attention.varlen import varlen_attn

    def flat(states: Tensor) -> Tensor:
        return states.transpose(1, 2).flatten(0, 1)

    rows, heads, length, _ = query.shape
    attended = varlen_attn(
        flat(query),
        flat(key),
        flat(value),
        chains.starts_C,
        chains.starts_C,
        chains.longest,
        chains.longest,
        scale=scale,
        window_size=(-1 if chains.window is None else chains.window - 1, 0),
        enable_gqa=heads != key.shape[1],
    )
    assert isinstance(attended, Tensor)
    return attended.view(rows, length, heads, -1)
