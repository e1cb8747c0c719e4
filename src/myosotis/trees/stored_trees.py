"""Many trees as a few arrays, in memory or on disk; a tree is made when it is asked for.

Each path is a run of numbers: the id of a token that is only read, and the complement (~) of what
is scored: of a token's id, or of the label or value that is asked for after the last token. So the
weights need no place of their own, which is why only weights of 0 and 1 can be kept so. A token
takes four bytes on disk and none in memory; the tree that is made of it takes fifty for a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from myosotis.trees.tree import Path, Target, Tree, one_target

Values = NDArray[np.int32]


class TreeArrays(NamedTuple):
    """T trees of P paths of N values."""

    values: Values  # (N,) path after path
    path_sizes: NDArray[np.int32]  # (P,) values of each
    path_scored: NDArray[np.int32]  # (P,) how many of them are scored
    tree_paths: NDArray[np.int32]  # (T,) paths of each
    tree_tokens: NDArray[np.int32]  # (T,) tokens of each, what its paths share counted once
    grades: NDArray[np.int8]  # (T,) see `Tree.grade`; not 0: the second path is `Tree.other`

    @classmethod
    def of(cls, trees: Iterable[tuple[Sequence[Path], int]]) -> TreeArrays:
        """Of the paths and the grade of each tree. Raises `ValueError` as `Tree.of` does."""
        values, sizes, scored, counts, tokens, grades = [], [], [], [], [], []
        for paths, grade in trees:
            runs = [_values(path) for path in paths]
            values += runs
            sizes += [len(run) for run in runs]
            scored += [np.count_nonzero(run < 0) for run in runs]
            counts.append(len(runs))
            tokens.append(len(runs[0]) if grade else _tokens(paths, runs))
            grades.append(grade)
        return cls(
            np.concatenate(values) if values else np.zeros(0, np.int32),
            np.array(sizes, np.int32),
            np.array(scored, np.int32),
            np.array(counts, np.int32),
            np.array(tokens, np.int32),
            np.array(grades, np.int8),
        )


class StoredTrees(Sequence[Tree]):
    """Trees of arrays that may lie on disk, all with one target.

    A tree is made anew each time it is asked for: two of the same place are equal, not the same.
    """

    def __init__(self, arrays: TreeArrays, target: Target) -> None:
        self.arrays, self.target = arrays, target
        self._path_ends = np.cumsum(arrays.path_sizes, dtype=np.int64)
        self._tree_ends = np.cumsum(arrays.tree_paths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._tree_ends)

    @overload
    def __getitem__(self, index: int) -> Tree: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tree]: ...
    def __getitem__(self, index: int | slice) -> Tree | list[Tree]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        last = int(self._tree_ends[number])
        first = last - int(self.arrays.tree_paths[number])
        runs = [self._run(path) for path in range(first, last)]
        if not (grade := int(self.arrays.grades[number])):
            return tree_of(runs, self.target)
        own, other = (tree_of([run], self.target) for run in runs)
        return replace(own, grade=grade, other=other)

    def _run(self, path: int) -> Values:
        end = int(self._path_ends[path])
        return np.asarray(self.arrays.values[end - int(self.arrays.path_sizes[path]) : end])

    @property
    def longest(self) -> int:
        """Tokens on the longest path of a tree; the answer to another prompt does not count."""
        return int(self._own(self.arrays.path_sizes).max(initial=0))

    @property
    def scored(self) -> int:
        """`Tree.scored`, summed over the trees."""
        return int(self._own(self.arrays.path_scored).sum(dtype=np.int64))

    def target_sizes(self) -> NDArray[np.int32] | list[list[float]]:
        """`Tree.sizes` of each: (T, paths) where all have as many."""
        counts = np.where(self.arrays.grades != 0, 1, self.arrays.tree_paths)
        own = self._own(self.arrays.path_scored)
        if len(set(counts.tolist())) == 1:
            return own.reshape(len(self), -1)
        ends = np.cumsum(counts).tolist()
        rows = own.astype(float).tolist()
        return [rows[first:last] for first, last in zip([0, *ends], ends, strict=False)]

    def _own(self, of_path: NDArray[np.int32]) -> NDArray[np.int32]:
        """Of something of each path, that of the trees' own."""
        if not self.arrays.grades.any():
            return of_path
        other = np.zeros(len(of_path), bool)
        other[self._tree_ends[self.arrays.grades != 0] - 1] = True
        return of_path[~other]


