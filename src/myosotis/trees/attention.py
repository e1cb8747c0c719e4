"""How a model is made to see trees: attention masks, and the backend a model can be trusted with.

`dense` hands the model position ids and an additive float mask under which a token sees exactly
its ancestors (windowed where the model's own layers are). `padded` gives every path a row of its
own and lets the model do what it always does; it is the reference, and the fallback.

Which one a model gets is measured, not looked up: see `trees/packing_check.py`.

Shape suffixes as in `batch.py`; Q and K are both L, as query and as key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from myosotis.trees.batch import Batch
from myosotis.trees.block_attention import attach


@dataclass(frozen=True)
class PackingMode:
    """How rows are built and masked, and how the output head is reached; with the reasons."""

    name: str  # "dense" | "padded"
    reason: str
    fast_head: bool = (
        True  # apply the head to chunks ourselves, instead of through `logits_to_keep`
    )


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part (multimodal models nest it)."""
    return model.config.get_text_config()  # type: ignore[operator, union-attr]


def visible(batch: Batch) -> Tensor:
    """(R, Q, K) bool: whether the token at Q may see the token at K (itself or an ancestor)."""
    place = torch.arange(batch.end_RL.shape[1], device=batch.end_RL.device)
    query = place[:, None]
    return (place <= query) & (query < batch.end_RL[:, None, :])


def tree_inputs(batch: Batch, config: Any, dtype: torch.dtype) -> dict[str, Any]:
    """Keyword arguments under which a model of this `config` sees the trees of `batch`.

    The mask is filled with the smallest finite number: a boolean mask is silently ignored by some
    attention implementations, and `-inf` makes NaN of a row that sees nothing.
    """
    seen = visible(batch)
    full = windowed = _additive(seen, dtype)
    mask: Tensor | dict[str, Tensor] = full
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window:
        apart = batch.depth_RL[:, :, None] - batch.depth_RL[:, None, :]
        windowed = _additive(seen & (apart < window), dtype)
        if "sliding_attention" in kinds:
            mask = {"full_attention": full, "sliding_attention": windowed}
        elif not kinds:
            mask = windowed
    attach((full, windowed), batch.end_RL, batch.length_R)
    return {"attention_mask": mask, "position_ids": batch.depth_RL}


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype, device=seen.device)
    return mask.masked_fill_(seen, 0.0)[:, None]


def only_chains(batch: Batch) -> bool:
    """Whether every row is one path: then plain causal attention, without a mask, is the same."""
    place = torch.arange(batch.end_RL.shape[1], device=batch.end_RL.device)
    inside = place < batch.length_R[:, None]
    return bool(((batch.end_RL == batch.length_R[:, None]) | ~inside).all())


def padded_inputs(batch: Batch) -> dict[str, Any]:
    """Keyword arguments for rows of one path each: a plain two-dimensional padding mask."""
    place = torch.arange(batch.ids_RL.shape[1], device=batch.ids_RL.device)
    return {"attention_mask": (place < batch.length_R[:, None]).long()}
