"""What a run says on the screen: what its items can show beforehand, what was found at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from myosotis.records.schema import DialChoice, RunRecord, TaskQuality
from myosotis.records.verdict import DetectableEffect, Outlook, Verdict
from myosotis.report import beforehand, dial_curve, narrator, phrases, trials
from myosotis.report.grouping import ConfigGroup, study
from myosotis.report.numbers import Numbers
from myosotis.report.phrases import MISSING
from myosotis.report.planes import Measure, measures
from myosotis.report.run_verdict import mean_verdict
from myosotis.report.selection import choose, group_stats
from myosotis.report.settings_table import settings_order
from myosotis.utils.console import console, results
from myosotis.utils.escape import line as one_line
from myosotis.utils.escape import terminal as escaped

COLOURS: dict[str, str] = {
    Verdict.RETAINED: "green",
    Verdict.SLIPPED: "yellow",
    Verdict.FORGOTTEN: "red",
    Verdict.INCONCLUSIVE: "dim",
}

SIGNS: dict[str, str] = {
    Verdict.RETAINED: "✓",
    Verdict.SLIPPED: "↓",
    Verdict.FORGOTTEN: "✕",
    Verdict.INCONCLUSIVE: "?",
}


def detectable(found: Sequence[DetectableEffect], expected: Outlook | None = None) -> None:
    """Which verdicts the items of this run can reach, and where they are asked in rounds how likely
    the verdict on their mean is."""
    if found or expected is not None:
        console.print("[bold]What these items can show[/]")
    if expected is not None:
        console.print(f"  {escaped(beforehand.outlook(expected))}", highlight=False)
    for line in found:
        console.print(f"  {escaped(beforehand.detectable(line))}", highlight=False)


def show(record: RunRecord, scorecard: Path | None = None) -> None:
    """The summary table of a finished run, and what it means in words."""
    table = _table("measure", "base → tuned", "change, 95 % interval", "verdict")
    table.title = Text(one_line(record.run_name))
    if record.task is not None:
        for quality in (record.task, *record.task.extra):
            table.add_row(*_quality(quality))
        for source, quality in record.task.sources.items():
            table.add_row(*_quality(quality, one_line(source)))
        table.add_section()
    for row in record.retention:
        s = phrases.row_scale(row)
        name = f"{row.task}\n{row.metric}"
        table.add_row(
            *_line(name, s, (row.base, row.tuned), (row.delta, row.lo, row.hi), row.verdict)
        )
    if (suite := record.suite_verdict) is not None:
        table.add_section()
        s, ends = phrases.suite_scale(suite), (suite.delta, suite.lo, suite.hi)
        mean = mean_verdict(record)
        table.add_row(*_line("mean of accuracies", s, (suite.base, suite.tuned), ends, mean))
        table.add_row(Text("the run", "bold"), "", "", _verdict(suite.verdict))
    results.print(table)
    show_dial(record)
    said = Text("\n".join(narrator.sentences(record)))
    results.print(Panel(said, border_style="blue", title="in words"))
    if scorecard is not None:
        results.print(f"scorecard: {escaped(scorecard)}", highlight=False, soft_wrap=True)
    if record.curves:
        results.print(
            f"run {escaped(record.run_id[:8])} · {_cost(record)} · myosotis ui shows its curves",
            highlight=False,
        )


def _table(first: str, *columns: str) -> Table:
    """A table that fits 80 columns: what is too long for its column goes on in the next line."""
    table = Table(title_justify="left", expand=False, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _line(
    name: str,
    s: phrases.Scale,
    ends: tuple[float | None, float | None],
    change: tuple[float | None, float | None, float | None],
    verdict: str,
) -> tuple[Text, ...]:
    """A row, its numbers written as on the page."""
    base, tuned = (s.value(score) for score in ends)
    around = phrases.interval(s, *change[1:])
    moved = f"{s.change(change[0])} {s.of}".strip()
    return (
        Text(_short(name)),
        Text(f"{base} → {tuned}"),
        Text(f"{moved}\n{around}"),
        _verdict(verdict),
    )


def _short(name: str) -> str:
    """A name on one line, its metric on the next."""
    return "\n".join(one_line(part) for part in name.split("\n", 1))


def _verdict(verdict: str) -> Text:
    """A verdict in its colour, and with the sign that it has on the page."""
    words = one_line(verdict)
    return Text(f"{SIGNS.get(verdict, '')} {words}".strip(), COLOURS.get(verdict, ""))


def table(records: Sequence[RunRecord], scorecard: Path) -> None:
    """Settings side by side: what each learned and kept, the better first, as on the page."""
    found = study(records)
    choice, numbers = choose(found), Numbers.of(found)
    beside = measures(found, numbers)[:2]
    heads = [f"learned,\n{numbers.unit}" if numbers.unit else "learned"]
    heads += [f"{one_line(m.name).lower()},\n{m.unit.replace(', ', chr(10))}" for m in beside]
    shown = _table("setting", *heads)
    shown.title = Text("settings, on all items")
    for group in sorted(found.groups, key=settings_order):
        shown.add_row(*_setting(group, group is choice.group, numbers, beside))
    results.print(shown)
    results.print(f"scorecard: {escaped(scorecard)}", highlight=False, soft_wrap=True)


def _setting(
    group: ConfigGroup, chosen: bool, numbers: Numbers, beside: Sequence[Measure]
) -> list[Text]:
    """A setting by name, below it its verdict and what it took; then its numbers."""
    name = Text(f"{'→ ' if chosen else ''}{one_line(group.label)}\n", "bold" if chosen else "")
    runs, seen = group.runs or group.others, group_stats(group)
    name.append(_verdict(seen.verdict if group.runs else trials.state(runs[0])))
    seconds = [s for run in runs if (s := run.cost.get("total_seconds")) is not None]
    if seconds:
        name.append(f"  {sum(seconds) / len(seconds) / 60:.1f} min", "dim")
    cells = [Text(f"{numbers.gain(seen.gain)}\n{numbers.gain_interval(seen.gain)}".strip())]
    for measure in beside:
        kept = measure.of(group)
        said = MISSING if kept is None else measure.change(kept.value)
        around = "" if kept is None else measure.interval(kept)
        cells.append(Text(f"{said}\n{around}".strip(), COLOURS.get(measure.verdict(group), "")))
    return [name, *cells]


def trial(record: RunRecord, number: int, total: int | None) -> None:
    """One line for a trial of a sweep that has ended."""
    task, suite = record.task, record.suite_verdict
    line = Text(f"{number}/{'?' if total is None else total}  ", "dim")
    line.append(one_line(record.run_name), "default")
    if record.status != "FINISHED":
        line.append(f"  {record.status}: {one_line(record.error)}", "red")
    else:
        if task is not None:
            line.append(f"  task {phrases.task_scale(task).change(task.delta)}", "default")
        if suite is not None:
            s = phrases.suite_scale(suite)
            line.append(f"  mean accuracy {s.change(suite.delta)} {s.of} ", "default")
            line.append(_verdict(suite.verdict))
        line.append(f"  {(record.cost.get('total_seconds') or 0) / 60:.1f} min", "dim")
    console.print(line, soft_wrap=True)


def _quality(quality: TaskQuality, source: str = "") -> tuple[Text, ...]:
    """A row of the summary; of one `source` of several where it is named."""
    words = {
        "better": Text("✓ better", "green"),
        "worse": Text("✕ worse", "red"),
        "same": Text("? no difference shown", "dim"),
    }
    s, ends = phrases.task_scale(quality), (quality.delta, quality.lo, quality.hi)
    name = f"task\n{source or quality.metric}"
    *cells, _ = _line(name, s, (quality.base, quality.tuned), ends, "")
    return *cells, words.get(phrases.outcome(quality), Text(""))


def show_dial(record: RunRecord) -> None:
    """The strengths on the half that chooses, and what was chosen; nothing without a dial."""
    if not record.dial:
        return
    choice = record.dial_choice or DialChoice()
    last = record.dial[-1]
    task = phrases.scale(choice.metric, choice.unit, last.task_lo, last.task_hi)
    kept = phrases.scale("acc", "", last.retention_lo, last.retention_hi)
    table = _table("α", f"task, {task.of}".rstrip(", "), "mean accuracy, points", "verdict")
    table.title = Text("update scaled to strength α (θ0 + αΔθ), on the selection half")
    for point in record.dial:
        learned = phrases.interval(task, point.task_lo, point.task_hi)
        lost = phrases.interval(kept, point.retention_lo, point.retention_hi)
        said = _verdict(point.verdict)
        said.append("".join(f"\n{one_line(word)}" for word in dial_curve.beside([point])))
        table.add_row(
            f"{'→ ' if point.alpha == choice.alpha else ''}{point.alpha:g}",
            f"{task.change(point.task)}\n{learned}",
            f"{kept.change(point.retention)}\n{lost}",
            said,
        )
    results.print(table)
    if said := dial_curve.said(record):
        results.print(escaped(said), highlight=False)


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
