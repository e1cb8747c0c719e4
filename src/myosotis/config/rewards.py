"""The group `reward`: what could reward nothing, refused before any weights load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from myosotis.config.controls import require_numbers
from myosotis.config.targets import bound, refuse_elsewhere
from myosotis.utils.errors import ConfigError

if TYPE_CHECKING:
    from myosotis.data.kinds import TaskKind
    from myosotis.objectives import Objective
    from myosotis.rewards import Reward

CHOOSE = (
    "Choose one: reward=json, length, exact, numeric, overlap, code, judge, or reward=model "
    "reward.model.run=RUN; several: 'reward=[json,length]'."
)


def check_rewards(
    cfg: DictConfig, values: dict[str, Any], objective: Objective, kind: type[TaskKind]
) -> None:
    """Each reward is held against its class; and who needs one has one."""
    from myosotis.data.kinds import PASS_AT_K, REWARDED, SAMPLED
    from myosotis.objectives import samples
    from myosotis.rewards import Reward

    entries = values.get("reward") or {}  # absent from a run of before there was the group
    made = list[Reward]()
    for name, settings in entries.items():
        key = f"reward.{name}"
        if not isinstance(settings, dict):
            raise ConfigError(f"{key} must name a class with _target_.", CHOOSE)
        make, words = bound(settings, Reward, key)
        refuse_elsewhere(words, key)
        require_numbers(make, words, key)
        made.append(make(**words))
    policy = samples(objective)
    if policy and not any(one.weight for one in made):
        what = "every reward has weight 0" if made else "none is chosen"
        raise ConfigError(
            f"objective={cfg.objective.name} learns from a reward, and {what}.", CHOOSE
        )
    asked = [cfg.task.metric, *cfg.task.metrics]
    if needing := [name for name in asked if name in REWARDED]:
        if not made:
            raise ConfigError(f"task.metric={needing[0]} needs a reward: none is chosen.", CHOOSE)
        if PASS_AT_K in needing:
            _right_or_wrong(entries, made)
        if cfg.task.k > cfg.task.samples and any(name in SAMPLED for name in needing):
            raise ConfigError(
                f"task.k={cfg.task.k} of task.samples={cfg.task.samples} answers cannot be taken.",
                f"Add task.samples={2 * cfg.task.k}.",
            )
    if made and not kind.is_text:
        raise ConfigError(
            f"reward={'+'.join(entries)} is given to written answers, and objective="
            f"{cfg.objective.name} with update={cfg['update'].name} writes none.",
            "Add reward=none.",
        )
    if policy:
        _policy(cfg)


def _right_or_wrong(names: Iterable[str], made: Sequence[Reward]) -> None:
    """pass@k counts answers that are right."""
    for name, one in zip(names, made, strict=True):
        if one.weight and not one.right_or_wrong:
            raise ConfigError(
                f"task.metric=pass_at_k counts right answers, and reward={name} calls none right.",
                "reward=code, exact, numeric or json do.",
            )


def _policy(cfg: DictConfig) -> None:
    """What sampling cannot do."""
    if cfg.trainer.devices not in (1, "1") or cfg.trainer.strategy != "auto":
        raise ConfigError(
            f"objective={cfg.objective.name} samples its answers on one device: a round that is "
            "resumed must be the same, and only the first device's answers are kept.",
            "Add trainer.devices=1 trainer.strategy=auto.",
        )
    if not cfg.task.generate:
        raise ConfigError(
            f"objective={cfg.objective.name} is measured on the answers it gives to held-out "
            "prompts, but task.generate=0.",
            "Add task.generate=64.",
        )
