"""The scorecard as Markdown, for a pull request or a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from myosotis.records.schema import RunRecord
from myosotis.report import narrator, trials
from myosotis.report.decision import headline, ledes
from myosotis.report.factors import along_axis
from myosotis.report.grouping import study
from myosotis.report.intervals import forest, task_rows
from myosotis.report.numbers import Numbers
from myosotis.report.run_page import badge
from myosotis.report.selection import choose, front
from myosotis.report.sweep_page import group_rows
from myosotis.utils import escape
from myosotis.utils.escape import visible


def render_markdown(records: Sequence[RunRecord]) -> str:
    """Verdict, task quality and benchmarks; of several runs the decision and every setting.

    Without drawings and without model text.
    """
    return visible(_run(records[0]) if len(records) == 1 else _study(records)) + "\n"


def _study(records: Sequence[RunRecord]) -> str:
    found = study(records)
    choice, numbers = choose(found), Numbers.of(found)
    lines = [f"# {_safe(headline(found, choice))}", ""]
    for said in ledes(found, choice, numbers):
        lines += [_safe(said), ""]
    if said := trials.alarm(found):
        lines += [f"> {_safe(said)}", ""]
    for said in trials.apart(records):
        lines += [f"> {_safe(said)}", ""]
    unit = f", {numbers.unit}" if numbers.unit else ""
    head = ("#", "setting", "verdict", f"learned{unit}", "95 % interval", "general ability, points",
            "95 % interval", "trade-off", "seeds")  # fmt: skip
    keys = ("number", "label", "badge", "gain", "gain_interval", "kept", "kept_interval",
            "mark_said", "seeds")  # fmt: skip
    rows = group_rows(found, choice, front(found), numbers)
    lines += _table(head, [[str(row[key]) for key in keys] for row in rows])
    if rates := along_axis(found, numbers):
        lines += ["", _safe(rates["said"])]
    ended = trials.not_finished(found)
    lines += [""] if ended["rows"] or ended["missing"] else []
    lines += [
        f"- {_safe(row['label'])}, seed {_safe(row['seed'])}: {row['state']}. {_safe(row['error'])}"
        for row in ended["rows"]
    ]
    lines += [f"- {_safe(said)}" for said in ended["missing"]]
    if choice.run:
        lines += ["", f"    {' '.join(shlex.join(choice.run.command).split())}"]
    return "\n".join(lines)


def _run(record: RunRecord) -> str:
    name = record.run_name or record.run_id[:12]
    lines = [f"# {_safe(narrator.headline(record))}", ""]
    lines += [f"**{badge(record)['words']}** · {_safe(name)} · {_safe(record.model.id)}", ""]
    if record.error:
        lines += [f"> {record.status}: {_safe(record.error)}", ""]
    lines += [_safe(said) for said in narrator.ledes(record)]
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
    return text if text in ("---", "---:") else escape.markdown(text)
