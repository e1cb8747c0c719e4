"""`myosotis rate`: people compare the answers of base and tuned model, and do not know whose is
which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from myosotis.commands.publish import keep
from myosotis.evaluation.judge import RUBRIC, Pair, judged
from myosotis.evaluation.ratings import FEW, Rating, counted, meant, tuned_is_first
from myosotis.evaluation.refusal_file import read_refusals
from myosotis.evaluation.refusal_judge import judged_refusals
from myosotis.records.find import find_run
from myosotis.records.schema import RunRecord
from myosotis.report import rated
from myosotis.report.rating_sheet import Card, read_choices, render_csv, render_html
from myosotis.utils.atomic_write import write_text
from myosotis.utils.chat_endpoint import KEY_ENV, asking
from myosotis.utils.console import console, progress, results
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import terminal
from myosotis.utils.own_files import refuse_foreign, require_place
from myosotis.utils.read_file import read_text

MOST_RUBRIC = 100_000  # bytes
MORE = "Train with task.generate=200 to have more answers to compare."


def write(run: str, out: Path) -> dict[str, Any]:
    """Write the sheet of a run to `out`; returns what it holds.

    Raises `ConfigError` where the run has no answers, or no two that differ.
    """
    render = {".csv": render_csv, ".html": render_html}.get(out.suffix.lower())
    if render is None:
        raise ConfigError(f"{out}: a sheet is .csv or .html.")
    require_place(out)
    refuse_foreign(out, False, "sheet")
    record = find_run(run).load()
    cards, same = _cards(record)
    write_text(out, render(record.run_id, cards))
    told = f"{len(cards)} pairs of answers to compare"
    told += f"; {same} are the same from both models and left out" if same else ""
    results.print(terminal(f"{out}: {told}"), soft_wrap=True)
    return {"sheet": str(out), "items": len(cards), "same": same}


def read(run: str, sheets: list[Path]) -> RunRecord:
    """Count the filled-in sheets of a run, one of each rater, into its record; returns that."""
    folder = find_run(run)
    record = folder.load()
    cards, same = _cards(record)
    known = {card.item for card in cards}
    ratings: list[Rating] = []
    for number, sheet in enumerate(sheets):
        choices = read_choices(sheet, record.run_id)
        if other := sorted(choices.keys() - known):
            raise ConfigError(f"{sheet.name} rates item {other[0]}, which this run has not.")
        ratings += [
            Rating(item, str(number), meant(choice, record.run_id, item))
            for item, choice in choices.items()
        ]
    found = counted(ratings)
    found.same = same
    record = keep(folder, lambda now: setattr(now, "ratings", found))
    for sentence in rated.ratings_said(found):
        results.print(terminal(sentence), soft_wrap=True)
    if len(ratings) < FEW:
        console.print(
            f"{len(ratings)} ratings show large differences alone; {FEW} or more are needed to "
            "tell 55 % from a coin.",
            style="yellow",
            soft_wrap=True,
        )
    return record


def judge(
    run: str, url: str, model: str, *, rubric: Path | None = None, key_env: str = KEY_ENV
) -> RunRecord:
    """Let a language model compare the answers of a run, in both orders; returns the record.

    `rubric` is a file that says what to go by. The key of the server is what the environment
    variable `key_env` holds. Replies are kept in the run's folder, so that asking again costs
    nothing.
    """
    folder = find_run(run)
    record = folder.load()
    _cards(record)
    pairs = [
        Pair(sample.prompt, sample.tuned, sample.base)
        for sample in record.samples
        if sample.base.strip() != sample.tuned.strip()
    ]
    text = RUBRIC if rubric is None else read_rubric(rubric)
    ask = asking(url, model, key_env, folder.path / "judge.jsonl")
    with progress(f"judge, {model}", total=len(pairs)) as advance:
        found = judged(pairs, ask, model=model, rubric=text, advance=advance)
    record = keep(folder, lambda now: setattr(now, "judge", found))
    for sentence in rated.judge_said(found):
        results.print(terminal(sentence), soft_wrap=True)
    return record


def judge_refusals(run: str, url: str, model: str, *, key_env: str = KEY_ENV) -> RunRecord:
    """Let a language model say which answers to `should_refuse` and `should_answer` refuse."""
    folder = find_run(run)
    answers = read_refusals(folder.refusals)
    ask = asking(url, model, key_env, folder.path / "judge.jsonl")
    with progress(f"judge, {model}", total=len(answers)) as advance:
        found = judged_refusals(answers, ask, model=model, advance=advance)
    record = keep(folder, lambda now: setattr(now, "refusal_judge", found))
    for sentence in rated.refusals_said(found):
        results.print(terminal(sentence), soft_wrap=True)
    return record


def read_rubric(path: Path) -> str:
    """What a judge is to go by, from a file. Raises `ConfigError` where it cannot be read."""
    try:
        return read_text(path, MOST_RUBRIC)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The rubric {path} cannot be read: {error}.") from None


def _cards(record: RunRecord) -> tuple[list[Card], int]:
    """The pairs of answers that differ, each side where the run's own coin puts it, and how many
    are the same."""
    if not record.samples:
        raise ConfigError(f"The run {record.run_name} has no answers to compare.", MORE)
    cards = []
    for item, sample in enumerate(record.samples):
        if sample.base.strip() == sample.tuned.strip():
            continue
        sides = (sample.tuned, sample.base)
        a, b = sides if tuned_is_first(record.run_id, item) else sides[::-1]
        cards.append(Card(item, sample.prompt, a, b))
    if not cards:
        raise ConfigError("Both models answered every prompt alike.", MORE)
    return cards, len(record.samples) - len(cards)
