"""Policy objectives: advantages and losses by hand, TRL's formulas, and groups as trees.

The formulas of TRL are written out from its `GRPOTrainer` and `RLOOTrainer` (0.2x; TRL is not
installed here): padded tensors of answers by tokens, and a mask.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from myosotis import updates
from myosotis.objectives import Group, policy, samples, with_reference
from myosotis.objectives.policy import GRPO, RLOO, DrGRPO, OnlineDPO, Policy
from myosotis.objectives.sft import SFT
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import BranchLogProbs, Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError
from tests.tiny import tiny

PROMPT = [5, 9, 13, 40, 41]
ANSWERS = [[7, 8, 2], [7, 8, 60, 61, 2], [30, 2], [7, 8, 2]]  # the first and the last are the same
REWARDS = np.array([1.0, 0.0, 0.25, 0.5])


# Numbers of a group.


def test_kl_is_taken_off_the_score() -> None:
    """docs/science.md: a score of 1.0 and KL of .1 and .2 leave 1.0 − (.1 + .2) = .7."""
    kl = np.array([[0.1, 0.2, 0.0]])
    assert policy.penalised(np.array([1.0]), kl, 1.0) == pytest.approx([0.7])
    assert policy.penalised(np.array([1.0]), kl, 0.5) == pytest.approx([0.85])


def test_advantages_by_hand() -> None:
    """Rewards 1, 2, 3, 4: mean 2.5, and a sum of squares of 5, so sd = √(5/3) = 1.29099; without
    the first, the others' mean is 3, so 1 − 3 = −2; without the last, 4 − 2 = 2."""
    rewards = np.array([1.0, 2.0, 3.0, 4.0])
    assert policy.centred(rewards) == pytest.approx([-1.5, -0.5, 0.5, 1.5])
    spread = math.sqrt(5 / 3) + 1e-4
    assert policy.standardised(rewards) == pytest.approx(np.array([-1.5, -0.5, 0.5, 1.5]) / spread)
    assert policy.leave_one_out(rewards) == pytest.approx([-2, -2 / 3, 2 / 3, 2])


def test_a_group_of_equal_rewards_teaches_nothing() -> None:
    for advantages in (policy.centred, policy.standardised, policy.leave_one_out):
        assert advantages(np.full(4, 0.7)) == pytest.approx(np.zeros(4), abs=1e-10)


def test_the_surrogate_by_hand() -> None:
    """ε = .2. A good answer (A = 1) at a ratio of 1.5 counts 1.2, at .5 it counts .5; a bad one
    (A = −1) at 1.5 counts −1.5 and at .5 −.8: only what went too far the right way is clipped."""
    ratio, good = torch.tensor([1.5, 0.5]), torch.ones(2)
    assert policy.surrogate(ratio, good, 0.2).tolist() == pytest.approx([1.2, 0.5])
    assert policy.surrogate(ratio, -good, 0.2).tolist() == pytest.approx([-1.5, -0.8])


def test_k3_by_hand() -> None:
    """At ref − logp = ln 2: 2 − ln 2 − 1 = .30685; where both are the same, 0."""
    logp, reference = torch.tensor([-1.0, -1.0]), torch.tensor([-1.0 + math.log(2), -1.0])
    assert policy.kl_k3(logp, reference).tolist() == pytest.approx([0.30685, 0.0], abs=1e-5)


def test_the_coefficient_follows_the_target() -> None:
    """Twice the target: an error of 1, cut to .2, so a tenth of that is added; at the target
    nothing changes; without any KL a fiftieth is taken off."""
    assert policy.adapted(0.1, kl=12.0, target=6.0) == pytest.approx(0.102)
    assert policy.adapted(0.1, kl=6.0, target=6.0) == pytest.approx(0.1)
    assert policy.adapted(0.1, kl=6.6, target=6.0) == pytest.approx(0.101)
    assert policy.adapted(0.1, kl=0.0, target=6.0) == pytest.approx(0.098)


