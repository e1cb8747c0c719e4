"""Forests: trees packed into rows.

What belongs here is bookkeeping on token counts; the tensors a model reads are in `batch.py`. A
*row group* is the smallest set of rows that must be scored together: nearly always one row of
several trees; several rows where one tree did not fit into a row (it is split at its branches,
never cut) or where every path has a row of its own (`padded`). Rows hold the tokens a model must
read (`Tree.read`): what is only predicted takes no room. What trees begin with together (a system
prompt, a subject's solved examples) stands in a row once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from myosotis.trees.tree import Ints, Target, Tree, one_target


@dataclass(frozen=True, eq=False)
class PackedTree:
    """Paths of one tree or of several: path k of `tree` was path `paths[k]` of tree `trees[k]`."""

    trees: Sequence[int]
    paths: Sequence[int]
    tree: Tree

    @classmethod
    def of(cls, index: int, tree: Tree) -> PackedTree:
        """The whole of tree `index`."""
        return cls([index] * len(tree.leaves), range(len(tree.leaves)), tree)

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


Row = list[PackedTree]
RowGroup = list[Row]

SHORTEST_PREFIX = 8
"""A shorter common beginning is not worth a branch in the attention of every row."""

ROW_COST = 64
"""What one more row costs beside its tokens, in tokens: small products run slower."""


def pack(
    trees: Sequence[Tree], row_tokens: int, *, stretch: int = 1, one_path_a_row: bool = False
) -> list[RowGroup]:
    """Pack trees into rows of at most `row_tokens` tokens, best fit in order of falling length.

    A path longer than `row_tokens` gets a longer row of its own, and so does a tree of up to half a
    row more than its longest path: splitting it would read its long prefix again for every part
    (few-shot examples before each choice). The result depends on the trees and their order only.
    What trees begin with together is read once a row; such a row may be `stretch` times as long as
    that beginning. With `one_path_a_row` nothing is shared and nothing is packed.
    """
    if one_path_a_row:
        return [
            [[PackedTree([i], [p], Tree.of([path]))] for p, path in enumerate(tree.paths())]
            for i, tree in enumerate(trees)
        ]
    groups: list[RowGroup] = []
    whole: list[PackedTree] = []
    for index, tree in enumerate(trees):
        most = max(row_tokens, tree.longest + row_tokens // 2)
        packed = PackedTree.of(index, tree)
        if len(packed) <= most:
            whole.append(packed)
        else:
            groups.append([[part] for part in _split(index, tree, most)])
    for family in _families(whole, row_tokens, stretch):
        shared = family.shared_prefix
        rows = _best_fit(family.packed, family.room, shared)
        groups += [[[_graft(row, shared)] if shared else row] for row in rows]
    return groups


class _Family(NamedTuple):
    """Packed trees that share their first `shared_prefix` tokens (0: too few to matter), in rows of
    `room`."""

    packed: list[PackedTree]
    shared_prefix: int
    room: int

    @classmethod
    def of(
        cls, packed: list[PackedTree], shared_prefix: int, row_tokens: int, stretch: int
    ) -> _Family:
        packed = sorted(packed, key=lambda one: one.trees[0])
        if shared_prefix < SHORTEST_PREFIX or len(packed) < 2:
            return cls(packed, 0, row_tokens)
        return cls(
            packed,
            shared_prefix,
            max(row_tokens, shared_prefix + row_tokens // 2, stretch * shared_prefix),
        )

    @property
    def cost(self) -> float:
        """About how many tokens are read, a row counted as `ROW_COST` more."""
        own = sum(max(len(one) - self.shared_prefix, 0) for one in self.packed)
        rows = ceil(own / max(self.room - self.shared_prefix, 1))
        return own + rows * (self.shared_prefix + ROW_COST)


def _families(packed: list[PackedTree], row_tokens: int, stretch: int) -> list[_Family]:
    """All trees as one family, or those that begin alike for longer as families of their own (the
    items of a subject, which share its solved examples): what reads fewest tokens."""
    ordered = sorted(packed, key=lambda one: one.tree.ids.astype(">u4").tobytes())
    alike = [_common_prefix([a.tree, b.tree]) for a, b in pairwise(ordered)]

    def parted(least: int) -> list[_Family]:
        """Neighbours that share `least` tokens together, the others as one family."""
        alone: list[PackedTree] = []
        families: list[_Family] = []
        start = 0
        for end in range(1, len(ordered) + 1):
            if end < len(ordered) and alike[end - 1] >= least:
                continue
            part, shared = ordered[start:end], alike[start : end - 1]
            if shared:
                families.append(_Family.of(part, min(shared), row_tokens, stretch))
            else:
                alone += part
            start = end
        if alone:
            shared_prefix = _common_prefix([one.tree for one in alone])
            families.append(_Family.of(alone, shared_prefix, row_tokens, stretch))
        return families

    levels = [0]
    while (further := max(2 * levels[-1], 2 * SHORTEST_PREFIX)) <= max(alike, default=0):
        levels.append(further)
    return min(map(parted, levels), key=lambda families: sum(one.cost for one in families))


def _best_fit(packed: list[PackedTree], row_tokens: int, shared: int) -> list[Row]:
    """Rows of at most `row_tokens` tokens, of which `shared` are in every tree and count once."""
    rows: list[Row] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for one in sorted(packed, key=lambda p: (-len(p), p.trees[0])):
        size = max(len(one) - shared, 0)
        at = bisect_left(room, (size, -1))
        if at == len(room):
            rows.append([one])
            insort(room, (max(row_tokens - shared - size, 0), len(rows) - 1))
        else:
            left, row = room.pop(at)
            rows[row].append(one)
            insort(room, (left - size, row))
    return rows


def _common_prefix(trees: Sequence[Tree]) -> int:
    """How many tokens all trees begin with: read only, and before anything branches."""
    if len(trees) < 2:
        return 0
    first = trees[0].ids
    shared = min(tree.shared_prefix for tree in trees)
    for tree in trees[1:]:
        apart = np.flatnonzero(tree.ids[:shared] != first[:shared])
        shared = int(apart[0]) if len(apart) else shared
    return shared


def _graft(row: Row, shared_prefix: int) -> PackedTree:
    """The trees of a row as one: they share their first `shared_prefix` tokens."""
    if len(row) == 1:
        return row[0]
    ids, weights, parent, end, depth, leaves, labels = ([] for _ in range(7))
    shift = 0
    for tree in (packed.tree for packed in row):
        own = slice(shared_prefix if ids else 0, None)
        ids.append(tree.ids[own])
        weights.append(tree.weights[own])
        parent.append(np.where(tree.parent < shared_prefix, tree.parent, tree.parent + shift)[own])
        end.append(tree.end[own] + shift)
        depth.append(tree.depth[own])
        leaves.append(tree.leaves + shift)
        labels.append(tree.targets[own])
        shift += len(tree) - shared_prefix
    joined = Tree(
        np.concatenate(ids),
        np.concatenate(weights),
        np.concatenate(parent),
        np.concatenate(end),
        np.concatenate(depth),
        np.concatenate(leaves),
        target := one_target(packed.tree for packed in row),
        np.concatenate(labels) if target is Target.LABEL else None,
    )
    joined.end[:shared_prefix] = len(joined)
    return PackedTree(
        [index for packed in row for index in packed.trees],
        [path for packed in row for path in packed.paths],
        joined,
    )


def _split(index: int, tree: Tree, most: int) -> Iterable[PackedTree]:
    """Consecutive groups of paths of which the model reads at most `most` tokens."""
    read = tree.read
    tokens = (tree.path_tokens(p) for p in range(len(tree.leaves)))
    members = [set(t[read[t]].tolist()) for t in tokens]
    order = np.argsort(tree.leaves, kind="stable").tolist()
    paths = tree.paths()
    group: list[int] = []
    union: set[int] = set()
    for p in order:
        if group and len(union | members[p]) > most:
            yield PackedTree([index] * len(group), group, Tree.of(paths[q] for q in group))
            group, union = [], set()
        group.append(p)
        union |= members[p]
    yield PackedTree([index] * len(group), group, Tree.of(paths[q] for q in group))
