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

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Target(StrEnum):
    """What is to be predicted on a path."""

    TOKENS = "tokens"  # those with a weight above 0, by the language model's own head
    LABEL = "label"  # one of a few labels, after the last token, by a classifier
    VALUE = "value"  # a number, after the last token, by a value head


class CriticValues(NamedTuple):
    """What a critic made of a group of answers, token by token as in `Sampled`: by how much each
    came better than expected, what it is to learn, and what it said."""

    advantage_PD: NDArray[np.float64]
    return_PD: NDArray[np.float64]
    value_PD: NDArray[np.float64]


class Sampled(NamedTuple):
    """What a group of answers brings that a model has sampled to one prompt; P paths, D depths.

    Log-probs are in nats, at the depth of their token on the path, and 0 where none is scored.
    """

    old_PD: NDArray[np.float64]  # of the model that sampled them
    reference_PD: NDArray[np.float64]  # of the model that training begins with
    advantage_P: NDArray[np.float64]  # how much better than its siblings an answer is
    kl_coef: float  # what the KL to the reference costs in this round, a nat
    critic: CriticValues | None = None  # where advantages are of tokens


class Path(NamedTuple):
    """One root-to-leaf token sequence, and what is to be predicted on it.

    `ids` and `weights` have the same length; weight 0 means "read only", above 0 "scored". The
    first token is never scored: nothing predicts it. With another target than tokens all weights
    are 0, and one thing is asked for, with weight 1, after the last token.
    """

    ids: Sequence[int]
    weights: Sequence[float]
    target: Target = Target.TOKENS
    label: int = 0  # with `Target.LABEL`: the number of the right one, from 0

    @property
    def length(self) -> int:
        """Tokens, and one more where something is asked for after the last."""
        return len(self.ids) + (self.target is not Target.TOKENS)

    @property
    def scored(self) -> float:
        """Target weight summed over the path."""
        return sum(self.weights) + (self.target is not Target.TOKENS)

    def windows(self, length: int) -> list[Path]:
        """The path in pieces of at most `length` tokens. Each begins with the last token of the one
        before it, which is only read, so that every token is scored once."""
        pieces = []
        for start in range(0, max(1, len(self.ids) - 1), length - 1):
            weights = [0.0, *self.weights[start + 1 : start + length]]
            pieces.append(Path(self.ids[start : start + length], weights))
        return pieces

    def cut(self, length: int) -> Path:
        """The first `length` tokens. A path that was longer no longer asks for a label or a value:
        they are those of its whole text."""
        return self if self.length <= length else Path(self.ids[:length], self.weights[:length])


