"""Attention without a mask of the whole square: block masks by hand, scores against padded rows,
and a packing check that refuses a branch that leaks. The kernels themselves need a GPU; here
flex_attention runs as it is written, and flash attention is replaced by its definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, masking_utils

from myosotis.trees import attention, block_attention, packing_check
from myosotis.trees.attention import PackingMode
from myosotis.trees.batch import stack
from myosotis.trees.forest import pack
from myosotis.trees.packing_check import _long_trees, probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.sparse_attention import BLOCK, Chains, block_mask
from myosotis.trees.tree import Path, Tree
from tests.tiny import PACKS, VOCAB, tiny
from tests.trees.test_scorer import PADDED, behind_one_prompt, shapes

TAKES_BLOCKS = [name for name in PACKS if name != "gpt2"]
FLEX = PackingMode("flex", "test")
CHAINS = PackingMode("flex", "test", varlen=True)
FORESTS: dict[str, list[Tree]] = {
    **shapes(),
    "all": [tree for group in shapes().values() for tree in group],
    "behind one prompt": behind_one_prompt(),
    "several blocks": _long_trees(LlamaConfig(vocab_size=VOCAB)),
}


def one_row(trees: list[Tree]) -> Any:
    rows = [packed for group in pack(trees, 512) for row in group for packed in row]
    return stack([rows], BLOCK)


def listed(counts: Tensor, indices: Tensor) -> Tensor:
    """(n, n) bool: the key blocks that each query block reads."""
    chosen = torch.zeros(indices.shape[-2:], dtype=torch.bool)
    for query, count in enumerate(counts[0, 0].tolist()):
        chosen[query, indices[0, 0, query, :count].long()] = True
    return chosen


@pytest.mark.parametrize("window", [None, 6, 200])
@pytest.mark.parametrize("name", FORESTS)
def test_a_block_mask_is_the_mask(name: str, window: int | None) -> None:
    """Whatever is seen lies in a block that is read; a block that is not looked into is seen in
    whole; and inside the others the rule is `j <= i < end[j]`, and the window."""
    batch = one_row(FORESTS[name])
    made = block_mask(batch.end_RL, batch.depth_RL, window)
    true = attention.visible(batch)[0]
    if window is not None:
        depth = batch.depth_RL[0]
        true &= depth[:, None] - depth < window
    blocks = true.view(len(true) // BLOCK, BLOCK, -1, BLOCK).transpose(1, 2).flatten(2)
    part = listed(made.kv_num_blocks, made.kv_indices)
    assert made.full_kv_num_blocks is not None and made.full_kv_indices is not None
    full = listed(made.full_kv_num_blocks, made.full_kv_indices)
    assert not (part & full).any()
    assert not (blocks.any(-1) & ~(part | full)).any()
    assert not (full & ~blocks.all(-1)).any()
    if window is None:
        assert torch.equal(part | full, blocks.any(-1)), "no block too many"
        assert torch.equal(full, blocks.all(-1)), "no block looked into in vain"
    place = torch.arange(len(true))
    inside = made.mask_mod(torch.tensor(0), torch.tensor(0), place[:, None], place)
    assert torch.equal(inside, true)


def test_a_block_mask_by_hand() -> None:
    """A prompt of 200 tokens and two answers of 100: 400 tokens, padded to four blocks of 128. The
    second answer, from 300 on, sees the prompt, which ends inside block 1, and not the first."""
    tree = Tree.fork([1] * 200, [[2] * 101, [3] * 101])
    batch = one_row([tree])
    assert batch.ids_RL.shape == (1, 512) and batch.tokens == 400
    made = block_mask(batch.end_RL, batch.depth_RL)
    seen = listed(made.kv_num_blocks, made.kv_indices)
    assert made.full_kv_num_blocks is not None and made.full_kv_indices is not None
    full = listed(made.full_kv_num_blocks, made.full_kv_indices)
    # Block 2 holds the first answer's end and the second's beginning, block 3 the rest and padding,
    # whose tokens see themselves: a block of keys from the prompt alone is still not seen by them.
    assert seen.tolist() == [
        [True, False, False, False],
        [False, True, False, False],
        [False, True, True, False],
        [True, True, True, True],
    ]
    assert full.tolist() == [
        [False] * 4,
        [True, False, False, False],
        [True, False, False, False],
        [False] * 4,
    ]


@pytest.mark.parametrize("name", TAKES_BLOCKS)
def test_flex_equals_padded_for_every_shape(name: str) -> None:
    """Mistral and Gemma have windows of six tokens."""
    model = tiny(name, torch.float64)
    for trees in (FORESTS["all"], FORESTS["behind one prompt"]):
        reference = Scorer(model, PADDED, rows_at_once=4).evaluate(trees)
        for rows_at_once in (1, 8):
            found = Scorer(model, FLEX, row_tokens=64, rows_at_once=rows_at_once).evaluate(trees)
            for a, b in zip(found, reference, strict=True):
                assert abs(a.logp - b.logp).max() <= 1e-9
                assert (a.greedy == b.greedy).all()


def flash(leak: int = 0) -> Callable[..., Tensor]:
    """What varlen attention is defined to be: causal attention in each chain, within its window.
    With `leak`, a chain also sees the last tokens of the one before it."""

    def by_chains(q: Tensor, k: Tensor, v: Tensor, chains: Chains, scale: float | None) -> Tensor:
        assert chains.starts_C.dtype == torch.int32
        starts, groups = chains.starts_C.tolist(), q.shape[1] // k.shape[1]
        rows, heads, length, size = q.shape

        def flat(x: Tensor) -> Tensor:
            return x.transpose(1, 2).flatten(0, 1).transpose(0, 1)

        q, k, v = (
            flat(q),
            flat(k.repeat_interleave(groups, 1)),
            flat(v.repeat_interleave(groups, 1)),
        )
        out = torch.zeros_like(q)
        for start, stop in itertools.pairwise(starts):
            assert stop - start <= chains.longest
            low = max(0, start - leak)
            at, to = torch.arange(start, stop)[:, None], torch.arange(low, stop)
            seen = to <= at
            if chains.window is not None:
                seen &= at - to < chains.window
            out[:, start:stop] = scaled_dot_product_attention(
                q[:, start:stop], k[:, low:stop], v[:, low:stop], attn_mask=seen, scale=scale
            )
        return out.transpose(0, 1).reshape(rows, length, heads, size)

    return by_chains


def turns() -> list[Tree]:
    """Chains alone, of many lengths."""
    paths = [path for group in shapes().values() for tree in group for path in tree.paths()]
    return [Tree.of([path]) for path in paths]


def test_a_row_of_one_path_has_a_mask_of_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any mask transformers asks the device, at every pass, whether positions restart."""

    def asked(positions: Tensor) -> None:
        raise AssertionError("the device was waited for")

    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", asked)
    whole = [Tree.fork(list(range(5, 70)), [list(range(5, 69))])]  # reads 128 tokens, a block
    scorer = Scorer(tiny("llama"), FLEX, row_tokens=BLOCK)
    (batch,) = scorer.batches(whole)
    assert batch.layout.one_path and batch.layout.full
    assert scorer.evaluate(whole)[0].logp[0] == pytest.approx(
        Scorer(tiny("llama"), PADDED, row_tokens=BLOCK).evaluate(whole)[0].logp[0], abs=1e-4
    )


