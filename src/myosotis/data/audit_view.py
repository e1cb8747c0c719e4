"""The audit as a terminal shows it.

What belongs here: layout. What is shown is computed in `audit.py`. Text out of the data is never
taken for markup, and its control characters are shown, not obeyed.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from myosotis.data.datamodule import found_in

READ, SCORED, CONTROL = "dim", ("black on green", "black on bright_green"), "magenta"
MOST_TOKENS_SHOWN = 400  # of one example
ALL_WELL = "No duplicates, no leakage, nothing dropped or cut."


def show(report: dict[str, Any]) -> RenderableType:
    """The report of `inspect`, for a terminal."""
    parts: list[RenderableType] = [_sample(sample) for sample in report["samples"]]
    legend = Text("scored: ", style=READ)
    legend.append("⟦answer⟧", SCORED[0]).append("   control token: ", READ)
    legend.append("<…>", CONTROL).append("   the rest is read, not scored", READ)
    parts[:0] = [Text(visible(line), READ) for line in found_in(report["manifest"])]
    parts += [
        legend,
        Text(),
        _sizes(report),
        Text(),
        _spans(report),
        Text(),
        _histogram(report),
        Text(),
        _budget(report),
        _content(report),
        *(Text(visible(line)) for line in report.get("benchmarks", [])),
    ]
    for line in report["warnings"]:
        parts.append(Text.assemble(("! ", "bold yellow"), visible(line)))
    if not report["warnings"]:
        parts.append(Text(ALL_WELL, style="green"))
    return Group(*parts)


def visible(text: str) -> str:
    """Text with its control and format characters spelled out; a newline shows and ends a line."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character == "\t":
        return "⇥"
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def _sample(sample: dict[str, Any]) -> Panel:
    shown = sample["tokens"]
    text = Text()
    left_out = len(shown) - MOST_TOKENS_SHOWN
    scored_before = False
    for number, (piece, scored, control) in enumerate(shown):
        if left_out > 0 and number == MOST_TOKENS_SHOWN // 2:
            text.append(f" … {left_out} tokens … ", "italic yellow")
        if left_out > 0 and 0 <= number - MOST_TOKENS_SHOWN // 2 < left_out:
            continue
        # Brackets too: colours are lost in a pipe, and to some eyes.
        if scored != scored_before:
            text.append("⟦" if scored else "⟧", "bold green")
        style = f"{SCORED[number % 2]}" if scored else CONTROL if control else READ
        text.append(visible(piece), style)
        scored_before = scored
    if scored_before:
        text.append("⟧", "bold green")
    return Panel(text, title=Text(visible(sample["where"])), title_align="left")


def _sizes(report: dict[str, Any]) -> Table:
    table = Table(title=Text(visible(report["name"])), title_justify="left", box=None)
    for name in ("", "examples", "dropped", "truncated", "tokens", "scored"):
        table.add_column(name, justify="left" if not name else "right")
    for part, row in report["parts"].items():
        numbers = [row[n] for n in ("kept", "dropped", "truncated", "tokens", "scored_tokens")]
        table.add_row(part, *(f"{n:,}" for n in numbers))
    return table


def _spans(report: dict[str, Any]) -> Table:
    title = "tokens per example: median · 95th percentile · largest"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for name in ("prompt", "answer", "total"):
        table.add_column(name, justify="right")
    for part, row in report["parts"].items():
        if lengths := row["lengths"]:
            spans = [lengths[name] for name in ("prompt", "answer", "total")]
            table.add_row(part, *(f"{s['p50']:,} · {s['p95']:,} · {s['max']:,}" for s in spans))
    return table


def _histogram(report: dict[str, Any]) -> Table:
    bins = report["parts"]["train"]["lengths"].get("histogram", [])
    table = Table(title="training examples by length", title_justify="left", box=None)
    table.add_column("tokens", justify="right")
    table.add_column("examples", justify="right")
    table.add_column("")
    most = max((row["count"] for row in bins), default=1)
    for row in bins:
        style = "yellow" if row["to"] > report["max_length"] else "green"
        bar = Text("█" * round(40 * row["count"] / most) or "▏" * bool(row["count"]), style=style)
        table.add_row(f"{row['from']}–{row['to']}", f"{row['count']:,}", bar)
    return table


def _budget(report: dict[str, Any]) -> Text:
    budget = report["budget"]
    kind = report["template"]["kind"]
    template = "the model's chat template" if kind == "chat" else "no template"
    return Text(
        f"{budget['steps_per_epoch']:,} steps per epoch, {budget['batch_size']} examples and "
        f"{budget['tokens_per_step']:,.0f} tokens per step, {budget['scored_share']:.0%} of them "
        f"scored; at most {report['max_length']:,} tokens per example; {template}"
    )


def _content(report: dict[str, Any]) -> Text:
    """How much text there is, how various it is, and how rows fill, a line each."""
    return Text("\n".join(map(visible, content_lines(report))).replace("↵", ""))


def content_lines(report: dict[str, Any]) -> list[str]:
    """The figures of the training texts in sentences."""
    found, rows = report["content"], report["rows"]
    examples = found["examples"]
    lines = [
        f"{found['words']:,} words in {examples:,} training examples, {found['answer_words']:,} of "
        f"them in answers (half have {found['median_answer_words']:,} or more); "
        f"{found['different_answers']:,} different answers",
        f"rows of at most {rows['row_tokens']:,} tokens: {rows['rows_per_step']:.1f} a step, "
        f"{rows['filled']:.0%} filled",
    ]
    if found["distinct"][1] is not None:
        one, two = found["distinct"]
        lines.append(
            f"different words in answers {one:.1%} of all, different pairs of words {two:.1%} "
            "(they fall as answers repeat each other)"
        )
    if openings := found["openings"]["first"]:
        shown = ", ".join(f"“{text}” {n / examples:.0%}" for text, n in openings)
        lines.append(f"{found['openings']['different']:,} openings of questions: {shown}")
    if languages := found["languages"]:
        total = max(1, found["languages_of"])
        shown = ", ".join(f"{name} {n / total:.0%}" for name, n in list(languages.items())[:6])
        lines.append(f"languages, by words of grammar and by script: {shown}")
    lines.append(size_line(examples))
    return lines


def size_line(examples: int) -> str:
    """What so many examples are good for."""
    if examples < 1_000:
        return (
            "fewer than 1,000 examples: enough for a form or a style, and few to learn a task from"
        )
    return (
        "1,000 good examples can be worth more than 100,000 noisy ones (LIMA, Zhou et al. 2023): "
        "read some before adding more"
    )