@dataclass(frozen=True, eq=False, slots=True)
class Tree:
    """A token tree of T tokens and P paths, in depth-first order.

    All paths have the same `target`. Where that is a label or a value, the place of each leaf
    stands for what is asked for: it is scored and never read, and its entry in `ids` is 0.
    """

    ids: Ints  # (T,) token ids
    weights: Floats  # (T,) target weights
    parent: Ints  # (T,) index of the token before, -1 at a root
    end: Ints  # (T,) one past the last token of the subtree
    depth: Ints  # (T,) position along the path, from 0
    leaves: Ints  # (P,) last token of each path, in the order the paths were given
    target: Target = Target.TOKENS
    labels: Ints | None = None  # with `Target.LABEL`: (T,) number of the label at a scored place
    # What objectives read of it beside log-probs:
    reference: Floats | None = None  # (P,) log-prob of each path under the reference model, in nats
    grade: int = 0  # 1: an answer to give, -1: one not to give, 0: not graded
    other: Tree | None = None  # the same prompt with the answer to another one
    sampled: Sampled | None = None  # of answers that the model itself has given
    example: int = -1  # of a training step: the place of its example among those trained on

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> int:
        """Tokens on the longest path."""
        return int(self.depth.max()) + 1

    @property
    def targets(self) -> Ints:
        """(T,) what is to be predicted at each scored place: a token id, a label's number, or 0
        for a value."""
        return self.ids if self.labels is None else self.labels

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

        Raises `ValueError` when there is no path, a path is empty, an id is negative, `ids` and
        `weights` differ in length, a first token is scored, a token is scored beside a label or a
        value, or the paths differ in their targets.
        """
        paths = list(paths)
        if not paths:
            raise ValueError("a tree needs at least one path")
        if len(paths) == 1:
            return _chain(paths[0])
        return _forking(paths, one_target(paths))

    @classmethod
    def fork(cls, prefix: Sequence[int], branches: Iterable[Sequence[int]]) -> Tree:
        """A read-only prefix and scored branches: a prompt and its answers."""
        return cls.of(
            Path([*prefix, *branch], [0.0] * len(prefix) + [1.0] * len(branch))
            for branch in branches
        )

    def path_tokens(self, path: int) -> Ints:
        """Indices of the tokens on one path, from the root on."""
        leaf = self.leaves[path]
        return np.flatnonzero(self.end[: leaf + 1] > leaf)

    def paths(self) -> list[Path]:
        """The paths the tree was built from, in their order."""
        return [self._path(self.path_tokens(p)) for p in range(len(self.leaves))]

    def _path(self, tokens: Ints) -> Path:
        if self.target is Target.TOKENS:
            return Path(self.ids[tokens].tolist(), self.weights[tokens].tolist())
        *before, leaf = tokens.tolist()
        ids, weights = self.ids[before].tolist(), self.weights[before].tolist()
        return Path(ids, weights, self.target, int(self.targets[leaf]))


def one_target(several: Iterable[Path | Tree]) -> Target:
    """What all of them ask for; tokens where there is none. Raises `ValueError` where they differ:
    what is scored together has one head."""
    targets = {one.target for one in several} or {Target.TOKENS}
    if len(targets) > 1:
        raise ValueError(f"scored together have one target, not {', '.join(sorted(targets))}")
    return targets.pop()


def _check(path: Path) -> None:
    """Raise `ValueError` where a path cannot be part of a tree."""
    ids, weights, target, label = path
    if len(ids) == 0 or len(ids) != len(weights):
        raise ValueError(
            f"a path needs as many weights as ids, and some (got {len(weights)}, {len(ids)})"
        )
    if weights[0] != 0:
        raise ValueError("the first token of a path cannot be scored: nothing predicts it")
    if min(ids) < 0 or label < 0:
        raise ValueError("token ids and labels are 0 or more")
    if target is not Target.TOKENS and any(weights):
        raise ValueError(f"beside a {target} no token can be scored")


def _chain(path: Path) -> Tree:
    """A tree of one path. Most training data are made of these, and a trie takes ten times as
    long."""
    _check(path)
    total = path.length
    ids, weights = np.zeros(total, np.int64), np.zeros(total, np.float32)
    ids[: len(path.ids)], weights[: len(path.weights)] = path.ids, path.weights
    labels = None
    if path.target is not Target.TOKENS:
        weights[-1] = 1.0
    if path.target is Target.LABEL:
        labels = np.zeros(total, np.int64)
        labels[-1] = path.label
    place = np.arange(total)
    last, end = np.array([total - 1]), np.full(total, total)
    return Tree(ids, weights, place - 1, end, place, last, path.target, labels)


def _forking(paths: Sequence[Path], target: Target) -> Tree:
    """A tree of several paths: what all of them begin with is a chain, and only the rest of each,
    which is short where a prompt has answers, goes through a trie."""
    for path in paths:
        _check(path)
    shared = _shared(paths)
    trie = _Trie(target)
    rest = trie.tree([trie.insert(path, shared) for path in paths])
    total = shared + len(rest)
    before, none = np.arange(shared), np.zeros(shared, np.int64)
    first = paths[0]
    return Tree(
        np.concatenate([np.array(first.ids[:shared], np.int64), rest.ids]),
        np.concatenate([np.array(first.weights[:shared], np.float32), rest.weights]),
        np.concatenate([before - 1, rest.parent + shared]),
        np.concatenate([np.full(shared, total), rest.end + shared]),
        np.concatenate([before, rest.depth + shared]),
        rest.leaves + shared,
        target,
        None if rest.labels is None else np.concatenate([none, rest.labels]),
    )


def _shared(paths: Sequence[Path]) -> int:
    """Tokens that all paths begin with, of equal id and weight."""
    first, *others = ((np.asarray(path.ids), np.asarray(path.weights)) for path in paths)
    most = min(len(path.ids) for path in paths)
    for other in others:
        same = np.ones(most, bool)
        for one, two in zip(first, other, strict=True):
            same &= one[:most] == two[:most]
        most = most if same.all() else int(same.argmin())
    return most


class _Trie:
    """Paths being merged; a node is a token, or what is asked for after the last one, numbered in
    order of arrival."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.children: list[dict[tuple[int, float], int]] = [{}]  # node 0 stands before the roots
        self.tokens: list[tuple[int, float]] = [(-1, 0.0)]  # its id or label, and its weight

    def insert(self, path: Path, start: int) -> int:
        """Take up a path from its token `start` on; the node of its last token."""
        ids, weights, target, label = path
        node = 0
        for key in zip(ids[start:], weights[start:], strict=True):
            node = self._below(node, key)
        return node if target is Target.TOKENS else self._below(node, (label, 1.0))

    def _below(self, node: int, key: tuple[int, float]) -> int:
        child = self.children[node].get(key)
        if child is None:
            child = self.children[node][key] = len(self.tokens)
            self.children.append({})
            self.tokens.append(key)
        return child

    def tree(self, leaves: list[int]) -> Tree:
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
        labels = None
        if self.target is not Target.TOKENS:  # no token has a weight then
            asked = weights != 0
            labels = np.where(asked, ids, 0) if self.target is Target.LABEL else None
            ids = np.where(asked, 0, ids)
        at = np.asarray([place[leaf] for leaf in leaves], np.int64)  # -1: before the first token
        return Tree(ids, weights, parent, end, depth, at, self.target, labels)


def digest(about: str, trees: Iterable[Tree]) -> str:
    """sha256 of `about` and of what is read and asked in each tree: the key of what is kept of
    their scores."""
    found = hashlib.sha256(about.encode())
    for tree in trees:
        asked = () if tree.target is Target.TOKENS else (tree.targets,)
        for array in (tree.ids, tree.weights, tree.parent, tree.leaves, *asked):
            found.update(len(array).to_bytes(8, "little") + array.tobytes())
    return found.hexdigest()
