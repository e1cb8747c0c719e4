"""The group `control`: what is composed, refused by name, and left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.commands.run_params import params, run_name, tags
from myosotis.config import check, compose, config_hash, instantiate
from myosotis.config.compose import options
from myosotis.utils.errors import ConfigError

ALL = ["ewc", "kl", "kl_task", "l2sp", "orthogonal", "replay", "self_replay", "unfreeze"]


def test_one_or_several_each_with_keys_of_its_own() -> None:
    assert options("control") == sorted([*ALL, "none"])
    cfg = compose([f"control=[{','.join(ALL)}]", "control.replay.ratio=0.05"])
    check(cfg)
    controls = instantiate.controls(cfg)
    assert list(controls) == ALL and all(one.active and one.extra.said for one in controls.values())
    assert vars(controls["replay"]) == {"ratio": 0.05, "texts": "prose", "tokens": 128}
    assert instantiate.controls(compose([])) == {}


@pytest.mark.parametrize("method", ["full", "lora", "adapter", "prefix", "prompt", "ia3", "vera"])
def test_replay_and_kl_serve_every_update_of_the_language_model(method: str) -> None:
    check(compose([f"method={method}", "control=[replay,self_replay,kl,kl_task]"]))


@pytest.mark.parametrize("method", ["dpo", "orpo", "reward"])
def test_and_every_objective(method: str) -> None:
    check(compose([f"method={method}", "control=[replay,kl,l2sp,ewc,orthogonal,unfreeze]"]))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("control=replay control.replay.ratio=1", r"control\.replay\.ratio=1 .*range.*below 1"),
        ("control=replay control.replay.ratio=-0.1", "out of range"),
        ("control=replay control.replay.ratio=much", "takes a number, not 'much'"),
        ("control=self_replay control.self_replay.items=2.5", "takes a whole number"),
        ("control=replay control.replay.texts=wiki", "Did you mean wikipedia"),
        ("control=replay retention.items=null", "every passage of it is measured"),
        ("control=kl control.kl.coef=-1", "at least 0"),
        ("control=kl control.kl.direction=both", "forward, reverse"),
        ("control=kl_task control.kl_task.share=2", "at most 1"),
        ("control=kl_task method=reward", "scores no text of the task"),
        ("control=replay method=probe", "trains a classifier"),
        ("control=ewc control.ewc.texts=null", "needs reference data"),
        ("control=ewc method=qlora", "in four bits"),
        ("control=orthogonal method=qlora", "in four bits"),
        ("control=l2sp method=prefix", "virtual tokens are no change of the weights"),
        ("control=l2sp method=adapter", "no change of existing weights"),
        ("control=l2sp update.use_dora=true", "DoRA"),
        ("control=l2sp update=oft", "not at hand as a formula"),
        ("control=unfreeze method=prefix", "virtual tokens stand before the whole model"),
        ("optimizer.layer_decay=0.9 method=prompt", "virtual tokens stand before"),
        ("optimizer.layer_decay=1.5", "above 0 and at most 1"),
        ("control=replay +control.replay.nope=1", "no key 'nope'"),
        ("+control.mine=3", "must name a class"),
        ("control=replay control.replay._target_=torch.nn.Linear", "is not a .*Control"),
    ],
)
def test_what_means_nothing_is_refused_by_name(overrides: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        check(compose(overrides.split()))


def test_hints_are_true() -> None:
    """What a refusal proposes is not refused."""
    check(compose(["control=l2sp", "method=qlora"]))
    check(compose(["control=replay", "retention.items=200"]))
    check(compose(["control=ewc", "control.ewc.texts=prose"]))
    check(compose(["method=prompt", "optimizer.layer_decay=1"]))


def test_a_run_is_named_filed_and_hashed_by_its_controls(tmp_path: Path) -> None:
    texts = tmp_path / "own.txt"
    texts.write_text("a text")
    words = ["control=[replay,kl]", f"control.replay.texts={texts}"]
    cfg = compose(words)
    assert run_name(cfg) == "lora-r16-replay-kl-lr5e-4-docstrings-s0"
    assert tags(cfg, "abc")["control"] == "replay+kl"
    found = params(cfg)
    assert found["control.replay.ratio"] == 0.01 and found["control.kl.share"] == 0.1
    assert found["control.replay.texts"] == "own.txt"
    before = config_hash(cfg)
    assert before != config_hash(compose([])) != config_hash(compose(["control=kl"]))
    (tmp_path / "same.txt").write_text("a text")
    moved = compose(["control=[replay,kl]", f"control.replay.texts={tmp_path / 'same.txt'}"])
    assert config_hash(moved) == before  # by what is in the file
