"""Rounds of sampling: what is learned from them, and that a killed run goes on in their middle."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import StepLoader
from myosotis.data.sft import Example, Message
from myosotis.models.generate import end_ids
from myosotis.objectives import SampledObjective, needs_critic
from myosotis.objectives.policy import GRPO, RLOO, OnlineDPO
from myosotis.objectives.ppo import PPO
from myosotis.rewards import Rule
from myosotis.rewards.together import Rewards
from myosotis.training.callbacks import AtomicCheckpointIO, SaveLast, StepSeed
from myosotis.training.module import FineTuning
from myosotis.training.optim import Schedule
from myosotis.training.rollout import Rollouts
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates import build
from tests.data.conftest import byte_level
from tests.world import build as build_world

COUNT, BATCH = 6, 2


@dataclass(frozen=True)
class Uneven(Rule):
    """Something that differs from answer to answer."""

    def of(self, example: Example, text: str) -> float:
        return (sum(map(ord, text)) % 11) / 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("world"))


class Fixture:
    """A module with its rollouts, on the world's model."""

    def __init__(
        self, world: Path, objective: SampledObjective, weight: float = 1.0, **update: Any
    ) -> None:
        torch.manual_seed(0)
        chosen = update or {"name": "lora", "r": 4, "lora_alpha": 8}
        self.update = build(chosen | ({"critic": 1.0} if needs_critic(objective) else {}))
        self.update.attach(AutoModelForCausalLM.from_pretrained(world / "model"))
        scorer = Scorer(self.update.model, PackingMode("dense", "test"), row_tokens=64)
        template = ChatRenderer(byte_level(), "none")
        examples = [
            Example((Message("user", f"number {k}"), Message("assistant", str(k))), f"{k}")
            for k in range(COUNT)
        ]
        self.trees = [
            replace(Tree.of([template.render(example)]), example=i)
            for i, example in enumerate(examples)
        ]
        rewards = Rewards.of({"uneven": Uneven(weight=weight)}, lambda run: pytest.fail(run))
        self.rollouts = Rollouts(self.update, objective, rewards, template, examples, seed=3)
        self.scorer = scorer
        self.module = FineTuning(
            self.update,
            objective,
            scorer,
            optimizer=functools.partial(torch.optim.AdamW, lr=1e-2),
            schedule=Schedule("constant", 0, 8),
            rollouts=self.rollouts,
        )

    def fit(self, steps: int, folder: Path | None = None, resume: bool = False) -> None:
        seen: list[Any] = [StepSeed(0)]
        if folder is not None:
            seen.append(SaveLast(folder / "last.ckpt", []))
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=steps,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=seen,
            plugins=[AtomicCheckpointIO()],
        )
        loader = StepLoader(
            self.trees,
            BATCH,
            0,
            position=lambda: trainer.global_step,
            repeats=self.rollouts.objective.iterations,
        )
        path = str(folder / "last.ckpt") if folder is not None and resume else None
        trainer.fit(self.module, loader, ckpt_path=path, weights_only=True)

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for _, p in self.update.parameters()])


def grpo(**words: Any) -> GRPO:
    return GRPO(**{"group_size": 4, "max_new_tokens": 5, "iterations": 3, **words})


POLICIES = {
    "grpo": grpo(kl_target=0.5),
    "rloo": RLOO(group_size=4, max_new_tokens=5, iterations=3),
    "ppo": PPO(group_size=4, max_new_tokens=5, iterations=3, kl_target=0.5),
    "online_dpo": OnlineDPO(group_size=4, max_new_tokens=5, iterations=3),
}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_run_that_is_killed_in_mid_round_goes_on_bit_for_bit(
    world: Path, tmp_path: Path, name: str
) -> None:
    """Three steps a round; killed after the fifth, which is the second of its round. The round
    after it is sampled anew, and the coefficient goes on where it was."""
    whole = Fixture(world, POLICIES[name])
    whole.fit(8)
    first = Fixture(world, POLICIES[name])
    first.fit(5, tmp_path)
    second = Fixture(world, POLICIES[name])
    second.fit(8, tmp_path, resume=True)
    assert torch.equal(second.weights(), whole.weights())
    assert second.rollouts.kl_coef == whole.rollouts.kl_coef
    assert second.rollouts.round is not None and whole.rollouts.round is not None
    assert second.rollouts.round.metrics == whole.rollouts.round.metrics
    assert not torch.equal(first.weights(), whole.weights())


