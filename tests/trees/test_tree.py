"""Trees and forests as bookkeeping: what goes in comes out, wherever it was packed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.trees.attention import visible
from myosotis.trees.batch import stack
from myosotis.trees.forest import SHORTEST_PREFIX, pack
from myosotis.trees.tree import Path, Target, Tree

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
    prefix = draw(st.sampled_from([[], [9] * SHORTEST_PREFIX]))
    zeros = [0.0] * len(prefix)
    return [
        Tree.of(Path([*prefix, *p.ids], [*zeros, *p.weights]) for p in paths) for paths in several
    ]


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


def test_a_tree_of_labels_by_hand() -> None:
    """Two texts 1 2 and 1 3, of label 4 and 0: a place after each that is scored and never read."""
    tree = Tree.of([Path([1, 2], [0, 0], Target.LABEL, 4), Path([1, 3], [0, 0], Target.LABEL, 0)])
    assert tree.ids.tolist() == [1, 2, 0, 3, 0]
    assert tree.targets.tolist() == [0, 0, 4, 0, 0]
    assert tree.weights.tolist() == [0, 0, 1, 0, 1]
    assert tree.end.tolist() == [5, 3, 3, 5, 5]
    assert tree.leaves.tolist() == [2, 4]
    assert tree.read.tolist() == [True, True, False, True, False]
    assert tree.sizes.tolist() == [1, 1]


def test_a_value_is_asked_for_after_the_last_token_only() -> None:
    """1 2 is a beginning of 1 2 3: both have a place of their own, behind 2 and behind 3."""
    tree = Tree.of([Path([1, 2, 3], [0] * 3, Target.VALUE), Path([1, 2], [0] * 2, Target.VALUE)])
    assert (tree.ids.tolist(), tree.leaves.tolist()) == ([1, 2, 3, 0, 0], [3, 4])
    assert tree.parent.tolist() == [-1, 0, 1, 2, 1]
    assert tree.targets.tolist() == [1, 2, 3, 0, 0]
    (batch,) = [stack(rows) for rows in pack([tree], 16)]
    assert (batch.ids_RL.tolist(), batch.target) == ([[1, 2, 3]], Target.VALUE)
    assert (batch.source_N.tolist(), batch.target_S.tolist()) == ([1, 2], [0, 0])
    assert batch.path_B[batch.branch_M].tolist() == [1, 0]  # in the order of what predicts them


def test_length_and_cut_count_what_is_asked_for() -> None:
    text, label = Path([1, 2, 3], [0, 1, 1]), Path([1, 2, 3], [0, 0, 0], Target.LABEL, 7)
    assert [(p.length, p.scored) for p in (text, label)] == [(3, 2), (4, 1)]
    assert text.cut(2) == Path([1, 2], [0, 1])
    assert label.cut(4) == label
    assert label.cut(3).scored == 0  # the label of a text is not that of its beginning


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([Path([1, -1], [0, 1])], "0 or more"),
        ([Path([1], [0], Target.LABEL, -1)], "0 or more"),
        ([Path([1, 2], [0, 1], Target.VALUE)], "no token can be scored"),
        ([Path([1, 2], [0, 1]), Path([1], [0], Target.VALUE)], "one target, not tokens, value"),
    ],
)
def test_no_id_is_negative_and_a_tree_asks_for_one_thing(wrong: list[Path], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Tree.of(wrong)


def test_what_is_scored_together_has_one_target() -> None:
    trees = [Tree.fork([1], [[2]]), Tree.of([Path([1], [0], Target.VALUE)])]
    with pytest.raises(ValueError, match="one target"):
        stack([row for group in pack(trees, 8) for row in group])


@given(trees, st.sampled_from([Target.LABEL, Target.VALUE]), st.integers(1, 30))
@settings(max_examples=60)
def test_labels_and_values_are_packed_without_a_negative_number(
    forest: list[Tree], target: Target, row_tokens: int
) -> None:
    """Of every path the text read only, and a label or a value asked for after it."""
    asked = [
        Tree.of(
            Path(p.ids, [0.0] * len(p.ids), target, k if target is Target.LABEL else 0)
            for k, p in enumerate(tree.paths())
        )
        for tree in forest
    ]
    batch = stack([row for group in pack(asked, row_tokens) for row in group])
    assert batch.target is target
    assert min(int(batch.ids_RL.min()), int(batch.target_S.min())) >= 0
    assert len(batch.branch_M) == sum(len(tree.leaves) for tree in asked)  # one a path
    wanted = {
        (i, p): k if target is Target.LABEL else 0
        for i, tree in enumerate(asked)
        for p, k in enumerate(path.label for path in tree.paths())
    }
    branch_M = batch.branch_M.tolist()
    at = [(int(batch.tree_B[b]), int(batch.path_B[b])) for b in branch_M]
    assert dict(zip(at, batch.target_S[batch.scored_M].tolist(), strict=True)) == wanted
    for tree, plain in zip(asked, forest, strict=True):
        assert [list(p.ids) for p in tree.paths()] == [list(p.ids) for p in plain.paths()]


@given(st.lists(path(), min_size=1, max_size=6))
def test_paths_come_back(paths: list[Path]) -> None:
    tree = Tree.of(paths)
    assert [(list(p.ids), list(p.weights)) for p in tree.paths()] == [
        (list(p.ids), list(p.weights)) for p in paths
    ]
    tokens = [tuple(zip(p.ids, p.weights, strict=True)) for p in paths]
    prefixes = {t[:k] for t in tokens for k in range(1, len(t) + 1)}
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
    batch = stack([[]])
    assert batch.ids_RL.shape == (1, 1)
    assert (batch.tokens, len(batch.target_S), len(batch.tree_B)) == (0, 0, 0)


@pytest.mark.parametrize("target", list(Target))
def test_a_tree_of_one_path_is_what_the_trie_makes_of_it(target: Target) -> None:
    weights = [0.0, 0.0, 1.0, 0.5] if target is Target.TOKENS else [0.0] * 4
    path = Path([5, 7, 7, 2], weights, target, 3 if target is Target.LABEL else 0)
    (one, other) = (Tree.of([path]), Tree.of([path, path]))
    for name in ("ids", "weights", "parent", "end", "depth"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert one.leaves.tolist() == other.leaves[:1].tolist() and one.paths() == [path]
    if target is Target.LABEL:
        assert one.labels is not None and other.labels is not None
        np.testing.assert_array_equal(one.labels, other.labels)
