"""`myosotis demo`: everything end to end on the embedded model and data; then what to try next."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from myosotis.commands.train import train
from myosotis.records.schema import DialPoint, RunRecord
from myosotis.utils.console import console
from myosotis.utils.escape import terminal
from myosotis.utils.own_files import refuse_link

PLACE = Path("reports/demo")
WORDS = ("experiment=demo", "retention.dial=[0.4,0.7]")
"""What it trains as; an experiment sets no dial, since not every method has one."""


def demo(cfg: DictConfig) -> RunRecord:
    """Train as `WORDS` say; put the scorecard where the README says it is."""
    console.print(
        "[bold]myosotis demo[/]: LoRA learns to write docstrings for Python functions. The base is "
        "measured, fine-tuned and measured again, in ten to fifteen minutes on two CPU cores.\n"
        f"[dim]Everything is kept in {terminal(cfg.out)}.[/]"
    )
    record = train(cfg, list(WORDS))
    PLACE.mkdir(parents=True, exist_ok=True)
    scorecard = PLACE / "scorecard.html"
    refuse_link(scorecard)
    shutil.copyfile(Path(cfg.out) / "scorecard.html", scorecard)
    for line in last_words(record, scorecard):
        console.print(line, highlight=False, soft_wrap=True)
    return record


def last_words(record: RunRecord, scorecard: Path) -> list[str]:
    """The last screen: what the dial showed, where to look, which command to try next."""
    lines = [""]
    if best := best_strength(record.dial):
        lines.append(
            f"Of the strengths tried, α={best.alpha:g} does best on the task ({best.task:+.3f} "
            "nats per token); the table above shows what each of them costs."
        )
    lines += [
        f"[bold]Open[/] {scorecard} in a browser, or [bold]myosotis ui[/] for the curves.",
        "[bold]Next[/]",
        "  myosotis generate last --compare --prompt 'Write a docstring for: def add(a, b): …'",
        "  myosotis train method=lora data=jsonl data.path=mine.jsonl      # your own data",
        "  myosotis train experiment=forgets      # a run that does forget",
    ]
    return lines


def best_strength(dial: list[DialPoint]) -> DialPoint | None:
    """The strength with the largest change of task quality, or None without a dial."""
    measured = [point for point in dial if point.task is not None]
    return max(measured, key=lambda point: point.task or 0.0, default=None)
