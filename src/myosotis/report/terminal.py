"""What a run says on the screen: what its items can show beforehand, what was found at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from myosotis.records.schema import RunRecord, TaskQuality
from myosotis.records.verdict import DetectableEffect, Outlook, Verdict
from myosotis.report import dial_curve, narrator
from myosotis.utils.console import console, wide
from myosotis.utils.escape import line as one_line
from myosotis.utils.escape import terminal as escaped

COLOURS: dict[str, str] = {
    Verdict.RETAINED: "green",
    Verdict.SLIPPED: "yellow",
    Verdict.FORGOTTEN: "red",
    Verdict.INCONCLUSIVE: "dim",
}


def detectable(found: Sequence[DetectableEffect], expected: Outlook | None = None) -> None:
    """Which verdicts the items of this run can reach, and where they are asked in rounds how likely
    the verdict on their mean is."""
    if found or expected is not None:
        console.print("[bold]What these items can show[/]")
    if expected is not None:
        console.print(f"  {escaped(narrator.outlook(expected))}", highlight=False)
    for line in found:
        console.print(f"  {escaped(narrator.detectable(line))}", highlight=False)


def show(record: RunRecord, scorecard: Path | None = None) -> None:
    """The summary table of a finished run, and what it means in words."""
    table = Table(title=Text(one_line(record.run_name)), title_justify="left", expand=False)
    table.add_column("measure")
    for column in ("base", "tuned", "change", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    if record.task is not None:
        for quality in (record.task, *record.task.extra):
            table.add_row(*_quality(quality))
        table.add_section()
    for row in record.retention:
        table.add_row(
            escaped(f"{row.task} ({row.metric})"),
            _number(row.base),
            _number(row.tuned),
            _signed(row.delta),
            _interval(row.lo, row.hi),
            Text(row.verdict, COLOURS.get(row.verdict, "")),
        )
    if (suite := record.suite_verdict) is not None:
        table.add_section()
        table.add_row(
            "mean of accuracies",
            _number(suite.base),
            _number(suite.tuned),
            _signed(suite.delta),
            _interval(suite.lo, suite.hi),
            Text(suite.verdict, COLOURS.get(suite.verdict, "")),
        )
    console.print(table)
    show_dial(record)
    said = Text("\n".join(narrator.sentences(record)))
    console.print(Panel(said, border_style="blue", title="in words"))
    if scorecard is not None:
        console.print(f"scorecard: {escaped(scorecard)}", highlight=False, soft_wrap=True)
    if record.curves:
        console.print(
            f"run {escaped(record.run_id[:8])} · {_cost(record)} · myosotis ui shows its curves",
            highlight=False,
        )


def table(records: Sequence[RunRecord], scorecard: Path) -> None:
    """Runs side by side: what each moved, what it cost, what it learned and kept."""
    shown = Table(title="trials", title_justify="left", expand=False)
    shown.add_column("run")
    for column in (
        "parameters",
        "GB",
        "tokens/s",
        "task",
        "95 % interval",
        "general ability",
        "95 % interval",
    ):
        shown.add_column(column, justify="right")
    shown.add_column("verdict")
    for record in records:
        task, suite = record.task, record.suite_verdict
        verdict = suite.verdict if suite else record.status.lower()
        shown.add_row(
            escaped(one_line(record.run_name)),
            "—" if record.update.trainable is None else f"{record.update.trainable:,}",
            _number(record.cost.get("peak_memory_gb")),
            f"{record.cost.get('tokens_per_second') or 0:,.0f}",
            _signed(task.delta if task else None),
            _interval(task.lo, task.hi) if task else "—",
            _signed(suite.delta if suite else None),
            _interval(suite.lo, suite.hi) if suite else "—",
            Text(verdict, COLOURS.get(verdict, "")),
        )
    with wide():
        console.print(shown)
    console.print(f"scorecard: {escaped(scorecard)}", highlight=False, soft_wrap=True)


def trial(record: RunRecord, number: int, total: int | None) -> None:
    """One line for a trial of a sweep that has ended."""
    task, suite = record.task, record.suite_verdict
    line = Text(f"{number}/{'?' if total is None else total}  ", "dim")
    line.append(one_line(record.run_name), "default")
    if record.status != "FINISHED":
        line.append(f"  {record.status}: {one_line(record.error)}", "red")
    else:
        line.append(f"  task {_signed(task.delta if task else None)}", "default")
        line.append(f"  general ability {_signed(suite.delta if suite else None)}", "default")
        if suite:
            line.append(f" {suite.verdict}", COLOURS.get(suite.verdict, ""))
        line.append(f"  {(record.cost.get('total_seconds') or 0) / 60:.1f} min", "dim")
    console.print(line, soft_wrap=True)


def _quality(quality: TaskQuality) -> tuple[str | Text, ...]:
    lo, hi = quality.lo, quality.hi
    verdict = Text("no difference shown", "dim")
    if lo is not None and hi is not None and (lo > 0 or hi < 0):
        better = (lo > 0) == quality.higher_is_better
        verdict = Text("better", "green") if better else Text("worse", "red")
    name = escaped(f"task: {quality.metric}")
    return (
        name,
        _number(quality.base),
        _number(quality.tuned),
        _signed(quality.delta),
        _interval(lo, hi),
        verdict,
    )


def show_dial(record: RunRecord) -> None:
    """The strengths on the half that chooses, and what was chosen; nothing without a dial."""
    if not record.dial:
        return
    table = Table(title="update scaled to strength α (θ0 + αΔθ), on the selection half")
    table.title_justify = "left"
    for column in ("α", "task", "95 % interval", "benchmarks", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    chosen = record.dial_choice.alpha if record.dial_choice else None
    for point in record.dial:
        table.add_row(
            f"{'→ ' if point.alpha == chosen else ''}{point.alpha:g}",
            _signed(point.task),
            _interval(point.task_lo, point.task_hi),
            _signed(point.retention),
            _interval(point.retention_lo, point.retention_hi),
            Text(
                "\n".join([point.verdict, *dial_curve.beside([point])]),
                COLOURS.get(point.verdict, ""),
            ),
        )
    console.print(table)
    if said := dial_curve.said(record):
        console.print(escaped(said), highlight=False)


def _cost(record: RunRecord) -> str:
    cost = record.cost
    parts = []
    if (seconds := cost.get("total_seconds")) is not None:
        parts.append(f"{seconds / 60:.1f} min")
    if share := cost.get("look_share"):
        predicted = cost.get("look_share_predicted") or 0.0
        parts.append(
            f"mid-training evaluation took {share:.0%} of training time ({predicted:.0%} predicted)"
        )
    if (speed := cost.get("tokens_per_second")) is not None:
        parts.append(f"{speed:,.0f} tokens/s")
    if (memory := cost.get("peak_memory_gb")) is not None:
        parts.append(f"{memory:.1f} GB")
    if (count := record.update.trainable) is not None:
        parts.append(f"{count:,} parameters moved")
    return ", ".join(parts)


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "—" if value is None else f"{value:+.3f}"


def _interval(lo: float | None, hi: float | None) -> str:
    return "—" if lo is None or hi is None else f"{lo:+.3f} to {hi:+.3f}"
