"""What a person may set of an update; an unknown name is answered with the nearest one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from myosotis.utils.errors import ConfigError


def check_names(update: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigError` for the first setting that `update` does not have."""
    known = list(known)
    for key in sorted(set(given) - set(known)):
        near = get_close_matches(key, known, n=1)
        raise ConfigError(
            f"update.{key}: update {update} has no such setting",
            f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}",
        )
