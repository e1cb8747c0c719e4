"""Opening a finished run again, as it was trained, to measure more of it."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from myosotis.commands.components import Components
from myosotis.commands.find_model import config_of
from myosotis.commands.resume import replace_values
from myosotis.config import check
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.utils.errors import AssetError, ConfigError

CHANGEABLE = ("retention.", "task.items")
"""What may differ from the run: how retention is measured and judged. The rest made the weights."""


def finished_config(
    place: RunFolder, record: RunRecord, given: DictConfig, overrides: Sequence[str], command: str
) -> DictConfig:
    """The run's own, with what was given anew; refused here is what weights are not needed for.

    `command` is what opens it, for messages.
    """
    if record.status != "FINISHED":
        raise AssetError(
            f"The run {place.path} has no finished update (its status is {record.status}).",
            f"If it was stopped, `myosotis train resume={place.path}` finishes it.",
        )
    cfg, _ = config_of(place)
    if others := [o for o in overrides if not o.lstrip("+~").startswith(CHANGEABLE)]:
        raise ConfigError(
            f"{command} cannot change {others[0]}: it is part of what was trained.",
            "Only retention.… and task.items can differ from the run's.",
        )
    replace_values(cfg, given, overrides)
    OmegaConf.update(cfg, "retention.dial", [])
    OmegaConf.update(cfg, "out", str(place.path))  # where it keeps what it went on from
    check(cfg, here=False)  # wherever it was trained
    return cfg


def refuse_others(record: RunRecord, parts: Components) -> None:
    """Base and data must be those of the run: held-out examples of other data may be trained on."""
    if parts.base.content_hash != record.model.content_hash:
        raise ConfigError(
            f"{record.model.id} is no longer the model that the run was trained on.",
            "Its files have changed since; the base is needed as it was.",
        )
    if str(parts.data.dataset.manifest.get("hash", "")) != record.data.hash:
        raise ConfigError(
            f"data={record.data.name} is no longer what the run was trained on.",
            "Its files (for docstrings: the installed packages) have changed since.",
        )
    if not any(task.accuracy_like for task in parts.suite):
        raise ConfigError(
            "The run has no benchmark that a verdict can rest on.",
            "Name some, as in 'retention.suite=[hellaswag,arc_easy]'.",
        )
