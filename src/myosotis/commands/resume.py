"""Taking up a run where its checkpoint stands.

A resumed run has the configuration it was started with. Of what is given again on the command line
only what cannot change its result may differ, and a limit that lets it go on further
(`resume=last trainer.max_steps=200`): the rest would make it another run under the name of this
one, and is refused before anything is written. A trial of a sweep resumes in its own folder, named
by its configuration: there is nothing to merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from myosotis.config import strangers
from myosotis.records.find import find_run, has_checkpoint
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import WITHOUT_EFFECT
from myosotis.training.checkpoint_file import require_checkpoint
from myosotis.utils.errors import ConfigError, DataError

LIMITS = ("trainer.max_steps", "trainer.max_epochs")
"""What may become larger."""

MAY_CHANGE = (*WITHOUT_EFFECT, "trainer.accelerator")
"""Keys, with those below them, that may change: no weight and no score depends on them."""


@dataclass(frozen=True)
class Continued:
    """What to run with. `further`: it resumes a run, and a limit of that was raised."""

    cfg: DictConfig
    folder: RunFolder
    further: bool = False


def continued(cfg: DictConfig, overrides: Sequence[str]) -> Continued:
    """The configuration and folder to run with: those of `cfg`, or of the run it resumes.

    Raises `DataError` when the run has no checkpoint, `ConfigError` for an override that would
    make it another run. Writes nothing.
    """
    if cfg.resume is None or cfg.resume == cfg.out:
        return Continued(cfg, RunFolder(Path(cfg.out)))
    folder = find_run(str(cfg.resume), able=has_checkpoint)
    if not has_checkpoint(folder):
        raise DataError(
            f"The run {folder.path} has no checkpoint to resume from.",
            "It stopped before its first one: start it again without resume.",
        )
    saved = strangers.read(folder.config)  # whose it is, before anything else of it is read
    require_checkpoint(folder.checkpoint)
    given = [o for o in overrides if not _is_place(o, cfg, folder)]
    changed = changes(saved, cfg, given)
    if wrong := [why for key in changed if (why := _refusal(key, *changed[key], saved))]:
        raise ConfigError(
            f"The run {folder.path} cannot go on with other settings: {'; '.join(wrong)}.",
            "Leave them out, or start another run. A limit may be raised "
            "(trainer.max_steps=200), and tracking.… and how the machine is used may change.",
        )
    replace_values(saved, cfg, [o for o in given if _key(o) in changed])
    with open_dict(saved):
        saved.resume = str(cfg.resume)
        saved.out = str(folder.path)
    return Continued(saved, folder, further=any(key in LIMITS for key in changed))


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _values_of(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The overrides that set a value of a run, with their keys."""
    for override in overrides:
        key = _key(override)
        if key != "resume" and not key.startswith(("hydra.", "-")):
            yield override, key


def _is_place(override: str, cfg: DictConfig, folder: RunFolder) -> bool:
    """Whether it gives the run's own folder once more, as the ranks of a run are told."""
    return _key(override) == "out" and Path(cfg.out).resolve() == folder.path.resolve()


def changes(
    saved: DictConfig, cfg: DictConfig, overrides: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """The keys that `overrides` give another value than `saved` has: old and new.

    Raises `ConfigError` for one that chooses another part of a group.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for override, key in _values_of(overrides):
        old, new = _value(saved, key), _value(cfg, key)
        if override.startswith("~") or not _has(cfg, key):
            raise _chooses(override)
        if old == new:
            continue
        if "." not in key and isinstance(old, dict) and key not in MAY_CHANGE:
            raise _chooses(override)
        changed[key] = (old, new)
    return changed


def _value(cfg: DictConfig, key: str) -> Any:
    value = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _has(cfg: DictConfig, key: str) -> bool:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return isinstance(node, DictConfig) and leaf in node


def _refusal(key: str, old: Any, new: Any, saved: DictConfig) -> str:
    """Why `key` may not change, in words; empty where it may."""
    if any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE if name != "out"):
        return ""
    if key in LIMITS:
        once = key == "trainer.max_epochs" and saved.trainer.max_steps is None
        before = 1 if old is None and once else old
        if before is not None and new is not None and new >= before:
            return ""
    return f"{key} is {_shown(old)}, not {_shown(new)}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _chooses(override: str) -> ConfigError:
    return ConfigError(
        f"{override} cannot change for a run that was started: it chooses another option.",
        "Only single values can change, as in trainer.max_steps=200.",
    )


def replace_values(saved: DictConfig, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Put the values of `cfg` that `overrides` name into the configuration of an earlier run.

    Raises `ConfigError` for one that chooses another part of a group.
    """
    for override, key in _values_of(overrides):
        group = "." not in key and OmegaConf.is_dict(OmegaConf.select(saved, key))
        if (group and key not in MAY_CHANGE) or not _has(cfg, key):
            raise _chooses(override)
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key), merge=False)