@pytest.mark.parametrize(
    "wrong",
    [
        {"group_size": 1},
        {"max_new_tokens": 0},
        {"iterations": 0},
        {"kl_coef": -0.1},
        {"kl_coef": math.inf},
        {"clip": 0.0},
        {"kl_target": 0.0},
        {"kl_target": 1.0, "kl_coef": 0.0},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        GRPO(**wrong)


def test_only_policies_sample() -> None:
    assert all(samples(one()) for one in (GRPO, DrGRPO, RLOO, OnlineDPO))
    assert not samples(SFT())


# Groups as trees.


def scorer(dtype: torch.dtype = torch.float64, packing: str = "dense") -> Scorer:
    """An update that has moved, so that no ratio is 1 by being the base."""
    torch.manual_seed(1)
    update = updates.build({"name": "lora", "r": 4})
    update.attach(tiny("llama", dtype))
    for _, parameter in update.parameters():
        parameter.data.normal_(0, 0.1)
    return Scorer(update.model, PackingMode(packing, "test"), row_tokens=512)  # type: ignore[arg-type]


def group(kl_coef: float = 0.04) -> Group:
    """The answers, sampled by a policy that was near this one."""
    tree = Tree.fork(PROMPT, ANSWERS)
    generator = np.random.default_rng(0)
    logp = scorer().evaluate_tokens([tree])[0]
    noise = [np.where(logp != 0, generator.normal(0, 0.3, logp.shape), 0) for _ in range(2)]
    return Group(tree, REWARDS, logp + noise[0], logp + noise[1], kl_coef)


def test_log_probs_token_by_token_add_up() -> None:
    """Nothing before the answers is scored, and the sums are those of the paths."""
    tree = Tree.fork(PROMPT, ANSWERS)
    one = scorer()
    tokens, sums = one.evaluate_tokens([tree])[0], one.evaluate([tree])[0]
    assert tokens.shape == (4, len(PROMPT) + 5)
    assert (tokens[:, : len(PROMPT)] == 0).all()
    assert tokens.sum(-1) == pytest.approx(sums.logp)
    assert [int((row != 0).sum()) for row in tokens] == [3, 5, 2, 3]


def of(objective: Policy, one: Scorer, trees: list[Tree]) -> tuple[Tensor, BranchLogProbs]:
    """The loss of a step of these trees, and the branches of its last batch."""
    total, branches = torch.zeros((), dtype=torch.float64), None
    for batch in one.batches(trees):
        branches = with_reference(one.score(batch), batch, trees, objective)
        total = total + objective.loss(branches)
    assert branches is not None
    return total / sum(objective.normalizer(tree) for tree in trees), branches


def gradient(one: Scorer, loss: Tensor) -> Tensor:
    trained = [p for p in one.model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)])


def padded(one: Scorer, answers: list[list[int]]) -> tuple[Tensor, Tensor]:
    """TRL's view: a row an answer, log-probs of its tokens and a mask, both (P, T)."""
    width = max(map(len, answers))
    rows, mask = [], torch.zeros(len(answers), width, dtype=torch.float64)
    for i, answer in enumerate(answers):
        ids = torch.tensor([[*PROMPT, *answer]])
        logits = one.model(input_ids=ids).logits[0, len(PROMPT) - 1 : -1].log_softmax(-1)
        logp = logits.gather(-1, torch.tensor(answer)[:, None])[:, 0]
        rows.append(torch.nn.functional.pad(logp, (0, width - len(answer))))
        mask[i, : len(answer)] = 1
    return torch.stack(rows), mask


def aligned(values_PD: np.ndarray, width: int) -> Tensor:
    return torch.tensor(values_PD[:, len(PROMPT) :][:, :width])


