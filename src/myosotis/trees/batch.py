"""Batches: rows of a forest stacked into the tensors a model reads, and where its scores stand.

What belongs here is bookkeeping on indices; attention is in `attention.py`, the model is called in
`scorer.py`.

Shape suffixes: R rows, L tokens of the longest row, N predicting positions, S scored tokens,
B branches (root-to-leaf paths), M pairs (scored token, branch it lies on), C chains and paddings of
the flattened rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myosotis.trees.forest import PackedTree, Row
from myosotis.trees.tree import Floats, Ints, Target, one_target

CHUNK = 256
"""Predicting positions that a head is asked together; with 50,000 words one chunk of fp32 logits is
50 MB."""


class Layout(NamedTuple):
    """What is known of a batch on the host, so that a device need not be asked and waited for."""

    tokens: int  # read, padding not counted
    one_path: bool  # every row is one path: plain causal attention, without a mask, is the same
    full: bool  # no row is padded
    longest_chain: int  # tokens, paddings counted; 0 where a tree branches
    cuts: list[int]  # scored tokens before each `CHUNK` of predicting positions, and of all
    pairs: int  # of a token and one that it sees, itself among them


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows ready for the model, and where to find the scores in its output."""

    ids_RL: Tensor  # token ids, 0 where padded
    depth_RL: Tensor  # positions: they restart along each root-to-leaf path
    end_RL: Tensor  # one past the last token of the subtree, within the row
    length_R: Tensor  # tokens of each row before the padding
    source_N: Tensor  # flat index into (R, L) of every position that predicts a scored token
    predictor_S: Tensor  # index into N; ascending
    target_S: Tensor  # what is to be predicted there: a token id, or a label's number (`target`)
    weight_S: Tensor  # its target weight
    depth_S: Tensor  # its position along its path
    scored_M: Tensor  # index into S
    branch_M: Tensor  # index into B
    tree_B: Tensor  # which of the given trees a branch belongs to
    path_B: Tensor  # which path of that tree it is
    start_C: Tensor  # where chains and paddings begin in the flattened rows, and where they end
    target: Target  # which head predicts what is scored
    layout: Layout

    def to(self, device: torch.device | str) -> Batch:
        """The same there: one copy of all tensors together, for which the host does not wait."""
        if torch.device(device).type == self.ids_RL.device.type:
            return self
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        whole = {name: _as_int64(tensor) for name, tensor in tensors.items()}
        flat = torch.cat([tensor.flatten() for tensor in whole.values()])
        if torch.cuda.is_available():  # the copy is not waited for
            flat = flat.pin_memory()
        parts = flat.to(device, non_blocking=True).split([t.numel() for t in whole.values()])
        moved = zip(tensors.items(), parts, strict=True)
        back = {name: _as_it_was(part, tensor) for (name, tensor), part in moved}
        return replace(self, **back)

    @property
    def tokens(self) -> int:
        """Tokens read, padding not counted."""
        return self.layout.tokens


def _as_int64(tensor: Tensor) -> Tensor:
    """Weights are fp32, everything else is int64 already."""
    return tensor.view(torch.int32).long() if tensor.dtype is torch.float32 else tensor


def _as_it_was(part: Tensor, before: Tensor) -> Tensor:
    if before.dtype is torch.float32:
        part = part.int().view(torch.float32)
    return part.view(before.shape)