@pytest.mark.parametrize("name", TAKES_BLOCKS)
def test_chains_equal_padded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Chains] = []

    def counted(*args: Any) -> Tensor:
        calls.append(args[3])
        return flash()(*args)

    monkeypatch.setattr(block_attention, "by_chains", counted)
    model = tiny(name, torch.float64)
    trees = turns()
    reference = Scorer(model, PADDED, rows_at_once=4).evaluate(trees)
    found = Scorer(model, CHAINS, row_tokens=64, rows_at_once=8).evaluate(trees)
    for a, b in zip(found, reference, strict=True):
        assert abs(a.logp - b.logp).max() <= 1e-9
    windows = {"mistral": {6}, "gemma3": {None, 6}}
    assert {chains.window for chains in calls} == windows.get(name, {None})
    calls.clear()
    branching = Scorer(model, CHAINS, row_tokens=64).evaluate(FORESTS["choices"])
    assert not calls, "trees that branch go through the block mask"
    padded = Scorer(model, PADDED).evaluate(FORESTS["choices"])
    assert abs(branching[0].logp - padded[0].logp).max() <= 1e-9


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, *, varlen: bool) -> None:
    """The packing check believes that the kernels are here."""
    monkeypatch.setattr(packing_check, "has_flex", lambda device: True)
    monkeypatch.setattr(packing_check, "has_varlen", lambda device, dtype: varlen)
    monkeypatch.setattr(block_attention, "by_chains", flash())


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3"])
def test_the_check_takes_the_fastest_branch_that_is_right(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_gpu(monkeypatch, varlen=True)
    found = probe(tiny(name))
    assert found.description == "flex, chains by varlen" and found.reason == "packing check passed"
    on_a_gpu(monkeypatch, varlen=False)
    assert probe(tiny(name)).description == "flex"


def test_the_check_refuses_chains_that_see_their_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_a_gpu(monkeypatch, varlen=True)
    monkeypatch.setattr(block_attention, "by_chains", flash(leak=1))
    found = probe(tiny("llama"))
    assert found.description == "flex"
    assert "flex, chains by varlen: " in found.reason


def planted(end: Tensor, depth: Tensor, window: int | None = None) -> Any:
    """A block mask under which every token also sees the sibling branches before it."""
    return block_mask(torch.full_like(end, end.shape[1]), depth, window)


def test_the_check_refuses_a_block_mask_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU flex_attention reads the rule alone; the blocks it would skip are tested above."""
    on_a_gpu(monkeypatch, varlen=False)
    monkeypatch.setattr(attention, "block_mask", planted)
    found = probe(tiny("llama"))
    assert found.name == "dense", "the mask of the whole square is the fallback"
    assert "flex: scores differ" in found.reason


def test_a_model_that_looks_at_its_mask_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 asks how many dimensions its mask has."""
    on_a_gpu(monkeypatch, varlen=True)
    found = probe(tiny("gpt2"))
    assert found.name == "dense" and "does not take the mask" in found.reason


def test_a_kernel_that_does_not_run_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_gpu(monkeypatch, varlen=False)

    def missing(*_: Any) -> Tensor:
        raise RuntimeError("no kernel for a head of 8")

    monkeypatch.setattr(block_attention, "by_blocks", missing)
    found = probe(tiny("llama"))
    assert found.name == "dense" and "no kernel for a head of 8" in found.reason


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3"])
def test_kernels_get_the_dtype_of_the_products(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full tuning in bf16-mixed: rotated queries and keys are fp32, values bf16; kernels outside
    autocast take one dtype, and flash attention none but half precision."""
    seen: set[tuple[torch.dtype, ...]] = set()
    called: set[str] = set()

    def watched(which: str, kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def attend(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
            seen.add((q.dtype, k.dtype, v.dtype))
            called.add(which)
            return kernel(q, k, v, *rest)

        return attend

    monkeypatch.setattr(block_attention, "by_chains", watched("chains", flash()))
    monkeypatch.setattr(block_attention, "by_blocks", watched("blocks", block_attention.by_blocks))
    model = tiny(name)
    scorer = Scorer(model, CHAINS, row_tokens=64, rows_at_once=8, products=torch.bfloat16)
    for trees in (turns(), FORESTS["choices"]):
        scorer.evaluate(trees)
    scorer.score(scorer.batches(turns())[0]).logp_B.sum().backward()
    assert called == {"chains", "blocks"} and seen == {(torch.bfloat16,) * 3}
    scorer.products = None
    seen.clear()
    scorer.evaluate(turns())
    assert seen == {(torch.float32,) * 3}, "outside autocast they stay as they are"


def test_the_check_tries_kernels_in_the_numbers_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash attention is for half precision: with fp32 weights it is tried where products are."""
    on_a_gpu(monkeypatch, varlen=True)
    half = (torch.bfloat16, torch.float16)
    monkeypatch.setattr(packing_check, "has_varlen", lambda device, dtype: dtype in half)
    assert probe(tiny("llama"), torch.bfloat16).description == "flex, chains by varlen"
    assert probe(tiny("llama")).description == "flex"
    tried: set[torch.dtype] = set()

    def broken(q: Tensor, *_: Any) -> Tensor:
        tried.add(q.dtype)
        raise RuntimeError("no such kernel")

    for kernel in ("by_chains", "by_blocks"):
        monkeypatch.setattr(block_attention, kernel, broken)
    assert probe(tiny("llama"), torch.bfloat16).name == "dense"
    assert tried == {torch.bfloat16}
    monkeypatch.undo()
    on_a_gpu(monkeypatch, varlen=True)
    monkeypatch.setattr(block_attention, "by_chains", flash(leak=1))
    assert probe(tiny("llama"), torch.bfloat16).description == "flex", (
        "a leak is found in bf16, too"
    )


def test_the_layout_of_a_batch_by_hand() -> None:
    """Chains of 3 and 2 read tokens and one that branches; the last token of a path is not read."""
    three, two = Tree.of([Path([1, 2, 3, 4], [0, 0, 0, 1])]), Tree.of([Path([5, 6, 7], [0, 0, 1])])
    chains = stack([[p for g in pack([three, two], 64) for row in g for p in row]], 8)
    assert chains.layout.tokens == 5 and not chains.layout.one_path and not chains.layout.full
    assert chains.start_C.tolist() == [0, 3, 5, 8]  # two chains and the padding
    assert chains.layout.longest_chain == 3 and chains.layout.cuts == [0, 2]
    assert chains.layout.pairs == (3 + 2 + 1) + (2 + 1)
    alone = stack([[p for g in pack([three], 64) for row in g for p in row]])
    assert alone.layout.one_path and alone.layout.full
    branching = stack([[p for g in pack([Tree.fork([1], [[2, 3], [4, 5]])], 64) for p in g[0]]])
    assert branching.layout.longest_chain == 0 and not branching.layout.one_path
