"""Near matches for a name nobody knows: the only place that looks for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def close(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.6) -> list[str]:
    """Up to `count` of `known` that are spelt like `name`, the likeliest first.

    Capitals do not count. `cutoff` is difflib's ratio, 1 where nothing differs.
    """
    by_key = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_key, n=count, cutoff=cutoff)
    return [by_key[match] for match in matches]


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of `known` that `name` may have meant, the likeliest first.

    A part of a name tells as much as a misspelt one: `hella` in `hellaswag`.
    """
    names, key = list(known), name.lower()
    inside = [
        n for n in names if min(len(key), len(n)) >= 3 and (key in n.lower() or n.lower() in key)
    ]
    return list(dict.fromkeys([*close(name, names, count), *sorted(inside, key=len)]))[:count]


def did_you_mean(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Near matches as a sentence; failing those `otherwise`, or the known names if they are few."""
    names = sorted(known)
    if matches := near(name, names):
        return f"Did you mean {either(matches)}?"
    if otherwise is not None:
        return otherwise
    return f"Known: {', '.join(names)}." if names and len(names) <= 30 else ""


def either(names: list[str]) -> str:
    """Names as a sentence gives a choice: `a`, `a or b`, `a, b or c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
