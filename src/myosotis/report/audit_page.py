"""The audit of a data set as one self-contained page: `myosotis audit --html`.

What belongs here: from the plain data of an audit (`data/audit.py`) to what its template shows. All
text comes from files that anyone may have written; the template escapes every piece of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from myosotis.report import page
from myosotis.report.phrases import percent
from myosotis.utils.atomic_write import write_bytes
from myosotis.utils.errors import RunError
from myosotis.utils.own_files import refuse_foreign

SIGN = '<meta name="generator" content="myosotis audit">'
BAR = 32  # characters of the longest bar
MOST_TOKENS = 600  # of one example


def write_page(path: Path, report: Mapping[str, Any], lines: Sequence[str]) -> Path:
    """Write the page; `lines` are the figures of the texts in sentences.

    Raises `ConfigError` where something else lies at `path`, `RunError` where nothing can be
    written.
    """
    refuse_foreign(path, path.is_file() and is_one(path), "audit")
    try:
        write_bytes(path, render(report, lines).encode("utf-8", "replace"))
    except OSError as error:
        raise RunError(f"Could not write the audit {path}: {error.strerror or error}.") from error
    return path


def is_one(path: Path) -> bool:
    """Whether the file at `path` is an audit that was written here before."""
    with path.open("rb") as file:
        return SIGN.encode() in file.read(4096)


def render(report: Mapping[str, Any], lines: Sequence[str]) -> str:
    """The page as text."""
    return page.render(
        "audit.html.j2",
        styles=("audit.css",),
        name=report["name"],
        sign=SIGN,
        warnings=report["warnings"],
        rows=[_part(name, row) for name, row in report["parts"].items()],
        lines=lines,
        bins=_bins(report),
        max_length=report["max_length"],
        benchmarks=[_benchmark(one) for one in report.get("contamination", [])],
        samples=[_sample(sample) for sample in report["samples"]],
    )


def _part(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    lengths = row["lengths"]
    spans = [
        " · ".join(f"{lengths[one][at]:,}" for at in ("p50", "p95", "max")) if lengths else "–"
        for one in ("prompt", "answer", "total")
    ]
    names = ("kept", "dropped", "truncated", "tokens", "scored_tokens")
    return {"name": name, "numbers": [f"{row[n]:,}" for n in names], "spans": spans}


def _bins(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = report["parts"]["train"]["lengths"].get("histogram", [])
    most = max((row["count"] for row in rows), default=1)
    return [
        {
            "range": f"{row['from']:,}–{row['to']:,}",
            "count": f"{row['count']:,}",
            "bar": "█" * round(BAR * row["count"] / most) or "▏" * bool(row["count"]),
            "beyond": row["to"] > report["max_length"],
        }
        for row in rows
    ]


def _benchmark(one: Mapping[str, Any]) -> dict[str, Any]:
    items = [
        {"item": item, "share": percent(share), "where": one["where"].get(item, "")}
        for item, share in one["items"].items()
    ]
    return {
        "task": one["task"],
        "judged": f"{one['judged']:,} of {one['n']:,}",
        "count": len(items),
        "items": items,
    }


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    tokens = sample["tokens"]
    kinds = [("scored" if scored else "control" if c else "read") for _, scored, c in tokens]
    pieces = [
        {"text": text, "kind": kind} for (text, _, _), kind in zip(tokens, kinds, strict=True)
    ]
    left = len(pieces) - MOST_TOKENS
    if left > 0:
        half = MOST_TOKENS // 2
        gap = {"text": f" … {left:,} tokens … ", "kind": "gap"}
        pieces = [*pieces[:half], gap, *pieces[-half:]]
    return {"where": sample["where"], "pieces": pieces}
