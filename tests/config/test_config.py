"""The configuration: composed, checked, hashed; every key read somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hydra.types import RunMode
from omegaconf import OmegaConf

from myosotis.config import check, compose, config_hash, learning_rate, model_named
from myosotis.config.compose import hydra_on, options
from myosotis.config.default_lr import RATES
from myosotis.config.schema import Config, sentences
from myosotis.config.validate import _data
from myosotis.utils.device import num_devices
from myosotis.utils.did_you_mean import did_you_mean, near
from myosotis.utils.errors import ConfigError

POLICIES = ("grpo", "rloo", "ppo", "online_dpo")
FROM_FILES = ("jsonl", "pairs", "graded")

SRC = Path(__file__).parents[2] / "src" / "myosotis"


# The schema.


def test_every_key_has_a_sentence() -> None:
    said = sentences(Config)
    assert len(said) > 40
    short = {key: text for key, text in said.items() if len(text) < 10}
    assert not short


def test_every_key_is_read_somewhere() -> None:
    """No dead knobs: each key of a group with a schema is named, as `group.key`, in the code."""
    code = (
        "\n".join(
            path.read_text()
            for path in SRC.rglob("*.py")
            if path.parent.name != "cli"
            and path.name not in ("schema.py", "checks.py", "identity.py")
        )
        + (SRC / "cli" / "hydra_app.py").read_text()
    )
    # Handed over whole, as keywords: checked against the signature by the receiver's own types.
    whole = {"model"}
    dead = [
        key
        for key in sentences(Config)
        if key.partition(".")[0] not in whole and not re.search(rf"\b{re.escape(key)}\b", code)
    ]
    assert not dead, f"nothing reads {dead}"


def test_model_keys_are_those_of_its_source() -> None:
    from dataclasses import fields

    from myosotis.models.load import ModelSource

    keys = {key.partition(".")[2] for key in sentences(Config) if key.startswith("model.")}
    assert keys == {field.name for field in fields(ModelSource)} | {"start"}


# Composition.


def test_presets_choose_update_and_objective() -> None:
    for name in ("full", "lora"):
        cfg = compose([f"method={name}"])
        assert (cfg["update"].name, cfg.objective.name) == (name, "sft")


def test_command_line_wins_over_preset() -> None:
    assert compose(["method=lora", "update=full"])["update"].name == "full"


def test_own_config_folder(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert compose(["experiment=mine"], config_dir=str(tmp_path)).seed == 7
    with pytest.raises(ConfigError, match="does not exist"):
        compose([], config_dir=str(tmp_path / "none"))


def test_composing_leaves_hydra_as_it_was() -> None:
    from hydra.core.global_hydra import GlobalHydra

    compose([])
    assert not GlobalHydra.instance().is_initialized()


def test_model_named(tmp_path: Path) -> None:
    assert model_named("smollm2-135m").kind == "wheel"
    assert model_named(str(tmp_path)).path == str(tmp_path)
    assert (model_named("owner/name").kind, model_named("owner/name").id) == ("hub", "owner/name")


# The check.


def test_defaults_pass() -> None:
    assert check(compose([])) == []
    assert check(compose(["method=full"])) == []


SPREAD = ["trainer.strategy=fsdp2", "trainer.devices=2"]

REFUSED = [
    (["++trainer.max_step=3"], "no key 'trainer.max_step'", "max_steps"),
    (["+traner=3"], "no key 'traner'", "trainer"),
    (["+data.batchsize=3"], "data has no key 'batchsize'", "batch_size"),
    (["model=hub"], "model.id is needed", "model.id=VALUE"),
    (["optimizer.lr=${nope}"], "nope", ""),
    (["optimizer.lr=0"], "optimizer.lr=0 is out of range", "above 0"),
    (["optimizer.lr=high"], "optimizer.lr takes a number", ""),
    (["optimizer._target_=torch.optim.AdamV"], "has no 'AdamV'", "Adam"),
    (["+optimizer.moment=0.9"], "optimizer has no key 'moment'", "betas"),
    (["optimizer.betas=[2,3]"], "Invalid beta", ""),
    (["update.r=0"], "update.r=0", ""),
    (["+update.rank=0"], "update.rank", "r"),
    (["+objective.beta=0.1"], "objective has no key 'beta'", "label_smoothing"),
    (["objective.label_smoothing=2"], "label_smoothing is 2", ""),
    (["data.batch_size=0"], "data.batch_size=0 is out of range", "at least 1"),
    (["data.overlong=cut"], "data.overlong cannot be 'cut'", "truncate"),
    (["schedule.name=cosin"], "schedule.name cannot be 'cosin'", "Did you mean cosine?"),
    (["trainer.precision=fp32"], "trainer.precision cannot be 'fp32'", "32-true"),
    (["trainer.accelerator=tpus"], "trainer.accelerator cannot be", "cuda"),
    (["trainer.max_steps=0"], "trainer.max_steps=0 is out of range", "at least 1"),
    (
        ["trainer.val_every=0"],
        "trainer.val_every=0 is neither a number of steps nor",
        "null for never",
    ),
    (["retention.every=often"], "retention.every=often is neither a number of steps nor", "10%"),
    (["retention.every=200%"], "retention.every=200% is neither a number of steps nor", ""),
    (["retention.budget=5"], "retention.budget=5 is out of range", "between 0 and 1"),
    (["retention.budget=little"], "retention.budget takes a number", ""),
    (["retention.budget={hellaswag: 2}"], "retention.budget.hellaswag=2 is out of range", ""),
    (["retention.budget={helaswag: 0.1}"], "retention.budget cannot be 'helaswag'", "hellaswag"),
    (["retention.patience=0"], "retention.patience=0 is out of range", "at least 1"),
    (["retention.on_breach=rollback", "retention.every=null"], "needs evaluations", "every"),
    (["retention.patience=2", "retention=none"], "needs evaluations", "suite"),
    (["retention.accept=slipped"], "retention.accept cannot be", "not_forgotten"),
    (["retention.on_breach=halt"], "retention.on_breach cannot be", "stop"),
    (["retention.suite=[piqa,piqa]"], "names 'piqa' twice", ""),
    (["retention.suite=[]", "retention.gate=true"], "needs a verdict", "retention.suite"),
    (["retention.dial=[3]"], "retention.dial=3 is out of range", "0 to 2"),
    (["sweep.objectives=[quallity]"], "sweep.objectives cannot be", "quality"),
    (["sweep.objectives=[]"], "sweep.objectives is empty", "forgetting"),
    (["task.metric=chrf", "task.generate=0"], "task.generate=0", ""),
    (["method=full", "trainer.precision=bf16-true"], "lose small updates", "bf16-mixed"),
    (["trainer.strategy=fsdp"], "trainer.strategy=fsdp is not supported", "adamw8bit"),
    (["trainer.strategy=deepspeed_stage_3"], "is not supported", "auto, ddp, fsdp2"),
    (["trainer.strategy=bogus"], "trainer.strategy=bogus is not supported", "auto, ddp, fsdp2"),
    (["trainer.strategy=fsdp2"], "does not go with one device", "trainer.devices=4"),
    (
        ["trainer.strategy=fsdp2", "trainer.devices=auto", "trainer.accelerator=cpu"],
        "does not go with one device",
        "trainer.devices=4",
    ),
    (["trainer.devices=two"], "trainer.devices=two is no number of devices", "auto takes all"),
    (["trainer.devices='0,1'"], "trainer.devices=0,1 is no number", "CUDA_VISIBLE_DEVICES"),
    (["trainer.devices=0"], "trainer.devices=0 is no number", "trainer.devices=2"),
    (["trainer.devices=-3"], "trainer.devices=-3 is no number", "trainer.devices=2"),
    (["trainer.accelerator=gpu"], "but torch finds no GPU here", "accelerator=auto"),
    (["trainer.accelerator=cuda"], "but torch finds no CUDA device here", "accelerator=auto"),
    (["trainer.accelerator=mps"], "but torch finds no Apple GPU here", "accelerator=auto"),
    ([*SPREAD, "method=qlora"], "does not go with update=qlora", "update=full and update=lora"),
    ([*SPREAD, "update.quantization=nf4"], "with update.quantization=nf4", "ddp"),
    ([*SPREAD, "method=ia3"], "does not go with update=ia3", "update=full and update=lora"),
    ([*SPREAD, "optimizer=adafactor"], "torch.optim.Adafactor, which needs whole", "adamw"),
    ([*SPREAD, "control=l2sp"], "does not go with control=l2sp", "control=none"),
    ([*SPREAD, "method=reward"], "does not go with objective=reward", "ddp"),
    (["+callbacks.a={_target_: lightning.pytorch.Trainer}"], "is not a", ""),
    (["+callbacks.a=3"], "callbacks.a must name a class", ""),
    (["+schedule.then={_target_: os.system}"], "no key 'schedule.then'", ""),
    (
        ["+callbacks.a={_target_: lightning.pytorch.callbacks.Timer, _partial_: true}"],
        "_partial_",
        "",
    ),
]


@pytest.mark.parametrize(("overrides", "message", "hint"), REFUSED, ids=lambda v: str(v)[:40])
def test_refused_with_reason(
    overrides: list[str], message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError) as caught:
        check(compose(overrides))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_devices_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one GPU; what is planned for another machine, and what is left to read, is not refused."""
    two = compose(["trainer.devices=2"])
    check(two)  # of a CPU, processes
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="but 1 GPU is here") as caught:
        check(two)
    assert "trainer.devices=1" in caught.value.hint
    check(two, here=False)
    check(compose(["trainer.devices=2", "trainer.accelerator=cpu"]))
    every = ["trainer.devices=auto", "trainer.accelerator=gpu"]
    check(compose(every))
    with pytest.raises(ConfigError, match="does not go with one device"):
        check(compose([*every, "trainer.strategy=fsdp2"]))
    with pytest.raises(ConfigError, match="devices=auto of another machine"):
        check(compose([*every, "trainer.strategy=fsdp2"]), here=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check(compose([*every, "trainer.strategy=fsdp2"]))
    assert [num_devices("gpu", n) for n in ("auto", -1, "-1", 3, "3")] == [4, 4, 4, 3, 3]
    assert num_devices("cpu", "auto") == 1


def test_an_apple_gpu_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    check(compose(["trainer.accelerator=gpu"]))
    with pytest.raises(ConfigError, match="but 1 GPU is here"):
        check(compose(["trainer.devices=2"]))
    with pytest.raises(ConfigError, match="is not for an Apple GPU"):
        check(compose(["trainer.strategy=ddp"]))
    check(compose(["trainer.strategy=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]))
    with pytest.raises(ConfigError, match="no CUDA device"):
        check(compose(["trainer.accelerator=cuda"]))


@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "torch.hub.load", "torch.load", "builtins.eval"],
)
@pytest.mark.parametrize("group", ["optimizer", "objective", "data.source"])
def test_config_cannot_name_any_code(group: str, target: str) -> None:
    with pytest.raises(ConfigError):
        check(compose([f"{group}._target_={target}"]))


def test_nested_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no place here"):
        check(compose(["+data.template={_target_: os.system}"]))


def test_own_package_is_trusted_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "minebox.py").write_text("import torch\nclass Mine(torch.optim.SGD): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ["optimizer._target_=minebox.Mine", "~optimizer.betas", "~optimizer.eps"]
    with pytest.raises(ConfigError, match="not trusted"):
        check(compose(overrides))
    monkeypatch.setenv("MYOSOTIS_TRUSTED", "minebox")
    assert check(compose(overrides)) == []


def test_own_callback_is_made() -> None:
    from lightning.pytorch.callbacks import EarlyStopping

    from myosotis.config import instantiate

    words = "{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss}"
    cfg = compose([f"+callbacks.stop={words}"])
    check(cfg)
    (made,) = instantiate.callbacks(cfg)
    assert isinstance(made, EarlyStopping)
    assert made.monitor == "val/loss"


def test_missing_data_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(ConfigError, match="there is no data file") as caught:
        check(compose(["data=jsonl", f"data.path={tmp_path}/trian.jsonl"]))
    assert "train.jsonl" in caught.value.hint


# Learning rates.


def test_default_rate_belongs_to_the_pair() -> None:
    lora, full = learning_rate(compose([])), learning_rate(compose(["update=full"]))
    assert lora.value == 10 * full.value  # LoRA Without Regret 2025
    assert "lora with sft" in lora.origin
    assert learning_rate(compose(["optimizer.lr=1e-4"])).origin == "given"


def test_rate_far_outside_the_usual_range_warns() -> None:
    assert "above" in learning_rate(compose(["optimizer.lr=0.1"])).warning
    assert "below" in learning_rate(compose(["optimizer.lr=1e-9"])).warning
    (warning,) = check(compose(["optimizer.lr=0.1"]))
    assert "lora with sft" in warning


def test_unknown_pair_needs_a_rate() -> None:
    with pytest.raises(ConfigError, match="no default learning rate"):
        learning_rate(compose(["objective.name=mine"]))
    assert learning_rate(compose(["objective.name=mine", "optimizer.lr=1e-4"])).warning == ""


def test_defaults_lie_in_their_own_range() -> None:
    assert all(rate.low <= rate.value <= rate.high for rate in RATES.values())


# The hash.

WITHOUT_EFFECT = [
    "out=elsewhere",
    "tracking=none",
    "tracking.run_name=mine",
    "logger=[csv,mlflow]",
    "trainer.rows_at_once=3",
    "trainer.num_threads=1",
    "trainer.devices=2",
    "retention.gate=true",
    "optimizer.lr=5e-4",  # the default, written out
]
WITH_EFFECT = [
    "seed=1",
    "update.r=4",
    "optimizer.lr=1e-4",
    "trainer.max_steps=3",
    "data.batch_size=4",
    "retention.items=50",
    "retention.seed=1",
    "schedule=linear",
    "objective.label_smoothing=0.1",
]


@pytest.mark.parametrize("override", WITHOUT_EFFECT)
def test_hash_leaves_out_what_has_no_effect(override: str) -> None:
    assert config_hash(compose([override])) == config_hash(compose([]))


def test_hash_changes_with_everything_else() -> None:
    hashes = {config_hash(compose([override])) for override in WITH_EFFECT}
    assert len(hashes) == len(WITH_EFFECT)
    assert config_hash(compose([])) not in hashes


def test_hash_knows_files_by_content(tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    a, b, c = (
        config_hash(compose(["data=jsonl", f"data.path={tmp_path / name}"])) for name in "abc"
    )
    assert a == b != c


def test_hash_holds_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    import myosotis

    before = config_hash(compose([]))
    monkeypatch.setattr(myosotis, "__version__", "99")
    assert config_hash(compose([])) != before


def test_hashing_leaves_the_config_alone() -> None:
    cfg = compose([])
    before = OmegaConf.to_yaml(cfg)
    config_hash(cfg)
    assert OmegaConf.to_yaml(cfg) == before


# Near matches.


def test_near() -> None:
    known = ["hellaswag", "arc_easy", "piqa", "r"]
    assert near("helaswag", known) == ["hellaswag"]
    assert near("hella", known) == ["hellaswag"]
    assert near("rrrrr", known) == []
    assert did_you_mean("picqa", known) == "Did you mean piqa?"
    assert did_you_mean("zzz", known) == "Known: arc_easy, hellaswag, piqa, r."


@pytest.mark.parametrize("name", ["61654515e1", "007", "1_000", "12.5", "last", "2026-11-22/run"])
def test_a_run_is_named_by_text_even_where_it_looks_like_a_number(name: str) -> None:
    cfg = compose([f"resume={name}", f"model.start={name}", "seed=1"])
    assert (cfg.resume, cfg.model.start, cfg.seed) == (name, name, 1)


def test_a_configuration_that_was_recorded_has_the_hash_of_the_one_it_came_from(
    tmp_path: Path,
) -> None:
    """`data.source.path` refers to `data.path` in the one and is a path in the other."""
    from myosotis.config.recorded import recorded

    (tmp_path / "mine.jsonl").write_text("{}\n")
    cfg = compose(["data=jsonl", f"data.path={tmp_path / 'mine.jsonl'}", "out=a"])
    assert config_hash(OmegaConf.create(recorded(cfg))) == config_hash(cfg)


def test_the_hash_follows_what_lies_in_sources_and_in_a_template(tmp_path: Path) -> None:
    from myosotis.config.recorded import recorded

    source, template = tmp_path / "a.jsonl", tmp_path / "mine.jinja"
    words = ["data=jsonl", f"data.sources=[{{path: {source}}}]", f"data.template={template}"]
    source.write_text("{}\n")
    template.write_text("one")
    cfg = compose([*words, "out=a"])
    first = config_hash(cfg)
    assert config_hash(OmegaConf.create(recorded(cfg))) == first
    source.write_text("{} \n")
    second = config_hash(cfg)
    template.write_text("two")
    assert len({first, second, config_hash(cfg)}) == 3


def test_every_experiment_with_every_data_set_and_every_method(tmp_path: Path) -> None:
    """All pairs of the three occur, in one composition for each experiment and method. A data set
    of one's own that has keys of its own is no data set of ours, and composes as well."""
    (tmp_path / "data").mkdir()
    keys = ("train_items", "val_items", "test_items", "split_seed")
    own = {
        "defaults": ["common/steps@_here_"],
        "name": "mine",
        "train_items": None,
        "source": {"_target_": "myosotis.data.sources.files", "path": "mine.jsonl"}
        | {key: f"${{..{key}}}" for key in keys},
    }
    (tmp_path / "data" / "mine.yaml").write_text(json.dumps(own))
    here, lines = str(tmp_path), tmp_path / "mine.jsonl"
    lines.write_text("{}\n")
    experiments, methods = options("experiment", here), options("method", here)
    data = options("data", here)
    assert (len(experiments), len(methods), len(data)) == (6, 18, 6)
    seen = set()
    with hydra_on(here) as hydra:
        for i, experiment in enumerate(experiments):
            for k, method in enumerate(methods):
                chosen = data[(i + k) % len(data)]
                words = [f"experiment={experiment}", f"method={method}", f"data={chosen}"]
                words += [f"data.path={lines}"] * (chosen in FROM_FILES)
                words += ["reward=length"] * (method in POLICIES)
                cfg = hydra.compose_config(
                    config_name="train", overrides=words, run_mode=RunMode.RUN, from_shell=True,
                    with_log_configuration=False,
                )  # fmt: skip
                values = OmegaConf.to_container(cfg.data, resolve=True)
                _data(cast("dict[str, Any]", values))
                if chosen != "mine":
                    del cast("Any", cfg).hydra
                    check(cfg)
                seen |= {(experiment, chosen), (method, chosen), (experiment, method)}
    assert len(seen) == 6 * 6 + 18 * 6 + 6 * 18
