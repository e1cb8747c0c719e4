"""Forests: trees packed into rows, and rows stacked into the tensors a model reads.

What belongs here is bookkeeping on token counts and indices; attention is in `attention.py`, the
model is called in `score.py`. A *bundle* is the smallest group of rows that must be scored
together: nearly always one row of several trees; several rows where one tree did not fit into a
row (it is split at its branches, never cut) or where every path has a row of its own (`padded`).
Rows hold the tokens a model must read (`Tree.read`): what is only predicted takes no room.

Shape suffixes: R rows, L tokens of the longest row, N predicting positions, S scored tokens,
B branches (root-to-leaf paths), M pairs (scored token, branch it lies on).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from myosotis.trees.tree import Floats, Ints, Tree


@dataclass(frozen=True, eq=False)
class Piece:
    """A tree, or some paths of one: `paths[k]` is where path k of `tree` stood in tree `index`."""

    index: int
    paths: Sequence[int]
    tree: Tree

    @cached_property
    def read(self) -> NDArray[np.bool_]:
        """(T,) `Tree.read`, computed once."""
        return self.tree.read

    @cached_property
    def place(self) -> Ints:
        """(T + 1,) how many tokens the model reads of those before each one, and of all."""
        return np.concatenate([[0], np.cumsum(self.read)])

    def __len__(self) -> int:
        """Tokens the model reads."""
        return int(self.place[-1])


Row = list[Piece]
Bundle = list[Row]


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows ready for the model, and where to find the scores in its output."""

    ids_RL: Tensor  # token ids, 0 where padded
    depth_RL: Tensor  # positions: they restart along each root-to-leaf path
    end_RL: Tensor  # one past the last token of the subtree, within the row
    length_R: Tensor  # tokens of each row before the padding
    source_N: Tensor  # flat index into (R, L) of every position that predicts a scored token
    predictor_S: Tensor  # index into N; ascending
    target_S: Tensor  # the token id to be predicted
    weight_S: Tensor  # its target weight
    scored_M: Tensor  # index into S
    branch_M: Tensor  # index into B
    tree_B: Tensor  # which of the given trees a branch belongs to
    path_B: Tensor  # which path of that tree it is

    def to(self, device: torch.device | str) -> Batch:
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return replace(self, **moved)

    @property
    def tokens(self) -> int:
        """Tokens read, padding not counted."""
        return int(self.length_R.sum())

    @classmethod
    def empty(cls) -> Batch:
        """One row of one token and nothing scored: keeps data-parallel ranks in step."""
        return stack([[]])