def test_a_round_is_sampled_once_and_its_prompts_stay(world: Path) -> None:
    """Steps 0, 1 and 2 learn from one round, and the loader gives them the same examples."""
    fixture = Fixture(world, grpo())
    loader = StepLoader(fixture.trees, BATCH, 0, repeats=3)
    assert len(loader) == 9
    batches = [loader.step(0, step) for step in range(9)]
    of = [[tree.example for tree in batch] for batch in batches]
    assert of[0] == of[1] == of[2] != of[3]
    rounds = [
        fixture.rollouts.of_step(step, batch, fixture.scorer) for step, batch in enumerate(batches)
    ]
    assert rounds[0] is rounds[1] is rounds[2] is not rounds[3]
    assert [one.number for one in rounds] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_what_a_round_says_of_itself(world: Path) -> None:
    """Before the first step the policy is the reference: no KL. Log-probs at sampling are those
    that the scorer gives, and an answer ends in its end or is as long as one may be."""
    fixture = Fixture(world, grpo())
    told = fixture.rollouts.of_step(0, fixture.trees[:2], fixture.scorer)
    assert told.metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert told.metrics["kl_coef"] == 0.04
    ends = end_ids(fixture.update.model, fixture.rollouts.tokenizer)
    cut, tokens, logp = 0, 0, 0.0
    for tree in told.trees:
        assert len(tree.leaves) == 4 and tree.sampled is not None
        scored = fixture.scorer.evaluate([tree])[0]
        assert tree.sampled.old_PD.sum(-1) == pytest.approx(scored.logp, abs=1e-5)
        assert tree.sampled.advantage_P.sum() == pytest.approx(0, abs=1e-6)
        for path, weight in zip(tree.paths(), scored.weight, strict=True):
            cut += path.ids[-1] not in ends
            assert path.ids[-1] in ends or weight == 5
            tokens += int(weight)
        logp += scored.logp.sum()
    assert told.metrics["truncated"] == cut / 8
    assert told.metrics["length"] == tokens / 8
    assert told.metrics["entropy"] == pytest.approx(-logp / tokens, abs=1e-5)


def test_sampling_is_a_function_of_seed_round_and_weights(world: Path) -> None:
    """And it leaves no trace: not in the random numbers, not in the model's mode."""
    fixture, other = Fixture(world, grpo()), Fixture(world, grpo())
    fixture.update.model.train()
    before = torch.get_rng_state()
    first = fixture.rollouts.of_step(0, fixture.trees[:2], fixture.scorer)
    assert torch.equal(before, torch.get_rng_state())
    assert fixture.update.model.training
    torch.manual_seed(99)
    same = other.rollouts.of_step(0, other.trees[:2], other.scorer)
    ids = [[path.ids for path in tree.paths()] for tree in first.trees]
    assert ids == [[path.ids for path in tree.paths()] for tree in same.trees]
    later = other.rollouts.of_step(3, other.trees[:2], other.scorer)
    assert ids != [[path.ids for path in tree.paths()] for tree in later.trees]


def test_the_reward_rises(world: Path) -> None:
    """Thirty steps towards answers of digits alone, which are about ten of 260 tokens. All weights
    move: this small a head cannot prefer a token by what stands below it."""

    @dataclass(frozen=True)
    class Digits(Rule):
        def of(self, example: Example, text: str) -> float:
            return sum(letter in "0123456789" for letter in text) / 5

    fixture = Fixture(world, grpo(iterations=1, kl_coef=0.0, group_size=16), name="full")
    fixture.rollouts.rewards = Rewards.of({"digits": Digits()}, lambda run: pytest.fail(run))

    def reward() -> float:
        fixture.rollouts.round = None
        return fixture.rollouts.of_step(0, fixture.trees, fixture.scorer).metrics["reward"]

    before = reward()
    fixture.rollouts.round = None
    fixture.fit(30)
    assert before < 0.1
    assert reward() > 0.5


def test_a_round_without_a_pair_changes_nothing(world: Path) -> None:
    """Online DPO, all answers worth the same: no tree, no gradient, and the step is taken."""
    fixture = Fixture(world, replace(POLICIES["online_dpo"], iterations=1), weight=0.0)
    before = fixture.weights()
    fixture.fit(2)
    assert torch.equal(fixture.weights(), before)
    assert fixture.rollouts.round is not None and fixture.rollouts.round.trees == []
    assert fixture.rollouts.round.metrics["alike"] == 1


def test_the_bar_says_where_time_goes(world: Path) -> None:
    fixture = Fixture(world, grpo())
    metrics = {"train/reward": 0.5, "train/loss": 1.0}
    seconds = {"sampling": 6.0, "scoring": 1.0, "learning": 3.0}
    metrics |= {f"train/seconds/{name}": value for name, value in seconds.items()}
    said = fixture.module.progress(metrics)
    assert said == "reward 0.500 (sampling 60%, scoring 10%, learning 30%)"
    fixture.module.rollouts = None
    assert fixture.module.progress(metrics) == "loss 1.000"


def test_a_state_is_plain_and_read_back(world: Path) -> None:
    fixture = Fixture(world, grpo())
    first = fixture.rollouts.of_step(0, fixture.trees[:2], fixture.scorer)
    other = Fixture(world, grpo())
    other.rollouts.load_state_dict(fixture.rollouts.state_dict())
    assert other.rollouts.of_step(2, other.trees[:2], other.scorer) is other.rollouts.round
    assert other.rollouts.round is not None
    for tree, was in zip(other.rollouts.round.trees, first.trees, strict=True):
        assert tree.paths() == was.paths()
        assert tree.sampled is not None and was.sampled is not None
        for now, then in zip(tree.sampled, was.sampled, strict=True):
            assert np.array_equal(now, then)
