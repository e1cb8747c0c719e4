"""Trees and forests as bookkeeping: what goes in comes out, wherever it was packed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.trees.attention import visible
from myosotis.trees.batch import Batch, stack
from myosotis.trees.forest import SHORTEST_STEM, pack
from myosotis.trees.tree import Path, Tree

token = st.integers(1, 4)  # few tokens: many shared prefixes
weight = st.sampled_from([0.0, 1.0, 0.5])


@st.composite
def path(draw: st.DrawFn) -> Path:
    ids = draw(st.lists(token, min_size=1, max_size=9))
    weights = draw(st.lists(weight, min_size=len(ids), max_size=len(ids)))
    return Path(ids, [0.0, *weights[1:]])


@st.composite
def forests(draw: st.DrawFn) -> list[Tree]:
    """Trees of some paths each; sometimes all begin with the same tokens, enough to be shared."""
    several = draw(st.lists(st.lists(path(), min_size=1, max_size=5), min_size=1, max_size=8))
    stem = draw(st.sampled_from([[], [9] * SHORTEST_STEM]))
    zeros = [0.0] * len(stem)
    return [Tree.of(Path([*stem, *ids], [*zeros, *w]) for ids, w in paths) for paths in several]


trees = forests()


def test_a_tree_by_hand() -> None:
    """prompt 1 2 3, answers 4 5 / 4 6 7 / 8: the 4 is shared, depth first."""
    tree = Tree.fork([1, 2, 3], [[4, 5], [4, 6, 7], [8]])
    assert tree.ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert tree.parent.tolist() == [-1, 0, 1, 2, 3, 3, 5, 2]
    assert tree.end.tolist() == [8, 8, 8, 7, 5, 7, 7, 8]
    assert tree.depth.tolist() == [0, 1, 2, 3, 4, 4, 5, 3]
    assert tree.leaves.tolist() == [4, 6, 7]
    assert (tree.longest, tree.scored) == (6, 6.0)


@pytest.mark.parametrize(
    "paths", [[], [Path([], [])], [Path([1, 2], [0.0])], [Path([1, 2], [1.0, 1.0])]]
)
def test_what_is_no_tree(paths: list[Path]) -> None:
    with pytest.raises(ValueError, match="path"):
        Tree.of(paths)


@given(st.lists(path(), min_size=1, max_size=6))
def test_paths_come_back(paths: list[Path]) -> None:
    tree = Tree.of(paths)
    assert [(list(p.ids), list(p.weights)) for p in tree.paths()] == [
        (list(p.ids), list(p.weights)) for p in paths
    ]
    prefixes = {tuple(zip(*p, strict=True))[:k] for p in paths for k in range(1, len(p.ids) + 1)}
    assert len(tree) == len(prefixes)  # each distinct prefix is one token: nothing stored twice


@given(trees, st.integers(1, 30))
@settings(max_examples=60)
def test_packing_loses_and_doubles_nothing(forest: list[Tree], row_tokens: int) -> None:
    rows = [row for bundle in pack(forest, row_tokens) for row in bundle]
    seen = [
        at for row in rows for piece in row for at in zip(piece.trees, piece.paths, strict=True)
    ]
    assert sorted(seen) == [(i, p) for i, t in enumerate(forest) for p in range(len(t.leaves))]
    for row in rows:
        longest = max(forest[index].longest for piece in row for index in piece.trees)
        alone = sum(len(piece) > 0 for piece in row) == 1  # what is not read takes no room
        most = max(row_tokens, longest + row_tokens // 2 if alone else 0)
        assert sum(map(len, row)) <= most


def test_what_all_begin_with_is_read_once_a_row() -> None:
    """Four trees of 20 + 5 read tokens in rows of 40: 20 + 4 x 5; alone, 25 each."""
    stem = list(range(100, 120))
    forest = [Tree.fork([*stem, k, k, k, k], [[1, 2]]) for k in range(4)]
    (row,) = (row for bundle in pack(forest, 40) for row in bundle)
    assert [piece.trees for piece in row] == [[0, 1, 2, 3]]
    batch = stack([row])
    assert batch.tokens == 20 + 4 * 5
    assert batch.depth_RL[0, -5:].tolist() == [20, 21, 22, 23, 24]
    assert stack([row for bundle in pack(forest[:1], 40) for row in bundle]).tokens == 25


def test_items_of_a_subject_share_its_examples() -> None:
    """Two subjects of 12 items: 60 tokens of examples each, 4 + 1 of an item's own. Rows of 64 are
    stretched to 60 + 32, room for 6 items; to 4 x 60, room for all 12. A third kind shares nothing.
    """
    forest = [
        Tree.fork([*range(60 * s, 60 * s + 60), *[200 + 20 * s + k] * 4], [[1, 2]])
        for k in range(12)
        for s in range(2)
    ]
    lone = [Tree.fork([400 + k] * 9, [[1]]) for k in range(3)]

    def tokens(stretch: int) -> int:
        bundles = pack([*forest, *lone], 64, stretch=stretch)
        return sum(stack(bundle).tokens for bundle in bundles)

    assert tokens(1) == 2 * (2 * 60 + 12 * 5) + 3 * 9
    assert tokens(4) == 2 * (60 + 12 * 5) + 3 * 9


@given(trees, st.integers(4, 30))
@settings(max_examples=60)
def test_a_token_sees_exactly_its_ancestors(forest: list[Tree], row_tokens: int) -> None:
    for bundle in pack(forest, row_tokens):
        batch = stack(bundle)
        seen = visible(batch).numpy()
        for r, row in enumerate(bundle):
            start = 0
            for piece in row:
                read = np.flatnonzero(piece.tree.read).tolist()
                for i in read:
                    ancestors, j = [], i
                    while j >= 0:
                        ancestors.append(start + read.index(j))
                        j = int(piece.tree.parent[j])
                    found = np.flatnonzero(seen[r, start + read.index(i)])
                    assert found.tolist() == ancestors[::-1]
                start += len(piece)
            for i in range(start, seen.shape[1]):
                assert np.flatnonzero(seen[r, i]).tolist() == [i]  # padding sees itself: no NaN


@given(trees)
def test_what_is_read_is_what_a_scored_token_follows(forest: list[Tree]) -> None:
    for tree in forest:
        wanted = np.zeros(len(tree), bool)
        for token in np.flatnonzero(tree.weights):
            above = int(tree.parent[token])
            while above >= 0:
                wanted[above] = True
                above = int(tree.parent[above])
        assert tree.read.tolist() == wanted.tolist()


@given(trees, st.integers(4, 30))
@settings(max_examples=60)
def test_every_scored_token_reaches_its_branches(forest: list[Tree], row_tokens: int) -> None:
    """Sum the weights of a batch back onto branches: each path gets the weight it was given."""
    for bundle in pack(forest, row_tokens):
        batch = stack(bundle)
        sums = np.zeros(len(batch.tree_B))
        np.add.at(sums, batch.branch_M.numpy(), batch.weight_S[batch.scored_M].numpy())
        for total, t, p in zip(sums, batch.tree_B.tolist(), batch.path_B.tolist(), strict=True):
            assert total == sum(forest[t].paths()[p].weights)
        assert (batch.predictor_S.diff() >= 0).all()


def test_packing_is_best_fit() -> None:
    """6 5 4 3 2 tokens to read (one more is only predicted) into rows of 10: 6+4 and 5+3+2."""
    lengths = [2, 3, 4, 5, 6]
    forest = [Tree.fork([k] * n, [[7]]) for k, n in enumerate(lengths)]
    rows = [sorted(map(len, row)) for bundle in pack(forest, 10) for row in bundle]
    assert sorted(rows) == [[2, 3, 5], [4, 6]]


def test_an_oversized_tree_is_split_at_its_branches() -> None:
    """Prompt of 6, four answers of 3 (2 of them read), rows of 2: half a row beyond the longest
    path, 9 + 1, is room for two answers; the two rows stay in one bundle."""
    tree = Tree.fork([1] * 6, [[k, k, k] for k in (2, 3, 4, 5)])
    (bundle,) = pack([tree], 2)
    assert [list(row[0].paths) for row in bundle] == [[0, 1], [2, 3]]


def test_the_empty_batch_has_a_row_and_scores_nothing() -> None:
    batch = Batch.empty()
    assert batch.ids_RL.shape == (1, 1)
    assert (batch.tokens, len(batch.target_S), len(batch.tree_B)) == (0, 0, 0)
