"""The group `logger`: what is composed, refused, built, and how MLflow follows from it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig, OmegaConf

from myosotis.config import check, compose, instantiate
from myosotis.config.compose import options
from myosotis.utils.errors import ConfigError


def composed(out: Path, *overrides: str) -> DictConfig:
    return compose([f"out={out}", *overrides])


def test_the_options() -> None:
    assert options("logger") == ["csv", "mlflow", "none", "tensorboard", "wandb"]


@pytest.mark.parametrize(
    ("overrides", "mlflow"),
    [
        ([], True),
        (["logger=[mlflow,csv]"], True),
        (["logger=[csv,mlflow]"], True),
        (["logger=csv"], False),
        (["logger=none"], False),
        (["tracking=none"], False),
        (["tracking=none", "logger=[mlflow,csv]"], False),
        (["tracking.enabled=false"], False),
    ],
)
def test_mlflow_is_used_where_it_is_a_logger_and_tracking_is_not_off(
    overrides: list[str], mlflow: bool, tmp_path: Path
) -> None:
    cfg = composed(tmp_path, *overrides)
    assert cfg.tracking.enabled is mlflow
    plain = instantiate.plain(cfg)  # what a run keeps as its config.yaml
    assert plain["tracking"]["enabled"] is mlflow


def test_several_are_built_in_their_order(tmp_path: Path) -> None:
    second = [
        "+logger.second._target_=lightning.pytorch.loggers.CSVLogger",
        "+logger.second.save_dir=elsewhere",
    ]
    cfg = composed(tmp_path, "logger=[mlflow,csv]", *second)
    check(cfg)
    first, other = instantiate.loggers(cfg, lambda _: {})
    assert isinstance(first, CSVLogger) and isinstance(other, CSVLogger)
    assert first.log_dir == str(tmp_path / "csv" / "version_0")
    assert other.log_dir == "elsewhere/lightning_logs/version_0"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["logger=csv", "+logger.csv.flush=1"], "logger.csv has no key 'flush'"),
        (["logger=csv", "logger.csv._target_=torch.nn.Linear"], "is not a .*Logger"),
        (["logger=csv", "logger.csv._target_=os.path.X"], "'os' is not trusted"),
        (["+logger.mine=3"], "logger.mine must name a class"),
        (["+logger.mlflow.uri=x"], r"logger\.mlflow\.uri has no place here"),
        (["logger.mlflow._target_=lightning.pytorch.loggers.CSVLogger"], "needs the key"),
    ],
)
def test_what_is_no_logger_is_refused(overrides: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        check(composed(tmp_path, *overrides))


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_missing_package_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def absent(module: str, *rest: Any) -> Any:
        return None if module in ("wandb", "tensorboard", "tensorboardX") else find(module, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(ConfigError, match=f"logger.{name} needs the package {name}") as caught:
        check(composed(tmp_path, f"logger=[mlflow,{name}]"))
    assert caught.value.hint == f"pip install 'myosotis[{name}]'"


def test_a_run_from_before_the_group_has_none(tmp_path: Path) -> None:
    saved = OmegaConf.create(instantiate.plain(composed(tmp_path)))
    assert isinstance(saved, DictConfig)
    del saved["logger"]
    check(saved)
    assert instantiate.loggers(saved, lambda _: {}) == []
