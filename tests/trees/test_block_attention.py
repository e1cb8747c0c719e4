"""Where a row is cut for attention: nothing that is seen is left out, and little else is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.trees import block_attention
from myosotis.trees.attention import visible
from myosotis.trees.batch import stack
from myosotis.trees.forest import pack
from myosotis.trees.tree import Tree
from tests.trees.test_tree import trees


def entries(found: list[block_attention.Block]) -> int:
    """Entries of the masks of all blocks."""
    return sum(
        (b.stop - b.start) * (b.stop - b.start + sum(y - x for x, y in b.above)) for b in found
    )


@given(trees, st.integers(4, 60), st.sampled_from([0, 20, 200, block_attention.CALL]))
@settings(max_examples=80)
def test_blocks_tile_a_row_and_hold_all_that_is_seen(
    forest: list[Tree], row_tokens: int, call: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_attention, "CALL", call)
        for bundle in pack(forest, row_tokens):
            batch = stack(bundle)
            for r, length in enumerate(batch.length_R.tolist()):
                seen = visible(batch)[r, :length, :length].numpy()
                found = block_attention.cut(batch.end_RL[r, :length].numpy())
                assert [b.start for b in found] == [0, *(b.stop for b in found)][: len(found)]
                assert sum(b.stop - b.start for b in found) == length
                held = np.zeros_like(seen)
                for b in found:
                    for start, stop in (*b.above, (b.start, b.stop)):
                        held[b.start : b.stop, start:stop] = True
                assert not (seen & ~held).any()
                assert entries(found) <= length * length


def test_trees_side_by_side_cost_their_own_squares() -> None:
    """Four trees of 128 tokens: 4 x 128^2 of 512^2 entries."""
    forest = [Tree.fork([k] * 120, [[k] * 9]) for k in range(4)]
    (row,) = (row for bundle in pack(forest, 512) for row in bundle)
    found = block_attention.cut(stack([row]).end_RL[0].numpy())
    assert entries(found) == 4 * 128**2


def test_a_prompt_in_common_is_a_block_of_its_own() -> None:
    """40 tokens, then 4 x 100 that read them: 40^2 + 4 x 100 x 140 entries."""
    stem = list(range(1000, 1040))
    forest = [Tree.fork([*stem, *[k] * 90], [[k] * 11]) for k in range(4)]
    (row,) = (row for bundle in pack(forest, 512) for row in bundle)
    found = block_attention.cut(stack([row]).end_RL[0].numpy())
    assert [(b.start, b.stop, b.above) for b in found] == [
        (0, 40, ()),
        *((40 + 100 * k, 140 + 100 * k, ((0, 40),)) for k in range(4)),
    ]
    assert entries(found) == 40**2 + 4 * 100 * 140


def test_small_trees_stay_together() -> None:
    """A call costs 64^2 entries: ten trees of ten tokens are one block."""
    forest = [Tree.fork([k] * 5, [[k] * 6]) for k in range(10)]
    (row,) = (row for bundle in pack(forest, 512) for row in bundle)
    found = block_attention.cut(stack([row]).end_RL[0].numpy())
    assert [(b.start, b.stop) for b in found] == [(0, 100)]
