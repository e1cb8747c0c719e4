"""A tree of several paths is what a trie of all their tokens makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.trees.tree import Target, Tree, _Trie
from tests.trees.test_stored_trees import paths, same


@pytest.mark.parametrize("target", list(Target))
@given(st.data())
def test_what_is_shared_may_be_set_before_a_trie_of_the_rest(
    target: Target, data: st.DataObject
) -> None:
    several = data.draw(paths(target))
    trie = _Trie(target)
    assert same(Tree.of(several), trie.tree([trie.insert(path, 0) for path in several]))
