"""Near matches for a name nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of `known` that `name` may have meant, the likeliest first."""
    by_key = {candidate.lower(): candidate for candidate in known}
    key = name.lower()
    found = difflib.get_close_matches(key, by_key, n=count, cutoff=0.6)
    # A part of a name tells as much as a misspelt one: `hella` in `hellaswag`.
    inside = [k for k in by_key if min(len(key), len(k)) >= 3 and (key in k or k in key)]
    return [by_key[match] for match in dict.fromkeys([*found, *sorted(inside, key=len)])][:count]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with near matches; failing those, the known names; empty when there are none."""
    names = sorted(known)
    if matches := near(name, names):
        return f"Did you mean {_either(matches)}?"
    return f"Known: {', '.join(names)}." if names and len(names) <= 30 else ""


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
