"""Token trees: sequences that share a prefix, stored once.

A tree is a set of *paths* (token sequences). What two paths have in common from the start is one
run of tokens; where they part, the tree branches. Instruction tuning is a tree of one path, a
preference pair of two, a multiple-choice item of as many as it has choices.

Tokens lie in depth-first order, so that the subtree of token `j` is exactly the slice
`[j, end[j])`. Hence the whole attention rule, within a tree and between neighbours in a row, is

    token i sees token j   if and only if   j <= i < end[j]

and needs no other bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Path(NamedTuple):
    """One root-to-leaf token sequence.

    `ids` and `weights` have the same length; weight 0 means "read only", above 0 "scored". The
    first token is never scored: nothing predicts it.
    """

    ids: Sequence[int]
    weights: Sequence[float]


@dataclass(frozen=True, eq=False, slots=True)
class Tree:
    """A token tree of T tokens and P paths, in depth-first order."""

    ids: Ints  # (T,) token ids
    weights: Floats  # (T,) target weights
    parent: Ints  # (T,) index of the token before, -1 at a root
    end: Ints  # (T,) one past the last token of the subtree
    depth: Ints  # (T,) position along the path, from 0
    leaves: Ints  # (P,) last token of each path, in the order the paths were given
    # What objectives read of it beside log-probs:
    reference: Floats | None = None  # (P,) log-prob of each path under the reference model, in nats
    grade: int = 0  # 1: an answer to give, -1: one not to give, 0: not graded
    other: Tree | None = None  # the same prompt with the answer to another one

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> int:
        """Tokens on the longest path."""
        return int(self.depth.max()) + 1

    @property
    def read(self) -> NDArray[np.bool_]:
        """(T,) whether the model must read a token: only when one that is scored lies below it.

        The last token of a path is predicted, and nothing follows from it.
        """
        before = np.concatenate([[0], np.cumsum(self.weights != 0)])
        return before[self.end] > before[1:]

    @property
    def shared_prefix(self) -> int:
        """Tokens at the beginning that every path reads and none scores or ends on."""
        above = self.parent[1:]
        forks = above[above != np.arange(len(above))] + 1
        return int(np.concatenate([self.leaves, forks, np.flatnonzero(self.weights)[:1]]).min())

    @property
    def sizes(self) -> Floats:
        """(P,) target weight of each path; a token shared by several counts for each."""
        tokens = (self.path_tokens(p) for p in range(len(self.leaves)))
        return np.array([self.weights[t].sum() for t in tokens], np.float32)

    @property
    def scored(self) -> float:
        """Target weight summed over the paths."""
        return float(self.sizes.sum())

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Tree:
        """Build a tree; tokens with equal id and weight are shared from the start on.

        Raises `ValueError` when there is no path, a path is empty, `ids` and `weights` differ in
        length, or a first token is scored.
        """
        trie = _Trie()
        tips = [trie.insert(path) for path in paths]
        if not tips:
            raise ValueError("a tree needs at least one path")
        return trie.tree(tips)

    @classmethod
    def fork(cls, prefix: Sequence[int], branches: Iterable[Sequence[int]]) -> Tree:
        """A read-only prefix and scored branches: a prompt and its answers."""
        return cls.of(
            Path([*prefix, *branch], [0.0] * len(prefix) + [1.0] * len(branch))
            for branch in branches
        )

    def path_tokens(self, path: int) -> Ints:
        """Indices of the tokens on one path, from the root on."""
        tip = self.leaves[path]
        return np.flatnonzero(self.end[: tip + 1] > tip)

    def paths(self) -> list[Path]:
        """The paths the tree was built from, in their order."""
        found = (self.path_tokens(p) for p in range(len(self.leaves)))
        return [Path(self.ids[t].tolist(), self.weights[t].tolist()) for t in found]


class _Trie:
    """Paths being merged; a node is a token, numbered in order of arrival."""

    def __init__(self) -> None:
        self.children: list[dict[tuple[int, float], int]] = [{}]  # node 0 stands before the roots
        self.tokens: list[tuple[int, float]] = [(-1, 0.0)]

    def insert(self, path: Path) -> int:
        ids, weights = path
        if len(ids) == 0 or len(ids) != len(weights):
            raise ValueError(
                f"a path needs as many weights as ids, and some (got {len(weights)}, {len(ids)})"
            )
        if weights[0] != 0:
            raise ValueError("the first token of a path cannot be scored: nothing predicts it")
        node = 0
        for key in zip(ids, weights, strict=True):
            found = self.children[node].get(key)
            if found is None:
                found = len(self.tokens)
                self.children[node][key] = found
                self.children.append({})
                self.tokens.append(key)
            node = found
        return node

    def tree(self, tips: list[int]) -> Tree:
        total = len(self.tokens) - 1
        ids, parent = np.zeros(total, np.int64), np.full(total, -1, np.int64)
        depth, end = np.zeros(total, np.int64), np.zeros(total, np.int64)
        weights = np.zeros(total, np.float32)
        place = {0: -1}
        # Without recursion: a path may be thousands of tokens deep. A negative entry closes a node.
        stack = [*reversed(self.children[0].values())]
        above: list[int] = []
        placed = 0
        while stack:
            node = stack.pop()
            if node < 0:
                end[above.pop()] = placed
                continue
            here = place[node] = placed
            placed += 1
            ids[here], weights[here] = self.tokens[node]
            parent[here] = above[-1] if above else -1
            depth[here] = len(above)
            above.append(here)
            stack.append(-node)
            stack.extend(reversed(self.children[node].values()))
        return Tree(
            ids, weights, parent, end, depth, np.asarray([place[t] for t in tips], np.int64)
        )
