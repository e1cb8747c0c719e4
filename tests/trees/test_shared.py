"""An evaluation that ranks share is the evaluation of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks import on_ranks

SCRIPT = """
import os, sys
from datetime import timedelta
import torch
from torch import distributed
from myosotis import updates
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.shared import Crew, Weights
from tests.tiny import tiny
from tests.trees.test_scorer import shapes
from tests.updates.test_methods import SMALL

rank, world, store = int(os.environ["LOCAL_RANK"]), int(sys.argv[2]), sys.argv[1] + "/store"
torch.set_num_threads(1)
torch.manual_seed(0)
update = updates.build(SMALL["lora"])
update.attach(tiny("llama", torch.bfloat16))
with torch.no_grad():
    for _, parameter in update.parameters():
        parameter.normal_(0, 0.05)
trees = [tree for group in shapes().values() for tree in group]
scorer = Scorer(update.model, PackingMode("dense", "test"), row_tokens=40, rows_at_once=2)
alone = scorer.evaluate(trees)
with update.disabled():
    base = scorer.evaluate(trees)
forwards = scorer.forwards
distributed.init_process_group(
    "gloo", init_method=f"file://{store}", rank=rank, world_size=world,
    timeout=timedelta(seconds=240),
)


def same(a, b):
    return all((x.logp == y.logp).all() and (x.weight == y.weight).all()
               and (x.greedy == y.greedy).all() for x, y in zip(a, b, strict=True))


crew = Crew(scorer, Weights(lambda: update.strength, lambda _: update.disabled()), {})
if rank:
    scorer.evaluated_at_once = 1  # its memory ran out once: the first rank's batches are scored
    crew.help_out()
    assert scorer.evaluated_at_once == 1
    passes = forwards // 2  # of one evaluation; two were made alone
    assert scorer.forwards - forwards == 2 * -(-passes // world) > 0  # with empty ones
    part, tried = scorer.evaluate_batches, []

    def crowded(*args):
        tried.append(scorer.evaluated_at_once)
        if scorer.evaluated_at_once > 1:
            raise torch.OutOfMemoryError("CUDA out of memory: planted")
        return part(*args)

    scorer.evaluate_batches = crowded
    crew.help_out()
    assert tried == [2, 1]

    def fails(*args):
        raise RuntimeError("planted")

    scorer.evaluate_batches = fails
    try:
        crew.help_out()
    except RuntimeError as error:
        assert "planted" in str(error)
    else:
        raise AssertionError("every rank ends with the error")
else:
    done = []
    with crew.led():
        together = scorer.evaluate(trees, done.append)
        with update.disabled():  # the others follow
            off = scorer.evaluate(trees)
    assert same(together, alone) and same(off, base)
    assert not same(alone, base)
    assert same(scorer.evaluate(trees), alone)
    with crew.led():
        half = scorer.evaluate(trees)
    assert scorer.evaluated_at_once == 1
    assert all(abs(x.logp - y.logp).max() < 1 for x, y in zip(half, alone, strict=True))
    try:
        with crew.led():
            scorer.evaluate(trees)
    except RuntimeError as error:
        assert "planted" in str(error)
    else:
        raise AssertionError("the other rank's error is this rank's")
distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_score_together_what_one_scores_alone(world: int, tmp_path: Path) -> None:
    """To the bit, in bf16, where a token's company in a batch would show; with the update off, too.
    Where one rank's memory runs out all begin anew with half as much, and where one fails, none is
    left waiting."""
    on_ranks(world, SCRIPT, tmp_path)
