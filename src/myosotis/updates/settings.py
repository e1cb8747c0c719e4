"""What a person may set of an update; an unknown name is answered with the nearest one."""

from __future__ import annotations

from collections.abc import Iterable

from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError


def check_names(update: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigError` for the first setting that `update` does not have."""
    known = list(known)
    for key in sorted(set(given) - set(known)):
        raise ConfigError(
            f"update.{key}: update {update} has no such setting",
            did_you_mean(key, known, f"It has {', '.join(known)}."),
        )
