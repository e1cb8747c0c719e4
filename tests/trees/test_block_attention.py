"""Where a row is cut for attention: nothing that is seen is left out, and little else is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.trees import block_attention
from myosotis.trees.attention import PackingMode, visible
from myosotis.trees.batch import stack
from myosotis.trees.forest import pack
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path, Tree
from tests.tiny import PACKS, tiny
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


@pytest.mark.parametrize("name", PACKS)
def test_without_the_square_of_a_row_nothing_changes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and gradients to the bit; where a row has several blocks, no mask of it is made."""
    model = tiny(name)
    forest = [Tree.fork([1 + k] * 20, [[40 + k] * 9, [50 + k] * 7]) for k in range(4)]
    monkeypatch.setattr(block_attention, "CALL", 0)

    def measured(by_blocks: bool) -> tuple[list[float], list[torch.Tensor]]:
        mode = PackingMode("dense", "", by_blocks=by_blocks)
        scorer = Scorer(model, mode, row_tokens=128)
        scores = [float(x) for score in scorer.evaluate(forest) for x in score.logp]
        model.zero_grad()
        for batch in scorer.batches(forest):
            scorer.score(batch).logp_B.sum().backward()
        return scores, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole = measured(False)
    monkeypatch.setattr(block_attention.Masks, "whole", None)  # calling it fails
    parts = measured(True)
    assert parts[0] == whole[0]
    assert all(torch.equal(a, b) for a, b in zip(parts[1], whole[1], strict=True))


def test_deeply_nested_forks_need_no_deep_stack() -> None:
    """1,000 forks below one another: a path of 1,000 tokens, and a token beside each of them."""
    spine = list(range(1, 1001))
    beside = [Path([*spine[:k], 2000 + k], [0.0] * k + [1.0]) for k in range(1, 1000)]
    tree = Tree.of([*beside, Path(spine, [0.0] * 999 + [1.0])])
    found = block_attention.cut(tree.end)
    assert sum(b.stop - b.start for b in found) == len(tree)