def tree_of(runs: Sequence[Values], target: Target) -> Tree:
    """The tree of some paths as runs of values: `Tree.of`, without a trie where there are one or
    two."""
    if len(runs) > 2:
        return Tree.of(_path(run, target) for run in runs)
    first, second = runs[0], runs[-1]
    shared = len(first) if len(runs) == 1 else _common(first, second)
    values = first if len(runs) == 1 else np.concatenate([first, second[shared:]])
    total = len(values)
    place = np.arange(total)
    parent, depth, end = place - 1, place, np.full(total, total)
    if len(runs) == 2:
        parent, depth = parent.copy(), depth.copy()
        end[shared : len(first)] = len(first)
        depth[len(first) :] -= len(first) - shared
        parent[len(first) : len(first) + 1] = shared - 1
    leaves = [len(first) - 1] if len(runs) == 1 else [len(first) - 1, total - 1]
    if len(runs) == 2 and shared == len(second):
        leaves[1] = shared - 1
    scored = values < 0
    asked = np.where(scored, ~values, values).astype(np.int64)
    ids, labels = asked, None
    if target is not Target.TOKENS:
        ids = np.where(scored, 0, asked)
        labels = np.where(scored, asked, 0) if target is Target.LABEL else None
    weights = scored.astype(np.float32)
    return Tree(ids, weights, parent, end, depth, np.array(leaves), target, labels)


def _path(run: Values, target: Target) -> Path:
    scored = run < 0
    if target is Target.TOKENS:
        return Path(np.where(scored, ~run, run).tolist(), scored.astype(float).tolist())
    *ids, asked = run.tolist()
    return Path(ids, [0.0] * len(ids), target, ~asked)


def _values(path: Path) -> Values:
    ids = np.array(path.ids, np.int32)
    if path.target is not Target.TOKENS:
        return np.append(ids, np.int32(~path.label))
    scored = np.array(path.weights, bool)
    if len(ids) == 0 or scored[0] or len(ids) != len(scored) or ids.min() < 0:
        Tree.of([path])  # says what is wrong
    return np.where(scored, ~ids, ids)


def _tokens(paths: Sequence[Path], runs: Sequence[Values]) -> int:
    if len(runs) > 2:
        return len(Tree.of(paths))
    one_target(paths)
    return sum(map(len, runs)) - (_common(*runs) if len(runs) == 2 else 0)


def _common(first: Values, second: Values) -> int:
    """How much two runs share from the start on."""
    most = min(len(first), len(second))
    differ = first[:most] != second[:most]
    return int(differ.argmax()) if differ.any() else most


# ------------------------------------------------------------------ on disk


class TreeWriter:
    """Writes arrays of trees into a folder, one after the other; `with` closes it."""

    def __init__(self, folder: FilePath) -> None:
        self._folder = folder
        self._values = (folder / "values.bin").open("wb")
        self._rest: list[TreeArrays] = []

    def __enter__(self) -> TreeWriter:
        return self

    def add(self, arrays: TreeArrays) -> None:
        arrays.values.astype("<i4").tofile(self._values)
        self._rest.append(arrays._replace(values=arrays.values[:0]))

    def __exit__(self, *_: object) -> None:
        self._values.close()
        for name in TreeArrays._fields[1:]:
            parts = [getattr(one, name) for one in self._rest]
            empty = getattr(TreeArrays.of([]), name)
            np.save(self._folder / f"{name}.npy", np.concatenate([empty, *parts]))


def read_trees(folder: FilePath, target: Target) -> StoredTrees:
    """What a `TreeWriter` wrote; the values stay on disk."""
    file = folder / "values.bin"
    values = np.zeros(0, np.int32)
    if file.stat().st_size:
        values = np.memmap(file, "<i4", "r")
    rest = [np.load(folder / f"{name}.npy") for name in TreeArrays._fields[1:]]
    return StoredTrees(TreeArrays(values, *rest), target)


# ------------------------------------------------------------------ of trees however they are kept


def token_counts(trees: Sequence[Tree]) -> NDArray[np.int64]:
    """(T,) tokens of each tree."""
    if isinstance(trees, StoredTrees):
        return trees.arrays.tree_tokens.astype(np.int64)
    return np.array([len(tree) for tree in trees], np.int64)


def longest_path(trees: Sequence[Tree]) -> int:
    """Tokens on the longest path of all; 0 without any."""
    if isinstance(trees, StoredTrees):
        return trees.longest
    return max((tree.longest for tree in trees), default=0)


def scored_tokens(trees: Sequence[Tree]) -> float:
    """`Tree.scored`, summed over the trees."""
    if isinstance(trees, StoredTrees):
        return float(trees.scored)
    return sum(tree.scored for tree in trees)


def target_sizes(trees: Sequence[Tree]) -> Sequence[Sequence[float]] | NDArray[np.int32]:
    """`Tree.sizes` of each tree."""
    if isinstance(trees, StoredTrees):
        return trees.target_sizes()
    return [tree.sizes.tolist() for tree in trees]
