"""Ranks that share a training end where one process ends: with the whole model each, and with the
weights spread over them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from myosotis.training.strategy import Ranks, SpreadRanks, strategy_of
from myosotis.utils import distributed
from tests.ranks import on_ranks
from tests.training.test_module import examples, fit, module, weights

STEPS, HALF = 4, 2
"""Of a training, and after how many of them it is looked at and saved."""

SPREAD = """
import copy, functools, os, sys
import lightning, torch
from torch import distributed
from myosotis.evaluation import kl
from myosotis.training.activation_checkpointing import checkpoint_activations
from myosotis.training.callbacks import AtomicCheckpointIO
from myosotis.training.strategy import SpreadRanks
from myosotis.trees.shared import Crew, Job, Weights
from myosotis.utils import rank_failure
from tests.training.test_module import Steps, examples, module, weights
from tests.training.test_strategy import HALF, STEPS, momentum

rank, folder = int(os.environ["LOCAL_RANK"]), sys.argv[1]
held_out = examples(5)


class Mine(Steps):
    def __iter__(self):
        return (step[rank::2] for step in super().__iter__())  # rank 1 has half of rank 0's


class Looks(lightning.Callback):
    def __init__(self, base):
        self.base = base

    def on_train_batch_end(self, trainer, model, *_):
        if trainer.global_step != HALF:
            return
        trainer.save_checkpoint(f"{folder}/{self.name}-half.ckpt")
        scorer, update = model.scorer, model.update
        at = lambda strength: update.disabled()
        texts = kl.Texts({"task": held_out})
        jobs = {kl.DIVERGENCE: Job(functools.partial(kl.part, scorer, update, texts), kl.merged)}
        crew = Crew(scorer, Weights(lambda: update.strength, at), jobs)
        if rank:
            crew.help_out()
            return
        with crew.led():
            tuned = scorer.evaluate(held_out)
            with update.disabled():
                off = scorer.evaluate(held_out)
            (shift,) = kl.measured(scorer, update, texts)
        for score, before in zip(off, self.base, strict=True):
            assert abs(score.logp - before.logp).max() <= (1e-2 if scorer.products else 1e-6)
        assert any(abs(a.logp - b.logp).max() > 1e-3 for a, b in zip(tuned, off, strict=True))
        assert shift.kl > 1e-6
        torch.save([tuned, shift.kl], f"{folder}/{self.name}-looked.pt")


def run(method, name, start=0, resume=None, products=None, recomputed=False):
    model = module(method, 2, 12, optimizer=momentum)
    model.scorer.products = products
    checkpoint_activations(model.model, recomputed)
    prints = model.update.fingerprint_base()
    bare = [set(vars(module)) for module in model.model.modules()]
    looks = Looks(model.scorer.evaluate(held_out))
    looks.name = name
    trainer = lightning.Trainer(
        accelerator="cpu", devices=2, strategy=SpreadRanks(), max_steps=STEPS, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, plugins=[AtomicCheckpointIO()],
        callbacks=[looks],
    )
    with rank_failure.heard():
        trainer.fit(model, Mine(start), ckpt_path=resume, weights_only=True)
    kept = sum(p.to_local().numel() for _, p in model.update.parameters())
    assert kept < 0.6 * model.update.count()  # of a full share, half
    model.update.gather()
    model.scorer.lockstep = False
    assert not any(hasattr(p, "to_local") for p in model.model.parameters())
    assert type(model.model).__name__ == "LlamaForCausalLM"
    # By what torch leaves, transformers' generation would wait, and no copy could be made.
    assert [set(vars(module)) for module in model.model.modules()] == bare
    copy.deepcopy(model.model)
    assert model.update.fingerprint_base() == prints
    model.update.verify()
    scores = model.scorer.evaluate(held_out)  # alone again
    if rank == 0:
        torch.save(weights(model), f"{folder}/{name}.pt")
        model.update.save(f"{folder}/{name}")
    return scores


for method in ("full", "lora"):
    run(method, method)
    distributed.barrier()
    run(method, f"{method}-again", start=HALF, resume=f"{folder}/{method}-half.ckpt")
run("full", "narrow", products=torch.bfloat16, recomputed="mlp")
"""

momentum = functools.partial(torch.optim.SGD, lr=1e-2, momentum=0.9)


@pytest.mark.slow
def test_weights_spread_over_two_ranks_end_where_one_process_ends(tmp_path: Path) -> None:
    """Full and LoRA: the weights, what is measured on the way with the update on and off, what is
    saved, and what goes on from a checkpoint; in bf16 with MLPs recomputed."""
    on_ranks(2, SPREAD, tmp_path)
    for method in ("full", "lora"):
        alone = module(method, 2, 12, optimizer=momentum)
        fit(alone, steps=STEPS)
        ends = [torch.load(tmp_path / f"{method}{name}.pt") for name in ("", "-again")]
        for end in ends:
            assert (end - weights(alone)).norm() / weights(alone).norm() <= 1e-6
        half = torch.load(tmp_path / f"{method}-half.ckpt", weights_only=True)
        assert half["state_dict"].keys() == dict(alone.update.parameters()).keys()
        halfway = module(method, 2, 12, optimizer=momentum)
        fit(halfway, steps=HALF)
        tuned, shift = torch.load(tmp_path / f"{method}-looked.pt", weights_only=False)
        for score, wanted in zip(tuned, halfway.scorer.evaluate(examples(5)), strict=True):
            assert abs(score.logp - wanted.logp).max() <= 1e-4
        assert shift == pytest.approx(measured(halfway), rel=1e-3)
        loaded = module(method)
        loaded.update.load(tmp_path / method)
        assert torch.equal(weights(loaded), ends[0])

    narrow = module("full", 2, 12, optimizer=momentum)
    narrow.scorer.products = torch.bfloat16
    fit(narrow, steps=STEPS)
    spread, exact = (torch.load(tmp_path / f"{name}.pt") for name in ("narrow", "full"))
    # Layers that are gathered in bf16 are no farther from fp32 than one process in bf16 is.
    assert (spread - exact).norm() <= 1.25 * (weights(narrow) - exact).norm()


def measured(model: Any) -> float:
    from myosotis.evaluation import kl

    (shift,) = kl.measured(model.scorer, model.update, kl.Texts({"task": examples(5)}))
    assert shift.kl is not None
    return shift.kl


def test_what_a_strategy_means() -> None:
    """Nothing of ours on one device; a gradient's sum takes no more room than a bucket."""
    assert strategy_of("auto", "cpu", 1) == "auto" == strategy_of("auto", "cpu", "auto")
    assert type(strategy_of("auto", "cpu", "2")) is type(strategy_of("ddp", "cpu", 1)) is Ranks
    assert type(strategy_of("fsdp2", "cpu", 2)) is SpreadRanks


def test_gradients_are_summed_bucket_by_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400, 100 and 600 bytes in buckets of 500; another dtype begins another."""
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 500)
    tensors = [torch.zeros(n) for n in (100, 25, 150)] + [torch.zeros(2, dtype=torch.float64)]
    found = [[len(t) for t in bucket] for bucket in distributed._buckets(tensors)]
    assert found == [[100, 25], [150], [2]]
