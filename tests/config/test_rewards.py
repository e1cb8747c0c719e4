"""The group `reward`, and the objectives that need one: composed, refused by name."""

from __future__ import annotations

import pytest

from myosotis.commands.run_params import params, run_name, tags
from myosotis.config import check, compose, instantiate
from myosotis.config.compose import options
from myosotis.objectives import samples
from myosotis.utils.errors import ConfigError

JUDGE = "method=grpo reward=judge reward.judge.url=http://127.0.0.1:9/v1 reward.judge.model=m"
RULES = ["exact", "json", "length", "numeric", "overlap"]


def test_one_or_several_each_with_keys_of_its_own() -> None:
    assert options("reward") == sorted([*RULES, "code", "judge", "model", "none"])
    cfg = compose([f"reward=[{','.join(RULES)}]", "reward.json.keys=[answer]"])
    check(cfg)
    rewards = instantiate.rewards(cfg)
    assert list(rewards) == RULES
    assert vars(rewards["json"]) == {"weight": 1.0, "keys": ["answer"]}
    assert instantiate.rewards(compose([])) == {}


@pytest.mark.parametrize("method", ["grpo", "rloo", "online_dpo"])
@pytest.mark.parametrize("update", ["lora", "full", "adapter", "prefix", "ia3", "qlora"])
def test_every_update_of_the_language_model_can_be_a_policy(method: str, update: str) -> None:
    cfg = compose([f"method={method}", f"update={update}", "reward=json"])
    check(cfg)
    assert samples(instantiate.objective(cfg))


@pytest.mark.parametrize("update", ["lora", "full", "adapter", "ia3", "vera", "qlora"])
def test_a_critic_stands_beside_every_update_that_can_carry_one(update: str) -> None:
    cfg = compose(["method=ppo", f"update={update}", "reward=json"])
    check(cfg)
    assert instantiate.update_settings(cfg)["critic"] == 10.0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("method=grpo", "learns from a reward, and none is chosen"),
        ("method=grpo reward=json reward.json.weight=0", "every reward has weight 0"),
        ("task.metric=reward", "needs a reward: none is chosen"),
        ("task.metrics=[pass_at_k]", "needs a reward: none is chosen"),
        ("task.metric=pass_at_k reward=model reward.model.run=x", "calls none right"),
        ("task.metric=pass_at_k reward=exact task.k=9", r"Add task\.samples=18"),
        ("task.metric=best_of_k reward=length task.k=9", r"Add task\.samples=18"),
        ("reward=code", "runs what a model writes"),
        ("reward=code reward.code.run=true reward.code.seconds=0", "1 or more"),
        ("method=reward reward=json", "given to written answers"),
        ("method=grpo reward=model", r"Add reward\.model\.run=RUN"),
        ("method=grpo reward=judge", r"reward\.judge\.url names none"),
        (f"{JUDGE} reward.judge.model=null", r"reward\.judge\.model names none"),
        (f"{JUDGE} reward.judge.url=file:///etc/passwd", "no http address"),
        (f"{JUDGE} reward.judge.url=http://me:word@host/v1", "a user or a password"),
        (f"{JUDGE} reward.judge.rubric=null", "rubric is a text, not None"),
        (f"{JUDGE} reward.judge.key_env=''", "key_env is a text"),
        (f"{JUDGE} reward.judge.reference=maybe", "true or false"),
        (f"{JUDGE} task.metric=pass_at_k", "reward=judge calls none right"),
        ("method=grpo reward=length reward.length.least=9 reward.length.most=3", "9 to 3 words"),
        ("method=grpo reward=length reward.length.most=few", "takes a whole number, not 'few'"),
        ("method=grpo reward=json reward.json.keys=answer", "a list of names"),
        ("method=grpo reward=numeric reward.numeric.tolerance=-1", "0 or more"),
        ("method=grpo reward=json trainer.devices=2", "samples its answers on one device"),
        ("method=grpo reward=json trainer.strategy=ddp", "samples its answers on one device"),
        ("method=grpo reward=json task.generate=0", r"Add task\.generate=16"),
        ("method=grpo reward=json objective.group_size=1", "2 or more"),
        ("method=grpo reward=json objective.iterations=0", "1 or more"),
        ("method=rloo reward=json objective.kl_coef=-1", "0 or more"),
        ("method=grpo reward=json objective.kl_target=0", "above 0"),
        ("method=grpo reward=json objective.kl_target=3 objective.kl_coef=0", "would stay 0"),
        ("method=grpo reward=json objective.clip=0", "above 0"),
        ("method=online_dpo reward=json objective.beta=0", "above 0"),
        ("method=ppo reward=json objective.lam=2", "from 0 to 1"),
        ("method=ppo reward=json objective.critic_lr_ratio=0", "above 0"),
        ("method=ppo reward=json update=prefix", "update=prefix cannot carry a value head"),
        ("method=ppo reward=json update=prompt", "update=prompt cannot carry a value head"),
        ("method=probe reward=json", "given to written answers"),
        ("+reward.mine._target_=os.system method=grpo", "is not trusted"),
        ("+reward.mine._target_=myosotis.objectives.sft.SFT method=grpo", "is not a"),
    ],
)
def test_what_could_reward_nothing_is_refused(overrides: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(compose(overrides.split()))
    import re

    assert re.search(said, f"{refused.value.message} {refused.value.hint or ''}"), refused.value


def test_a_run_is_known_by_its_rewards() -> None:
    cfg = compose(["method=grpo", "reward=[json,length]", "reward.length.weight=0"])
    assert "grpo-json-length" in run_name(cfg)
    assert tags(cfg, "abc")["reward"] == "json+length"
    assert tags(compose([]), "abc")["reward"] == "none"
    assert params(cfg)["reward.length.weight"] == 0


def test_what_a_policy_is_measured_by() -> None:
    """Its answers, as long as those that it learns from."""
    cfg = compose(["method=grpo", "reward=json", "objective.max_new_tokens=17"])
    assert cfg.task.metric == "reward" and cfg.task.max_new_tokens == 17
