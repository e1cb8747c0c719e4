"""Taking up a run where its checkpoint stands.

A resumed run has the configuration it was started with. Keys given again on the command line
(`resume=last trainer.max_steps=200`) replace single values; choices of a group do not change. A
trial of a sweep resumes in its own folder, named by its configuration: there is nothing to merge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from myosotis.config import strangers
from myosotis.records.find import find_run
from myosotis.records.run_folder import RunFolder
from myosotis.utils.errors import ConfigError, DataError


def continued(cfg: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, RunFolder]:
    """The configuration and folder to run with: those of `cfg`, or of the run it resumes.

    Raises `DataError` when the run has no checkpoint, `ConfigError` for an override that would
    make it another run.
    """
    if cfg.resume is None or cfg.resume == cfg.out:
        return cfg, RunFolder(Path(cfg.out))
    folder = find_run(str(cfg.resume))
    if not folder.checkpoint.exists():
        raise DataError(
            f"The run {folder.path} has no checkpoint to resume from.",
            "It stopped before its first one: start it again without resume.",
        )
    saved = strangers.read(folder.config)
    replace_values(saved, cfg, overrides)
    with open_dict(saved):
        saved.resume = str(cfg.resume)
        saved.out = str(folder.path)
    return saved, folder


def replace_values(saved: DictConfig, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Put the values of `cfg` that `overrides` name into the configuration of an earlier run.

    Raises `ConfigError` for one that chooses another part of a group.
    """
    for override in overrides:
        key, _, _ = override.partition("=")
        key = key.lstrip("+~")
        if key == "resume" or key.startswith(("hydra.", "-")):
            continue
        chooses = "." not in key and OmegaConf.is_dict(OmegaConf.select(saved, key))
        if chooses or OmegaConf.select(cfg, key) is None:
            raise ConfigError(
                f"{override} cannot change for a run that was started: it chooses another option.",
                "Only single values can change, as in trainer.max_steps=200.",
            )
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key), merge=False)
