"""What a run is called and searched by, from its configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from myosotis.commands.run_params import (
    DEFAULT_MODEL,
    OWN_FILES,
    data_name,
    params,
    resolved,
    run_name,
    shown,
    swept,
    tags,
)
from myosotis.config import compose
from myosotis.records.run_folder import SweepInfo

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "lora-r16-lr5e-4-docstrings-s0"),
        (["data=jsonl", "data.path=/a/mine.jsonl"], "lora-r16-lr5e-4-mine-s0"),
        (["data=jsonl", "data.path=a.jsonl", "data.name=our_mail"], "lora-r16-lr5e-4-our_mail-s0"),
        (["data=jsonl", "data.path='hub:owner/sst2'", "seed=3"], "lora-r16-lr5e-4-sst2-s3"),
        (["model=hub", "model.id=owner/Tiny-1.7B"], "lora-r16-lr5e-4-Tiny-1.7B-docstrings-s0"),
        (["model=local", "model.path=/a/my model/"], "lora-r16-lr5e-4-my_model-docstrings-s0"),
        (
            ["method=dpo", "data=pairs", "data.path=x.v2.parquet", "optimizer.lr=1.5e-4"],
            "lora-r16-dpo-beta0.1-lr1.5e-4-x.v2-s0",
        ),
    ],
)  # fmt: skip
def test_the_name_says_what_sets_a_run_apart(overrides: list[str], name: str) -> None:
    assert run_name(compose(overrides)) == name


def test_the_names_that_say_only_how_a_file_is_read_are_those_of_conf() -> None:
    files = [p.stem for p in CONF.glob("data/*.yaml") if "common/files@_here_" in p.read_text()]
    assert sorted(files) == sorted(OWN_FILES)
    assert compose([]).model.id == DEFAULT_MODEL


def test_params_and_tags_name_model_and_data_and_no_folder_of_this_machine() -> None:
    cfg = compose(["model=local", "model.path=/a/tiny", "data=jsonl", "data.path=/b/mine.jsonl"])
    words = params(cfg, ["update.r=4", "method=lora", "+trainer.val_every=5", "data.path=/b/c"])
    assert words["model.name"] == "tiny" and words["model.id"] is None
    assert (words["data.name"], words["data.file"]) == ("jsonl", "mine.jsonl")
    assert words["update.r"] == 16 and words["optimizer.lr"] == 5e-4 and words["seed"] == 0
    assert words["method"] == "lora" and words["trainer.val_every"] == "25%"
    assert not [key for key in words if "_target_" in key or "path" in key]
    assert not [value for value in words.values() if "/" in str(value)]
    assert tags(cfg, "abc", ["update.r=4", "seed=1"]) == {
        "method": "lora",
        "update": "lora",
        "objective": "sft",
        "model": "tiny",
        "data": "mine",
        "control": "none",
        "reward": "none",
        "seed": 0,
        "config_hash": "abc",
        "swept": "update.r=4 seed=1",
    }
    assert "swept" not in tags(cfg, "abc")


def test_what_was_swept_is_what_only_the_trial_was_told() -> None:
    command = ["myosotis", "sweep", "mine", "data.path=x", "seed=0"]
    sweep = SweepInfo("mine", command, "2026-01-01T00:00:00+00:00")
    own = ["hydra.mode=RUN", "update.r=2", "data.path=x", "seed=0", "out=y", "resume=y"]
    assert swept([*command[:3], *own], sweep) == ["update.r=2"]
    many = SweepInfo("m", ["myosotis", "train", "update.r=2,4", "seed=0"], "")
    assert swept(["myosotis", "train", "update.r=2", "seed=0"], many) == ["update.r=2"]
    assert swept(["myosotis", "train", "update.r=2"], None) == []


@pytest.mark.parametrize(
    ("uri", "recorded"),
    [
        ("http://me:p@ss/word@example.org:5000/x", "http://***@example.org:5000/x"),
        ("postgresql://me:secret@db/mlflow", "postgresql://***@db/mlflow"),
        ("postgresql://db/mlflow?user=me&password=secret", "postgresql://db/mlflow?user=me&password=***"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        (None, None),
    ],
)  # fmt: skip
def test_no_password_is_recorded(uri: Any, recorded: Any) -> None:
    cfg = compose([])
    cfg.tracking.uri = uri
    assert resolved(cfg)["tracking"]["uri"] == recorded
    assert cfg.tracking.uri == uri
    assert shown(["train", f"tracking.uri={uri}"]) == ["train", f"tracking.uri={recorded}"]


def test_the_data_is_called_by_its_own_name_where_it_has_one() -> None:
    assert data_name(compose(["data=docstring_pairs"])) == "docstring_pairs"
