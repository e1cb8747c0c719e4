"""PPO: rewards, advantages and values by hand, TRL's formulas on the same tokens, and the critic
beside every update that can carry one.

The formulas of TRL are written out from its `PPOTrainer` (trl.experimental.ppo; TRL is not
installed here). It puts the score of an answer that ends early one place behind its end, where
nothing is learned but a value; ours stands at the last token. So the answers are of one length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from myosotis import updates
from myosotis.objectives import Group, needs_critic, ppo, samples, with_reference
from myosotis.objectives.policy import GRPO
from myosotis.objectives.ppo import PPO
from myosotis.trees.attention import PackingMode
from myosotis.trees.lm_head import VALUE_HEAD
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update
from myosotis.utils.errors import ConfigError
from tests.tiny import tiny

PROMPTS = [[5, 9, 13, 40, 41], [6, 10, 14, 42, 43]]
ANSWERS = [[[7, 8, 2], [30, 60, 2]], [[7, 61, 62], [30, 31, 2]]]
REWARDS = [np.array([1.0, 0.0]), np.array([0.25, 0.5])]
UPDATES: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", "r": 4},
    "full": {"name": "full"},
    "adapter": {"name": "adapter", "bottleneck": 4},
    "ia3": {"name": "ia3", "peft_type": "IA3"},
}


def test_kl_is_paid_token_by_token_and_the_score_comes_last() -> None:
    """A score of 1.0 and KL of .1 and .2 add up to .7."""
    rewards = ppo.token_rewards(1.0, np.array([0.1, 0.2]), 1.0)
    assert rewards == pytest.approx([-0.1, 0.8]) and rewards.sum() == pytest.approx(0.7)
    assert ppo.token_rewards(1.0, np.array([0.1, 0.2]), 0.5).sum() == pytest.approx(0.85)


def test_advantages_by_hand() -> None:
    """Rewards 0, 0, 1 and values .5, .6, .7, γ = 1, λ = .95. From the end: δ = 1 − .7 = .3; δ =
    .7 − .6 = .1, A = .1 + .95 · .3 = .385; δ = .6 − .5 = .1, A = .1 + .95 · .385 = .46575."""
    rewards, values = np.array([0.0, 0.0, 1.0]), np.array([0.5, 0.6, 0.7])
    found = ppo.advantages(rewards, values, 1.0, 0.95)
    assert found == pytest.approx([0.46575, 0.385, 0.3])
    assert ppo.advantages(rewards, values, 1.0, 1.0) == pytest.approx([0.5, 0.4, 0.3])  # 1 − V
    assert ppo.advantages(rewards, values, 0.5, 0.0) == pytest.approx([-0.2, -0.25, 0.3])


def test_whitening_by_hand() -> None:
    """1, 2, 3: mean 2, variance (1 + 0 + 1) / 2 = 1."""
    assert ppo.whitened(np.array([1.0, 2.0, 3.0])) == pytest.approx([-1, 0, 1])


def test_a_value_that_went_far_learns_no_more() -> None:
    """ε = .2, once .5. At .9 towards 1.0: the clipped .7 is .3 off, ½ · .09, and has no gradient.
    At 1.0 away from .4: ½ · .6² = .18, and is pulled back."""
    value = torch.tensor([0.9, 1.0], requires_grad=True)
    loss = ppo.value_loss(value, torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.4]), 0.2)
    assert loss.tolist() == pytest.approx([0.045, 0.18])
    loss.sum().backward()
    assert value.grad is not None and value.grad.tolist() == pytest.approx([0.0, 0.6])


@pytest.mark.parametrize(
    "wrong",
    [
        {"gamma": 1.1},
        {"lam": -0.1},
        {"clip_value": 0.0},
        {"value_coef": -1.0},
        {"critic_lr_ratio": 0.0},
        {"clip": 0.0},
        {"kl_coef": -1.0},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PPO(**wrong)


def test_it_samples_and_alone_needs_a_critic() -> None:
    assert samples(PPO()) and needs_critic(PPO()) and not needs_critic(GRPO())


# On a model.


def moved(dtype: torch.dtype = torch.float64, **settings: Any) -> Update:
    """An update and a critic that have both moved."""
    torch.manual_seed(1)
    update = updates.build({**(settings or UPDATES["lora"]), "critic": 1.0})
    update.attach(tiny("llama", dtype))
    for name, parameter in update.parameters():
        if not settings or VALUE_HEAD in name or "lora" in name:
            parameter.data.normal_(0, 0.1)
    return update


def scorer(packing: str = "dense", fast: bool = True) -> Scorer:
    mode = PackingMode(packing, "test", fast_head=fast)  # type: ignore[arg-type]
    return Scorer(moved().model, mode, row_tokens=512)


def groups(kl_coef: float = 0.05) -> list[Group]:
    """Sampled by a policy and a critic that were near these."""
    trees = [Tree.fork(p, answers) for p, answers in zip(PROMPTS, ANSWERS, strict=True)]
    generator = np.random.default_rng(0)
    found = []
    for tree, rewards in zip(trees, REWARDS, strict=True):
        ((logp, values),) = scorer().evaluate_values([tree])
        noise = [np.where(logp != 0, generator.normal(0, 0.3, logp.shape), 0) for _ in range(3)]
        found.append(
            Group(tree, rewards, logp + noise[0], logp + noise[1], kl_coef, values + noise[2])
        )
    return found


def of(one: Scorer, objective: PPO, trees: list[Tree]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for batch in one.batches(trees):
        branches = with_reference(one.score(batch, values=True), batch, trees, objective)
        total = total + objective.loss(branches)
    return total / sum(objective.normalizer(tree) for tree in trees)


def gradient(one: Scorer, loss: Tensor) -> Tensor:
    trained = [p for p in one.model.parameters() if p.requires_grad]
    return torch.cat([g.flatten().double() for g in torch.autograd.grad(loss, trained)])


def test_a_value_is_read_from_the_state_before_its_token() -> None:
    """Held against the hidden states of the whole sequence."""
    update = moved()
    tree = Tree.fork(PROMPTS[0], ANSWERS[0])
    for fast in (True, False):
        one = Scorer(update.model, PackingMode("dense", "test", fast_head=fast), row_tokens=512)
        ((logp, values),) = one.evaluate_values([tree])
        assert logp == pytest.approx(one.evaluate_tokens([tree])[0])
        for p, answer in enumerate(ANSWERS[0]):
            hidden = update.model.model(torch.tensor([[*PROMPTS[0], *answer]])).last_hidden_state
            expected = update.model.get_submodule(VALUE_HEAD)(hidden[0, 4:-1])[:, 0]
            assert values[p, 5:] == pytest.approx(expected.detach().numpy(), abs=1e-6)
            assert (values[p, :5] == 0).all()


def trl(one: Scorer, given: list[Group], objective: PPO) -> Tensor:
    """The loss of TRL's PPOTrainer on one batch of these answers, with its names."""
    rows = [(p, a) for p, many in zip(PROMPTS, ANSWERS, strict=True) for a in many]
    width, start = len(ANSWERS[0][0]), len(PROMPTS[0])

    def column(name: str) -> Tensor:
        return torch.tensor(np.concatenate([getattr(g, name)[:, start:] for g in given]))

    logprobs, ref, values = column("old_PD"), column("reference_PD"), column("values_PD")
    scores = torch.tensor(np.concatenate([g.rewards_P for g in given]))
    rewards = -given[0].kl_coef * (logprobs - ref)
    rewards[:, -1] += scores
    lastgaelam, advantages_reversed = 0, []
    for t in reversed(range(width)):
        nextvalues = values[:, t + 1] if t < width - 1 else 0.0
        delta = rewards[:, t] + objective.gamma * nextvalues - values[:, t]
        lastgaelam = delta + objective.gamma * objective.lam * lastgaelam
        advantages_reversed.append(lastgaelam)
    advantages = torch.stack(advantages_reversed[::-1], dim=1)  # type: ignore[arg-type]
    returns = advantages + values
    advantages = (advantages - advantages.mean()) * torch.rsqrt(advantages.var() + 1e-8)
    ids = torch.tensor([[*p, *a] for p, a in rows])
    hidden = one.model.model(ids).last_hidden_state  # type: ignore[operator]
    logits = one.model.get_output_embeddings()(hidden)[:, start - 1 : -1]  # type: ignore[operator]
    new = logits.log_softmax(-1).gather(-1, ids[:, start:, None])[..., 0]
    vpred = one.model.get_submodule(VALUE_HEAD)(hidden)[:, start - 1 : -1, 0]
    vpredclipped = torch.clamp(vpred, values - objective.clip_value, values + objective.clip_value)
    vf_loss_max = torch.max(torch.square(vpred - returns), torch.square(vpredclipped - returns))
    ratio = torch.exp(new - logprobs)
    pg_losses = -advantages * ratio
    pg_losses2 = -advantages * torch.clamp(ratio, 1.0 - objective.clip, 1.0 + objective.clip)
    return torch.max(pg_losses, pg_losses2).mean() + objective.value_coef * 0.5 * vf_loss_max.mean()


