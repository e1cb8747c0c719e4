"""The group `control`: what cannot protect anything, refused before any weights load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_type_hints

from omegaconf import DictConfig

from myosotis.config.targets import bound, refuse_elsewhere
from myosotis.utils.errors import ConfigError

if TYPE_CHECKING:
    from myosotis.controls import About


def check_controls(cfg: DictConfig, values: dict[str, Any], about: About) -> None:
    """Each control is held against its class, and refuses what it cannot serve."""
    from myosotis.controls import Control

    entries = values.get("control") or {}  # absent from a run of before there was the group
    for name, settings in entries.items():
        key = f"control.{name}"
        if not isinstance(settings, dict):
            raise ConfigError(f"{key} must name a class with _target_.")
        make, words = bound(settings, Control, key)
        refuse_elsewhere(words, key)
        require_numbers(make, words, key)
        control = make(**words)
        if control.active:
            control.refuse(about, key)
        whole = cfg.retention["items"] is None and words.get("texts") in cfg.retention.suite
        if control.active and whole:
            raise ConfigError(
                f"{key}.texts={words['texts']}: with retention.items=null every passage of it is "
                "measured, and none is left to learn from.",
                f"Add retention.items=200, or {key}.texts=FILE.",
            )


def require_numbers(make: Any, words: dict[str, Any], key: str) -> None:
    """Raise `ConfigError` where a setting is not of the type that the class declares."""
    for name, wanted in get_type_hints(make).items():
        value = words.get(name)
        if wanted in (int, float) and name in words:
            fits = isinstance(value, int) or (wanted is float and isinstance(value, float))
            if isinstance(value, bool) or not fits:
                number = "a whole number" if wanted is int else "a number"
                raise ConfigError(f"{key}.{name} takes {number}, not {value!r}.")
