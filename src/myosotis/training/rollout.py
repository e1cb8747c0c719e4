"""Rounds of sampling: the model answers the prompts of a step, and learns from its own answers.

A round: to each prompt of the step a group of answers is sampled with the weights as they are; each
answer is given its reward; the log-probs of its tokens are taken, and those of the model that
training began with (the update switched off). Then come `iterations` optimiser steps on them.

What is sampled is a function of the seed, the round and the weights. The weights of a round's
beginning are gone in its middle, so a checkpoint holds the round that it falls into (`state_dict`).

Shape suffixes: P answers of a group, D depths.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example
from myosotis.models.generate import before, continuations, decoded, end_ids
from myosotis.objectives import Group, SampledObjective, needs_critic
from myosotis.objectives.policy import adapted
from myosotis.rewards.together import Rewarded, Rewards
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import CriticValues, Path, Sampled, Tree
from myosotis.updates.base import Update

MERGED_FROM = 32
"""Tokens of an answer from which on weights are merged to sample: on SmolLM2-135M merging takes as
long as some twenty tokens, and saves a third of each."""

AT_ONCE = 64
"""Answers that are written at a time. A constant: what is sampled depends on it."""


@dataclass(frozen=True)
class Asked:
    """What a tree of the data stands for: its example, and the prompt as the model reads it."""

    example: Example
    prompt: Sequence[int]


@dataclass
class Round:
    """What was sampled for some steps, as it is learned from, and what is said of it."""

    number: int
    trees: list[Tree]
    metrics: dict[str, float] = field(default_factory=dict)


class Rollouts:
    """Samples rounds for `objective`; `examples` are those of the training data, and `Tree.example`
    says which of them a tree is of."""

    def __init__(
        self,
        update: Update,
        objective: SampledObjective,
        rewards: Rewards,
        template: ChatRenderer,
        examples: Sequence[Example],
        *,
        seed: int,
    ) -> None:
        self.update = update
        self.objective = objective
        self.rewards = rewards
        self.template = template
        self.tokenizer: PreTrainedTokenizerBase = template.tokenizer
        self.examples = examples
        self.seed = seed
        self.kl_coef = float(objective.kl_coef)
        self.seconds: dict[str, float] = {}
        self.round: Round | None = None

    def of_step(self, step: int, batch: Sequence[Tree], scorer: Scorer) -> Round:
        """The round that a step learns from: a new one, or the one that is at hand."""
        number = step // self.objective.iterations
        if self.round is None or self.round.number != number:
            self.round = self._sample(number, batch, scorer)
        return self.round

    def _sample(self, number: int, batch: Sequence[Tree], scorer: Scorer) -> Round:
        self.seconds = {}
        asked = [self._asked(tree) for tree in batch]
        with self._timed("sampling"):
            answers = self._answers(number, asked, scorer)
        groups = [Tree.fork(one.prompt, ids) for one, ids in zip(asked, answers, strict=True)]
        with self._timed("scoring"):
            rewarded = self._rewarded(asked, answers)
            values: Sequence[NDArray[np.float64] | None] = [None] * len(groups)
            if needs_critic(self.objective):
                old, values = zip(*scorer.evaluate_values(groups), strict=True)
            else:
                old = scorer.evaluate_tokens(groups)
            with self.update.disabled():
                reference = scorer.evaluate_tokens(groups)
        parts = zip(groups, np.split(rewarded.total, len(groups)), old, reference, strict=True)
        made = [Group(*part, self.kl_coef, said) for part, said in zip(parts, values, strict=True)]
        said = self._said(made, answers, rewarded)
        if self.objective.kl_target is not None:
            self.kl_coef = adapted(self.kl_coef, said["kl"], self.objective.kl_target)
        return Round(number, self.objective.of_round(made), said)

    def _asked(self, tree: Tree) -> Asked:
        example = self.examples[tree.example]
        return Asked(example, self.template.prompt(example.prompt, example.tools))

    def _answers(
        self, number: int, asked: Sequence[Asked], scorer: Scorer
    ) -> list[list[list[int]]]:
        """Of each prompt the ids of a group of answers, with the one that ended them."""
        size = self.objective.group_size
        long = self.objective.max_new_tokens >= MERGED_FROM
        with scorer.arithmetic():
            found = continuations(
                self.update.to_sample() if long else self.update.model,
                self.tokenizer,
                [one.prompt for one in asked],
                copies=size,
                max_new_tokens=self.objective.max_new_tokens,
                temperature=1.0,
                seed=seed_of(self.seed, number),
                batch_size=AT_ONCE,
                stop=self._ends,
            )
        return [found[k : k + size] for k in range(0, len(found), size)]

    @property
    def _ends(self) -> list[int]:
        return end_ids(self.update.model, self.tokenizer)

    def _rewarded(self, asked: Sequence[Asked], answers: Sequence[Sequence[list[int]]]) -> Rewarded:
        ends = self._ends
        texts = [decoded(self.tokenizer, before(ids, ends)) for group in answers for ids in group]
        examples = [one.example for one, group in zip(asked, answers, strict=True) for _ in group]
        return self.rewards(examples, texts)

    def _said(
        self, groups: Sequence[Group], answers: Sequence[Sequence[list[int]]], given: Rewarded
    ) -> dict[str, float]:
        """What is worth a curve of a round. `entropy` is minus the mean log-prob of the sampled
        tokens, whose expectation it is; `kl` is in nats per answer."""
        ends = self._ends
        every = [ids for group in answers for ids in group]
        lengths = np.array([len(ids) for ids in every], np.float64)
        old = np.concatenate([group.old_PD.sum(-1) for group in groups])
        kl = np.concatenate([group.kl_PD.sum(-1) for group in groups])
        parts = given.parts if len(given.parts) > 1 else {}
        return {
            "reward": float(given.total.mean()),
            **{f"reward_{name}": float(values.mean()) for name, values in parts.items()},
            "reward_spread": float(np.mean([group.rewards_P.std(ddof=1) for group in groups])),
            "kl": float(kl.mean()),
            "kl_coef": self.kl_coef,
            "entropy": float(-old.sum() / lengths.sum()),
            "length": float(lengths.mean()),
            "truncated": float(np.mean([ids[-1] not in ends for ids in every])),
            "alike": float(np.mean([np.ptp(group.rewards_P) == 0 for group in groups])),
        }

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[what] = time.perf_counter() - began

    # What a checkpoint holds: plain values and tensors, which are read back without running code.

    def state_dict(self) -> dict[str, Any]:
        """The coefficient, and the round at hand."""
        found: dict[str, Any] = {"kl_coef": self.kl_coef}
        if self.round is not None:
            found["round"] = {
                "number": self.round.number,
                "metrics": dict(self.round.metrics),
                "trees": [_written(tree) for tree in self.round.trees],
            }
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Read `state_dict` back."""
        self.kl_coef = float(state["kl_coef"])
        if (kept := state.get("round")) is not None:
            trees = [_read(one) for one in kept["trees"]]
            self.round = Round(kept["number"], trees, dict(kept["metrics"]))