@pytest.mark.parametrize("kl_coef", [0.0, 0.5])
def test_loss_and_gradient_are_trls(kl_coef: float) -> None:
    """To 1e-6, of the policy and of the critic; at these clips some tokens and values are stopped
    and others are not."""
    one, given = scorer(), groups(kl_coef)
    objective = PPO(clip=0.1, clip_value=0.1, value_coef=0.5, gamma=0.98, lam=0.9)
    trees = objective.of_round(given)
    loss, expected = of(one, objective, trees), trl(one, given, objective)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    ours, theirs = gradient(one, loss), gradient(one, expected)
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
    (batch,) = one.batches(trees)
    told = objective.metrics(with_reference(one.score(batch, values=True), batch, trees, objective))
    assert 0 < told["clip_share"].item() / 12 < 1
    assert told["value_loss"].item() > 0


def test_the_shared_prompts_gradient_is_that_of_separate_rows() -> None:
    objective = PPO()
    trees = objective.of_round(groups())
    dense, padded = scorer(), scorer("padded")
    first, second = (gradient(one, of(one, objective, trees)) for one in (dense, padded))
    assert (first - second).norm() <= 1e-6 * second.norm()


def test_answers_of_unlike_lengths_keep_their_own_tokens() -> None:
    """Each is rewarded at its own last token; nothing is learned beside the answers."""
    tree = Tree.fork(PROMPTS[0], [[7, 8, 2], [7, 2]])
    ((logp, values),) = scorer().evaluate_values([tree])
    given = Group(tree, np.array([1.0, 0.0]), logp, logp, 0.1, values)
    (learned,) = PPO(lam=1.0).of_round([given])
    assert learned.sampled is not None and learned.sampled.critic is not None
    returns = learned.sampled.critic.return_PD
    assert returns[:, 5:] == pytest.approx(np.array([[1, 1, 1], [0, 0, 0]]))  # λ = 1: what came
    assert PPO().normalizer(learned) == 5


