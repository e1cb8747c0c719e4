"""Trees of arrays are those that were put in."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.trees.stored_trees import (
    StoredTrees,
    TreeArrays,
    TreeWriter,
    longest_path,
    read_trees,
    scored_tokens,
    target_sizes,
    token_counts,
)
from myosotis.trees.tree import Path, Target, Tree


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal in all they hold, the types of arrays included."""
    for field in fields(Tree):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or not np.array_equal(a, b):
                return False
        elif a != b:
            return False
    return True


def paths(target: Target) -> Any:
    """One to three paths over two ids and short, so that they share much."""

    def path(tokens: list[tuple[int, bool]], label: int) -> Path:
        ids = [token for token, _ in tokens]
        weights = [float(scored and i > 0) for i, (_, scored) in enumerate(tokens)]
        if target is Target.TOKENS:
            return Path(ids, weights)
        return Path(ids, [0.0] * len(ids), target, label if target is Target.LABEL else 0)

    tokens = st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=1, max_size=6)
    return st.lists(st.builds(path, tokens, st.integers(0, 2)), min_size=1, max_size=3)


@pytest.mark.parametrize("target", list(Target))
@given(st.data())
def test_a_tree_comes_back_as_it_was(target: Target, data: st.DataObject) -> None:
    every = data.draw(st.lists(paths(target), min_size=1, max_size=5))
    trees = [Tree.of(one) for one in every]
    stored = StoredTrees(TreeArrays.of((one, 0) for one in every), target)
    assert len(stored) == len(trees)
    assert all(map(same, stored, trees))
    assert token_counts(stored).tolist() == token_counts(trees).tolist()
    assert longest_path(stored) == longest_path(trees)
    assert scored_tokens(stored) == scored_tokens(trees)
    assert list(map(list, target_sizes(stored))) == target_sizes(trees)


def test_a_graded_answer_has_the_other_beside_it_and_counts_alone() -> None:
    own, other = Path([1, 2], [0.0, 1.0]), Path([1, 3, 4], [0.0, 1.0, 1.0])
    stored = StoredTrees(TreeArrays.of([([own, other], -1), ([own], 0)]), Target.TOKENS)
    assert stored[0].grade == -1 and same(stored[0].other, Tree.of([other]))
    assert token_counts(stored).tolist() == [2, 2]
    assert stored.longest == 2 and stored.scored == 2
    assert np.array(stored.target_sizes()).tolist() == [[1], [1]]


def test_they_are_read_from_disk(tmp_path: FilePath) -> None:
    one, two = [Path([1, 2], [0.0, 1.0])], [Path([5], [0.0]), Path([5, 6], [0.0, 1.0])]
    with TreeWriter(tmp_path) as writer:
        writer.add(TreeArrays.of([(one, 0)]))
        writer.add(TreeArrays.of([(two, 0)]))
    read = read_trees(tmp_path, Target.TOKENS)
    assert same(read[0], Tree.of(one)) and same(read[-1], Tree.of(two)) and len(read[:5]) == 2


def test_of_nothing_there_is_nothing(tmp_path: FilePath) -> None:
    with TreeWriter(tmp_path):
        pass
    read = read_trees(tmp_path, Target.TOKENS)
    assert len(read) == 0 and read.longest == 0 and read.scored == 0


def test_what_is_no_path_is_refused_as_by_a_tree() -> None:
    with pytest.raises(ValueError, match="first token"):
        TreeArrays.of([([Path([1], [1.0])], 0)])
