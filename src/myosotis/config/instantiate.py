"""From checked config nodes to the plain arguments that the packages take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from myosotis.config.default_lr import learning_rate
from myosotis.config.targets import bound
from myosotis.utils.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers.logger import Logger

    from myosotis.controls import Control
    from myosotis.data.example import Dataset
    from myosotis.evaluation.text_scores import TextMetric
    from myosotis.models.load import ModelSource
    from myosotis.objectives import Objective
    from myosotis.retention.budget import Budget
    from myosotis.rewards import Reward


def plain(node: DictConfig) -> dict[str, Any]:
    """A config node, resolved, as a dictionary."""
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def model_source(cfg: DictConfig) -> ModelSource:
    """The `model` group."""
    return source(cfg.model)


def source(model: DictConfig) -> ModelSource:
    """What a `model` config loads; `start`, which is merged into it, is not part of that."""
    from myosotis.models.load import ModelSource

    return ModelSource(**{key: value for key, value in plain(model).items() if key != "start"})


def objective(cfg: DictConfig) -> Objective:
    """The `objective` group. Raises `ConfigError` for what `check` would refuse."""
    from myosotis.objectives import Objective

    make, words = bound(plain(cfg.objective), Objective, "objective")
    return make(**words)


def update_settings(cfg: DictConfig) -> dict[str, Any]:
    """The `update` group, with a value head or a critic where the objective needs one."""
    return with_heads(plain(cfg["update"]), objective(cfg))


def with_heads(settings: Mapping[str, Any], made: Objective) -> dict[str, Any]:
    """The settings of an update with the head that is trained beside it for an objective: the ratio
    of its learning rate."""
    from myosotis.objectives import needs_critic

    found = dict(settings)
    if made.needs_value_head:
        found["value_head"] = getattr(made, "head_lr_ratio", 1.0)
    if needs_critic(made):
        found["critic"] = getattr(made, "critic_lr_ratio", 1.0)
    return found


def optimizer(cfg: DictConfig) -> partial[torch.optim.Optimizer]:
    """The `optimizer` group as a function of the parameter groups, with the run's learning rate."""
    import torch

    settings = optimizer_settings(plain(cfg.optimizer))
    make, words = bound(settings, torch.optim.Optimizer, "optimizer", "params")
    return partial(make, **{**words, "lr": learning_rate(cfg).value})


def optimizer_settings(group: dict[str, Any]) -> dict[str, Any]:
    """What the optimiser's own class takes of its group: `layer_decay` makes parameter groups."""
    return {key: value for key, value in group.items() if key != "layer_decay"}


def controls(cfg: DictConfig) -> dict[str, Control]:
    """The `control` group, by name; nothing in a configuration from before there was one."""
    from myosotis.controls import Control

    made: dict[str, Control] = {}
    for name, settings in (plain(cfg).get("control") or {}).items():
        make, words = bound(settings, Control, f"control.{name}")
        made[name] = make(**words)
    return made


def rewards(cfg: DictConfig) -> dict[str, Reward]:
    """The `reward` group, by name; nothing in a configuration from before there was one."""
    from myosotis.rewards import Reward

    made: dict[str, Reward] = {}
    for name, settings in (plain(cfg).get("reward") or {}).items():
        make, words = bound(settings, Reward, f"reward.{name}")
        made[name] = make(**words)
    return made


def dataset(cfg: DictConfig) -> Dataset:
    """The examples that `data.source` gives. Raises `DataError` for a line that is wrong."""
    from myosotis.data.example import Dataset

    make, words = bound(plain(cfg.data.source), Dataset, "data.source")
    return make(**words)


def task_metrics(cfg: DictConfig) -> dict[str, TextMetric]:
    """The metrics of `task.own`, by name. Raises `ConfigError` for what is none."""
    from myosotis.evaluation.text_scores import TextMetric

    made: dict[str, TextMetric] = {}
    for name, settings in plain(cfg.task)["own"].items():
        if not isinstance(settings, dict):
            raise ConfigError(f"task.own.{name} must name a class with _target_.")
        make, words = bound(settings, TextMetric, f"task.own.{name}")
        made[name] = make(**words)
    return made


def budget(cfg: DictConfig) -> Budget:
    """`retention.budget` and what counts as inside it."""
    from myosotis.retention.budget import Budget

    return Budget.of(plain(cfg.retention)["budget"], cfg.retention.accept)


def loggers(cfg: DictConfig, identity: Callable[[Any], dict[str, Any]]) -> list[Logger]:
    """The loggers beside MLflow and the curves on disk, in the order of their names' appearance.

    `identity` gives the keywords that tell a class which run this is; those of the configuration
    win, where they are not null. Raises `ConfigError` for a logger whose package is missing.
    """
    from lightning.pytorch.loggers.logger import Logger

    made: list[Logger] = []
    for name, settings in own_loggers(plain(cfg)).items():
        make, words = bound(settings, Logger, f"logger.{name}")
        given = {key: value for key, value in words.items() if value is not None}
        try:
            made.append(make(**{**words, **identity(make), **given}))
        except ImportError as error:
            raise ConfigError(f"logger.{name}: {error}") from None
    return made


def own_loggers(values: dict[str, Any]) -> dict[str, Any]:
    """The entries of `logger` but MLflow's, whose settings stand in `tracking`; none in a
    configuration from before there was that group."""
    entries = values.get("logger") or {}
    return {name: settings for name, settings in entries.items() if name != "mlflow"}


def callbacks(cfg: DictConfig) -> list[Callback]:
    """The user's own Lightning callbacks, in the order of their names' appearance."""
    from lightning.pytorch import Callback

    classes = [
        bound(settings, Callback, f"callbacks.{name}")
        for name, settings in plain(cfg.callbacks).items()
    ]
    return [make(**words) for make, words in classes]