def seed_of(seed: int, number: int) -> int:
    """The seed of a round's sampling; apart from that of a step's dropout."""
    return (seed * 1_000_003 + number) * 4099 + 4098


def _written(tree: Tree) -> dict[str, Any]:
    """A tree of this room, as tensors."""
    paths = tree.paths()
    found: dict[str, Any] = {
        "ids": [list(path.ids) for path in paths],
        "weights": [list(path.weights) for path in paths],
    }
    if tree.reference is not None:
        found["reference"] = torch.from_numpy(np.asarray(tree.reference))
    if tree.sampled is not None:
        *arrays, coef, critic = tree.sampled
        found["sampled"] = [*(torch.from_numpy(np.asarray(one)) for one in arrays), coef]
        if critic is not None:
            found["critic"] = [torch.from_numpy(one) for one in critic]
    return found


def _read(kept: Mapping[str, Any]) -> Tree:
    pairs = zip(kept["ids"], kept["weights"], strict=True)
    tree = Tree.of([Path(ids, weights) for ids, weights in pairs])
    reference: NDArray[Any] | None = None
    if "reference" in kept:
        reference = kept["reference"].numpy()
    sampled = None
    if "sampled" in kept:
        old, first, advantage, coef = kept["sampled"]
        critic = None
        if "critic" in kept:
            critic = CriticValues(*(one.numpy() for one in kept["critic"]))
        sampled = Sampled(old.numpy(), first.numpy(), advantage.numpy(), coef, critic)
    return replace(tree, reference=reference, sampled=sampled)