def test_an_empty_batch_has_a_loss() -> None:
    one = scorer()
    branches = one.score(one.empty(), values=True)
    assert PPO().loss(branches).item() == 0
    assert set(PPO().metrics(branches)) == {"ratio", "clip_share", "value_loss"}


# The critic beside an update.


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_a_critic_is_no_part_of_what_is_merged_or_given_away(tmp_path: Path, name: str) -> None:
    update = moved(torch.float32, **UPDATES[name])
    ids = torch.tensor([[5, 6, 7]])
    wanted = update.model(ids).logits
    assert sum(VALUE_HEAD in n for n, _ in update.parameters()) == 1
    if update.capabilities.mergeable:
        merged = update.merged()
        assert not any(VALUE_HEAD in n for n in merged.state_dict())
        assert torch.allclose(merged(ids).logits, wanted, atol=1e-4)
    update.save(tmp_path / "kept")
    again = updates.from_folder(tmp_path / "kept")
    again.attach(tiny("llama", torch.float32))
    again.load(tmp_path / "kept")
    for (one, mine), (other, theirs) in zip(update.parameters(), again.parameters(), strict=True):
        assert one == other and torch.equal(mine, theirs)
    with update.disabled():
        assert torch.equal(update.model(ids).logits, tiny("llama", torch.float32)(ids).logits)
    alone = again.alone()
    alone.save(tmp_path / "given")
    assert not (tmp_path / "given" / "value_head.safetensors").exists()
    assert "critic" not in updates.about(tmp_path / "given")["settings"]
    assert torch.equal(alone.model(ids).logits, wanted)


@pytest.mark.parametrize(
    "settings",
    [{"name": "probe"}, {"name": "prefix", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}],
)
def test_an_update_that_cannot_carry_one_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"update={settings['name']} cannot carry a value head"):
        updates.build({**settings, "critic": 1.0})


def test_advantages_are_whitened_over_all_groups_of_a_round() -> None:
    trees = PPO().of_round(groups())
    found = [tree.sampled.critic.advantage_PD[:, 5:] for tree in trees]  # type: ignore[union-attr]
    assert np.mean(found) == pytest.approx(0, abs=1e-12)
    assert np.var(found, ddof=1) == pytest.approx(1, abs=1e-6)
    assert all(abs(one.mean()) > 0.01 for one in found)  # not of each by itself
