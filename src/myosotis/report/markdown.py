"""The scorecard as Markdown, for a pull request or a terminal, and as JSON, for scripts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence

from myosotis.record import RunRecord, plain
from myosotis.report import words
from myosotis.report.rows import forest, task_rows
from myosotis.report.view import badge


def render_json(records: Sequence[RunRecord]) -> str:
    """The records themselves with the verdict in words; a list, also of one."""
    documents = [
        {"headline": words.headline(r), "said": words.ledes(r), "record": plain(r)} for r in records
    ]
    return json.dumps(documents, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def render_markdown(records: Sequence[RunRecord]) -> str:
    """Verdict, task quality, benchmarks and cost; without drawings and without model text."""
    return "\n\n---\n\n".join(_run(record) for record in records) + "\n"


def _run(record: RunRecord) -> str:
    name = record.run_name or record.run_id[:12]
    lines = [f"# {_safe(words.headline(record))}", ""]
    lines += [f"**{badge(record)['words']}** · {_safe(name)} · {_safe(record.model.id)}", ""]
    if record.error:
        lines += [f"> {record.status}: {_safe(record.error)}", ""]
    lines += [_safe(said) for said in words.ledes(record)]
    lines += [f"- {_safe(warning)}" for warning in record.warnings]
    if (task := task_rows(record)) is not None:
        head = ("task metric", "base", "tuned", "change", "95 % interval", "items")
        keys = ("name", "base", "tuned", "change", "interval", "n")
        lines += ["", *_table(head, [[row[key] for key in keys] for row in task["rows"]])]
    rows = [row for group in forest(record) for row in group["rows"]]
    if rows:
        head = (
            "benchmark",
            "base",
            "tuned",
            "change",
            "95 % interval",
            "budget",
            "verdict",
            "items",
        )
        keys = ("task", "base", "tuned", "change", "interval", "epsilon", "verdict", "n")
        lines += ["", *_table(head, [[row[key] for key in keys] for row in rows])]
    lines += ["", f"    {' '.join(shlex.join(record.command).split())}"]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(map(_safe, row))} |" for row in (head, rule, *rows)]


def _safe(text: str) -> str:
    """Text that cannot leave its line, its cell, or become markup."""
    text = " ".join(str(text).split())
    if text in ("---", "---:"):
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#!])", r"\\\1", text)