def pack(trees: Sequence[Tree], row_tokens: int, *, one_path_a_row: bool = False) -> list[Bundle]:
    """Pack trees into rows of at most `row_tokens` tokens, best fit in order of falling length.

    A path longer than `row_tokens` gets a longer row of its own, and so does a tree of up to half a
    row more than its longest path: splitting it would read its long prefix again for every part
    (few-shot examples before each choice). The result depends on the trees and their order only.
    With `one_path_a_row` nothing is shared and nothing is packed.
    """
    if one_path_a_row:
        return [
            [[Piece(i, (p,), Tree.of([path]))] for p, path in enumerate(tree.paths())]
            for i, tree in enumerate(trees)
        ]
    bundles: list[Bundle] = []
    whole: list[Piece] = []
    for index, tree in enumerate(trees):
        most = max(row_tokens, tree.longest + row_tokens // 2)
        piece = Piece(index, range(len(tree.tips)), tree)
        if len(piece) <= most:
            whole.append(piece)
        else:
            bundles.append([[piece] for piece in _split(index, tree, most)])
    return bundles + [[row] for row in _best_fit(whole, row_tokens)]


def _best_fit(pieces: list[Piece], row_tokens: int) -> list[Row]:
    rows: list[Row] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for piece in sorted(pieces, key=lambda p: (-len(p), p.index)):
        size = len(piece)
        at = bisect_left(room, (size, -1))
        if at == len(room):
            rows.append([piece])
            insort(room, (max(row_tokens - size, 0), len(rows) - 1))
        else:
            left, row = room.pop(at)
            rows[row].append(piece)
            insort(room, (left - size, row))
    return rows


def _split(index: int, tree: Tree, most: int) -> Iterable[Piece]:
    """Consecutive groups of paths of which the model reads at most `most` tokens."""
    read = tree.read
    tokens = (tree.path_tokens(p) for p in range(len(tree.tips)))
    members = [set(t[read[t]].tolist()) for t in tokens]
    order = np.argsort(tree.tips, kind="stable").tolist()
    paths = tree.paths()
    group: list[int] = []
    union: set[int] = set()
    for p in order:
        if group and len(union | members[p]) > most:
            yield Piece(index, group, Tree.of(paths[q] for q in group))
            group, union = [], set()
        group.append(p)
        union |= members[p]
    yield Piece(index, group, Tree.of(paths[q] for q in group))


def stack(rows: Sequence[Row]) -> Batch:
    """Stack rows into one `Batch`, padded on the right to the longest."""
    lengths = [sum(map(len, row)) for row in rows]
    width = max(1, *lengths)
    ids = np.zeros((len(rows), width), np.int64)
    depth = np.zeros_like(ids)
    end = np.tile(np.arange(1, width + 1), (len(rows), 1))  # padding sees only itself
    parts: list[_Scored] = []
    for r, row in enumerate(rows):
        start = 0
        for piece in row:
            tree, read, stop = piece.tree, piece.read, start + len(piece)
            ids[r, start:stop] = tree.ids[read]
            depth[r, start:stop] = tree.depth[read]
            end[r, start:stop] = piece.place[tree.end[read]] + start
            parts.append(_Scored.of(piece, offset=r * width + start))
            start = stop
    return Batch(
        ids_RL=torch.from_numpy(ids),
        depth_RL=torch.from_numpy(depth),
        end_RL=torch.from_numpy(end),
        length_R=torch.tensor(lengths),
        **_index(parts),
    )


class _Scored(NamedTuple):
    """The scored tokens of one piece: flat positions in (R, L), targets, weights, branches."""

    source: Ints
    target: Ints
    weight: Floats
    scored: Ints  # pairs (scored token, branch it lies on)
    branch: Ints
    tree: Ints
    path: Ints

    @classmethod
    def of(cls, piece: Piece, offset: int) -> _Scored:
        tree = piece.tree
        token = np.flatnonzero(tree.weights)
        # Siblings are predicted from the same position: bring them together.
        token = token[np.argsort(tree.parent[token], kind="stable")]
        on_path = (token[:, None] <= tree.tips) & (tree.tips < tree.end[token][:, None])
        scored, branch = np.nonzero(on_path)
        return cls(
            source=piece.place[tree.parent[token]] + offset,
            target=tree.ids[token],
            weight=tree.weights[token],
            scored=scored,
            branch=branch,
            tree=np.full(len(tree.tips), piece.index),
            path=np.asarray(piece.paths),
        )


def _index(parts: list[_Scored]) -> dict[str, Tensor]:
    """Number predictors, scored tokens and branches through the whole batch."""

    def joined(arrays: Iterable[NDArray[Any]], dtype: type) -> NDArray[Any]:
        found = [np.zeros(0, dtype), *arrays]
        return np.concatenate(found).astype(dtype)

    scored_before = np.cumsum([0, *(len(p.target) for p in parts)])
    branches_before = np.cumsum([0, *(len(p.tree) for p in parts)])
    source, predictor = np.unique(joined((p.source for p in parts), np.int64), return_inverse=True)
    arrays = {
        "source_N": source,
        "predictor_S": predictor,
        "target_S": joined((p.target for p in parts), np.int64),
        "weight_S": joined((p.weight for p in parts), np.float32),
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