def trl(name: str, one: Scorer, given: Group, clip: float) -> Tensor:
    """The loss of TRL's trainer `name` on the same tokens, rewards and log-probs, transcribed;
    `bench/check_trl.py` asks the trainers themselves."""
    logps, mask = padded(one, ANSWERS)
    old, ref = (aligned(x, mask.shape[1]) for x in (given.old_PD, given.reference_PD))
    beta, rewards = given.kl_coef, torch.tensor(given.rewards_P)
    if name == "rloo":
        kl = ((old - ref) * mask).sum(-1)
        rewards = rewards - beta * kl
        baselines = (rewards.sum() - rewards) / (len(rewards) - 1)
        advantages = rewards - baselines
        coef_1 = torch.exp((logps * mask).sum(1) - (old * mask).sum(1))
        coef_2 = torch.clamp(coef_1, 1 - clip, 1 + clip)
        return -torch.min(coef_1 * advantages, coef_2 * advantages).mean()
    advantages = rewards - rewards.mean()
    if name == "grpo":
        advantages = advantages / (rewards.std() + 1e-4)
    coef_1 = torch.exp(logps - old)
    coef_2 = torch.clamp(coef_1, 1 - clip, 1 + clip)
    per_token_loss1 = coef_1 * advantages.unsqueeze(1)
    per_token_loss2 = coef_2 * advantages.unsqueeze(1)
    per_token_loss = -torch.min(per_token_loss1, per_token_loss2)
    per_token_kl = torch.exp(ref - logps) - (ref - logps) - 1
    per_token_loss = per_token_loss + beta * per_token_kl
    if name == "grpo":
        return ((per_token_loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    return (per_token_loss * mask).sum() / (per_token_loss.size(0) * MOST)


MOST = 16
OBJECTIVES = {"grpo": GRPO, "dr_grpo": DrGRPO, "rloo": RLOO}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_loss_and_gradient_are_trls(name: str, kl_coef: float) -> None:
    """To 1e-6 (normalisation layers compute in fp32 in any model); at a clip of .1 the clipping
    stops some tokens and not others."""
    one, given = scorer(), group(kl_coef)
    objective = OBJECTIVES[name](max_new_tokens=MOST, clip=0.1)
    loss, branches = of(objective, one, [objective.learned_from(given)])
    expected = trl(name, one, given, clip=0.1)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    ours, theirs = gradient(one, loss), gradient(one, expected)
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
    if name != "rloo":
        share = objective.metrics(branches)["clip_share"].item() / len(ANSWERS)
        assert 0 < share < 1


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_shared_prompts_gradient_is_that_of_separate_rows(name: str) -> None:
    """A prompt that is read once for the group: the same gradient as with a row for each answer."""
    objective = OBJECTIVES[name](max_new_tokens=MOST)
    tree = objective.learned_from(group())
    found = []
    for packing in ("dense", "padded"):
        one = scorer(packing=packing)
        one.row_tokens = 512
        found.append(gradient(one, of(objective, one, [tree])[0]))
    assert (found[0] - found[1]).norm() <= 1e-6 * found[1].norm()
    read = sum(batch.tokens for batch in scorer().batches([tree]))
    assert read < sum(batch.tokens for batch in scorer(packing="padded").batches([tree]))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_step_does_not_depend_on_how_groups_are_packed(name: str) -> None:
    """Two groups; rows of 512 tokens, and rows so short that a group is split at its branches."""
    objective = OBJECTIVES[name](max_new_tokens=MOST)
    first = objective.learned_from(group())
    other = Tree.fork([9, 8, 7, 6], [[50, 51, 2], [52, 2]])
    logp = scorer().evaluate_tokens([other])[0]
    second = objective.learned_from(Group(other, np.array([0.0, 1.0]), logp + 0.1, logp, 0.04))
    found = []
    for row_tokens in (512, 10):
        one = scorer()
        one.row_tokens = row_tokens
        found.append(gradient(one, of(objective, one, [first, second])[0]))
    assert (found[0] - found[1]).norm() <= 1e-6 * found[0].norm()


def test_what_was_just_sampled_has_ratios_of_one() -> None:
    """Then GRPO's gradient is that of −A · log p, and nothing is clipped."""
    one = scorer()
    tree = Tree.fork(PROMPT, ANSWERS)
    logp = one.evaluate_tokens([tree])[0]
    objective = GRPO(kl_coef=0.0)
    loss, branches = of(
        objective, one, [objective.learned_from(Group(tree, REWARDS, logp, logp, 0.0))]
    )
    told = objective.metrics(branches)
    assert told["ratio"].item() / 4 == pytest.approx(1.0)
    assert told["clip_share"].item() == 0
    logps, mask = padded(one, ANSWERS)
    advantages = torch.tensor(policy.standardised(REWARDS))
    plain = -(advantages[:, None] * logps * mask).sum(-1) / mask.sum(-1)
    ours, theirs = gradient(one, loss), gradient(one, plain.mean())
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_online_dpo_pairs_the_best_with_the_worst() -> None:
    """Rewards 1, 0, .25, .5: the first answer against the second, with the reference's sums."""
    given = group()
    pair = OnlineDPO().learned_from(given)
    assert pair is not None
    assert [path.ids[len(PROMPT) :] for path in pair.paths()] == ANSWERS[:2]
    assert pair.reference == pytest.approx(given.reference_PD.sum(-1)[:2])
    assert OnlineDPO().learned_from(replace(given, rewards_P=np.ones(4))) is None
    (batch,) = scorer().batches([pair])
    loss = OnlineDPO(beta=0.1).loss(
        with_reference(scorer().score(batch), batch, [pair], DPO_REFERENCE)
    )
    h = sum(
        sign * (now - ref)
        for sign, now, ref in zip(
            (1, -1), scorer().evaluate([pair])[0].logp, pair.reference, strict=True
        )
    )
    assert loss.item() == pytest.approx(math.log1p(math.exp(-0.1 * h)), abs=1e-5)


DPO_REFERENCE = OnlineDPO()


def test_an_empty_batch_has_a_loss_without_a_group() -> None:
    """Data-parallel ranks and rounds without a pair have steps with nothing to learn."""
    branches = scorer().score(scorer().empty())
    for objective in (GRPO(), RLOO()):
        assert objective.loss(branches).item() == 0
        assert set(objective.metrics(branches)) == {"ratio", "clip_share"}
