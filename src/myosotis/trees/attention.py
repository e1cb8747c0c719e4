"""How a model is made to see trees: attention masks, and the backend a model can be trusted with.

`dense` hands the model position ids and an additive float mask under which a token sees exactly
its ancestors (windowed where the model's own layers are); on a CPU, of a row of several blocks only
those of them that are open (block_attention.py). `flex` says the same by blocks, without
that mask, in one long row (sparse_attention.py). `padded` gives every path a row of its
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
from myosotis.trees.block_attention import Blocks, Masks, rows_of_blocks
from myosotis.trees.sparse_attention import Chains, block_mask, carrier


@dataclass(frozen=True)
class PackingMode:
    """How rows are built and masked, and how the output head is reached; with the reasons."""

    name: str  # "dense" | "flex" | "padded"
    reason: str
    fast_head: bool = (
        True  # apply the head to chunks ourselves, instead of through `logits_to_keep`
    )
    varlen: bool = False  # rows of chains by flash attention, each chain a sequence
    by_blocks: bool = False  # of a dense row, only the parts of its mask are made that are open

    @property
    def packs(self) -> bool:
        """Whether trees share rows."""
        return self.name != "padded"

    @property
    def one_row(self) -> bool:
        """Whether the rows that go through the model together are one long row: without a mask of
        its square, a row's length costs nothing, and nothing is padded."""
        return self.name == "flex"

    @property
    def description(self) -> str:
        """For records and the keys of what is cached."""
        return f"{self.name}, chains by varlen" if self.varlen else self.name


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part (multimodal models nest it)."""
    return model.config.get_text_config()  # type: ignore[operator, union-attr]


def visible(batch: Batch) -> Tensor:
    """(R, Q, K) bool: whether the token at Q may see the token at K (itself or an ancestor)."""
    place = torch.arange(batch.end_RL.shape[1], device=batch.end_RL.device)
    query = place[:, None]
    return (place <= query) & (query < batch.end_RL[:, None, :])


def packed_inputs(
    batch: Batch, config: Any, dtype: torch.dtype, backend: PackingMode
) -> dict[str, Any]:
    """Keyword arguments under which a model of this `config` sees the trees of `batch`."""
    by_window: dict[int | None, Any] = {None: None, _window(config): None}
    if backend.varlen and batch.layout.longest_chain:
        starts_C, longest = batch.start_C.int(), batch.layout.longest_chain
        for window in by_window:
            by_window[window] = carrier(Chains(starts_C, longest, window))
    elif backend.name == "flex":
        for window in by_window:
            by_window[window] = block_mask(batch.end_RL, batch.depth_RL, window)
    else:
        rows = rows_of_blocks(batch.end_RL, batch.length_R)
        for window in by_window:
            maker = Masks(batch.end_RL, batch.depth_RL, window, dtype)
            whole = rows is None or not backend.by_blocks
            by_window[window] = maker.whole() if whole else maker.none()
            if rows is not None:
                by_window[window].blocks = Blocks(rows, maker)
    return {
        "attention_mask": _by_layers(config, by_window),
        "position_ids": batch.depth_RL,
    }


def _window(config: Any) -> int | None:
    return getattr(config, "sliding_window", None) or None


def _by_layers(config: Any, by_window: dict[int | None, Any]) -> Any:
    """The mask as a model of this `config` takes it: one, or by the kinds of its layers."""
    full, windowed = by_window[None], by_window[_window(config)]
    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" in kinds and _window(config):
        return {"full_attention": full, "sliding_attention": windowed}
    return full if kinds else windowed


def padded_inputs(batch: Batch) -> dict[str, Any]:
    """Keyword arguments for rows of one path each: a plain two-dimensional padding mask."""
    place = torch.arange(batch.ids_RL.shape[1], device=batch.ids_RL.device)
    return {"attention_mask": (place < batch.length_R[:, None]).long()}
