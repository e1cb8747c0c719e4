"""Seconds as a person says them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """`0.8 s`, `59 s`, `2 min 13 s`, `1 h 04 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