def stack(rows: Sequence[Row], multiple: int = 1) -> Batch:
    """Stack rows into one `Batch`, padded on the right to the longest, or to the next `multiple`.

    Raises `ValueError` for trees that differ in what is to be predicted.
    """
    lengths = [sum(map(len, row)) for row in rows]
    width = -(-max(1, *lengths) // multiple) * multiple
    ids = np.zeros((len(rows), width), np.int64)
    depth = np.zeros_like(ids)
    end = np.tile(np.arange(1, width + 1), (len(rows), 1))  # padding sees only itself
    parts: list[_Scored] = []
    starts: list[int] = []
    chains, pairs = True, 0
    for r, row in enumerate(rows):
        start = 0
        for packed in row:
            tree, read, stop = packed.tree, packed.read, start + len(packed)
            ids[r, start:stop] = tree.ids[read]
            depth[r, start:stop] = tree.depth[read]
            end[r, start:stop] = packed.place[tree.end[read]] + start
            parts.append(_Scored.of(packed, offset=r * width + start))
            starts.append(r * width + start)
            chains &= bool((end[r, start:stop] == stop).all())
            pairs += int((end[r, start:stop] - np.arange(start, stop)).sum())
            start = stop
        if start < width:
            starts.append(r * width + start)
    starts.append(len(rows) * width)
    index = _index(parts)
    layout = Layout(
        tokens=sum(lengths),
        one_path=chains and all(len(row) <= 1 for row in rows),
        full=min(lengths) == width,
        longest_chain=int(np.diff(starts).max()) if chains else 0,
        cuts=_cuts(index),
        pairs=pairs,
    )
    return Batch(
        ids_RL=torch.from_numpy(ids),
        depth_RL=torch.from_numpy(depth),
        end_RL=torch.from_numpy(end),
        length_R=torch.tensor(lengths),
        start_C=torch.tensor(starts),
        target=one_target(packed.tree for row in rows for packed in row),
        layout=layout,
        **index,
    )


def _cuts(index: dict[str, Tensor]) -> list[int]:
    """`Layout.cuts`; predictors are ascending."""
    predictors = len(index["source_N"])
    edges = [*range(0, predictors, CHUNK), predictors]
    return np.searchsorted(index["predictor_S"].numpy(), edges).tolist()


class _Scored(NamedTuple):
    """The scored tokens of a packed tree: flat positions in (R, L), targets, weights, depths,
    branches."""

    source: Ints
    target: Ints
    weight: Floats
    depth: Ints
    scored: Ints  # pairs (scored token, branch it lies on)
    branch: Ints
    tree: Ints
    path: Ints

    @classmethod
    def of(cls, packed: PackedTree, offset: int) -> _Scored:
        tree = packed.tree
        token = np.flatnonzero(tree.weights)
        # Siblings are predicted from the same position: bring them together.
        token = token[np.argsort(tree.parent[token], kind="stable")]
        on_path = (token[:, None] <= tree.leaves) & (tree.leaves < tree.end[token][:, None])
        scored, branch = np.nonzero(on_path)
        return cls(
            source=packed.place[tree.parent[token]] + offset,
            target=tree.targets[token],
            weight=tree.weights[token],
            depth=tree.depth[token],
            scored=scored,
            branch=branch,
            tree=np.asarray(packed.trees),
            path=np.asarray(packed.paths),
        )


def _index(parts: list[_Scored]) -> dict[str, Tensor]:
    """Number predictors, scored tokens and branches through the whole batch."""

    def joined(arrays: Iterable[NDArray[Any]], dtype: type) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype)

    scored_before = np.cumsum([0, *(len(p.target) for p in parts)])
    branches_before = np.cumsum([0, *(len(p.tree) for p in parts)])
    source, predictor = np.unique(joined((p.source for p in parts), np.int64), return_inverse=True)
    arrays = {
        "source_N": source,
        "predictor_S": predictor,
        "target_S": joined((p.target for p in parts), np.int64),
        "weight_S": joined((p.weight for p in parts), np.float32),
        "depth_S": joined((p.depth for p in parts), np.int64),
        "scored_M": joined(
            (p.scored + n for p, n in zip(parts, scored_before[:-1], strict=True)), np.int64
        ),
        "branch_M": joined(
            (p.branch + n for p, n in zip(parts, branches_before[:-1], strict=True)), np.int64
        ),
        "tree_B": joined((p.tree for p in parts), np.int64),
        "path_B": joined((p.path for p in parts), np.int64),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
