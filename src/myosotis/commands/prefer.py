"""`myosotis prefer`: two sampled answers a prompt, of which a person or a judge chooses one.

What is chosen is appended to a file of pairs, from which `data=pairs` trains. Prompts that the file
has already are not asked again, so that one can stop at any time and go on later.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from myosotis.commands.find_model import config_of, of_run, template_of
from myosotis.commands.parts import device_of, precision_of
from myosotis.commands.prefer_page import PreferPage
from myosotis.config import instantiate
from myosotis.data.convert import viewed
from myosotis.data.records import RecordError
from myosotis.data.sft import Example, Message, each_record
from myosotis.evaluation.chosen import ChosenFile, Duel, prompt_key
from myosotis.evaluation.judge import RUBRIC, Pair, score_in_both_orders
from myosotis.models.generate import end_ids, generate
from myosotis.records.find import find_run, has_update
from myosotis.trees.lm_head import arithmetic
from myosotis.utils.chat_endpoint import KEY_ENV, Ask, asking
from myosotis.utils.console import console, progress, results
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import terminal
from myosotis.utils.own_files import require_place

SAID = {"a": "A", "b": "B", "t": "tie", "tie": "tie", "=": "tie"}


@dataclass(frozen=True)
class Sampling:
    """How answers are written: at this temperature from all tokens, seeded."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    seed: int = 0


def duels(
    run: str, other: str | None, prompts: str | None, items: int, out: ChosenFile, how: Sampling
) -> list[Duel]:
    """Two answers to each of the first `items` prompts that `out` has not: of one run, or of two.

    Prompts whose answers are the same are left out. Raises `ConfigError` where none is left.
    """
    known = out.known()
    there = _prompts(run, prompts)
    asked = [one for one in there if prompt_key(one.prompt) not in known][:items]
    if not asked:
        raise ConfigError(f"{out.path} has a choice for every prompt there is.")
    copies = 2 if other is None else 1
    first = _answers(run, asked, copies, how)
    second = first if other is None else _answers(other, asked, copies, how)
    found = []
    for one, mine, theirs in zip(asked, first, second, strict=True):
        texts = (mine[0], theirs[-1])
        if texts[0].strip() != texts[1].strip():
            found.append(Duel(one.prompt, texts, (run, other or run)))
    if not found:
        raise ConfigError(
            "Both answers to every prompt are the same.", "A higher --temperature, or --other RUN."
        )
    return found


def _prompts(run: str, prompts: str | None) -> list[Example]:
    """Of a file or the hub, or those that the run was trained on."""
    if prompts is None:
        cfg, _ = config_of(find_run(run, able=has_update))
        dataset = viewed(instantiate.dataset(cfg), "answers", "prefer")
        return list({str(one.prompt): one for one in dataset.train}.values())
    found: dict[str, Example] = {}

    def add(record: dict[str, Any], where: str) -> None:
        text = record.get("prompt")
        if not isinstance(text, str) or not text.strip():
            raise RecordError("no field 'prompt' with a text")
        found[text] = Example((Message("user", text), Message("assistant", "")), where)

    each_record(prompts, add)
    return list(found.values())


def _answers(run: str, asked: Sequence[Example], copies: int, how: Sampling) -> list[list[str]]:
    folder = find_run(run, able=has_update)
    cfg, _ = config_of(folder)
    base, update = of_run(folder).load(precision_of(cfg).weights, device_of(cfg))
    assert update is not None
    template = template_of(cfg, base)
    ids = [template.prompt(one.prompt, one.tools) for one in asked]
    with (
        arithmetic(device_of(cfg), precision_of(cfg).products),
        progress(f"{terminal(run)} answers", total=copies * len(ids)) as advance,
    ):
        texts = generate(
            update.model,
            base.tokenizer,
            [one for one in ids for _ in range(copies)],
            max_new_tokens=how.max_new_tokens,
            temperature=how.temperature,
            seed=how.seed,
            stop=[*end_ids(update.model, base.tokenizer), *template.end_ids()],
            advance=advance,
        )
    return [texts[k : k + copies] for k in range(0, len(texts), copies)]


def in_terminal(
    asked: Sequence[Duel], out: ChosenFile, by: str, read: Callable[[str], str] = input
) -> int:
    """Ask for each in the terminal, until all are chosen or `q`; returns how many were."""
    for number, duel in enumerate(asked):
        _show(duel, f"{number + 1} of {len(asked)}")
        while True:
            try:
                said = read("A, B, t (tie), s (skip) or q (quit): ").strip().casefold()
            except EOFError:
                said = "q"
            if said == "q":
                return number
            if said == "s":
                break
            if said in SAID:
                out.add(duel, SAID[said], by)
                break
    return len(asked)


def _show(duel: Duel, title: str) -> None:
    """Model text is shown as text: nothing in it is markup."""
    results.print(Panel(Text(terminal(duel.shown)), title=title, title_align="left", style="dim"))
    table = Table(expand=True)
    for name in ("A", "B"):
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(Text(terminal(duel.a)), Text(terminal(duel.b)))
    results.print(table)


def on_page(asked: Sequence[Duel], out: ChosenFile, by: str, port: int = 0) -> None:
    """Ask on a page of this machine until all are chosen, or Ctrl-C."""
    with PreferPage(asked, lambda duel, choice: out.add(duel, choice, by), port) as page:
        results.print(page.url, soft_wrap=True, highlight=False)
        console.print("Open it in a browser of this machine; Ctrl-C ends, what is chosen stays.")
        page.wait()


def by_judge(asked: Sequence[Duel], out: ChosenFile, ask: Ask, by: str, rubric: str) -> int:
    """Let a judge choose, in both orders: it is a tie where they disagree. Returns how many replies
    said nothing; their prompts are asked again the next time."""
    unread = 0
    with progress(f"judge, {terminal(by)}", total=len(asked)) as advance:
        for duel in asked:
            score = score_in_both_orders(ask, rubric, Pair(duel.shown, duel.a, duel.b))
            if score is None:
                unread += 1
            else:
                out.add(duel, "A" if score > 0.5 else "B" if score < 0.5 else "tie", by)
            advance(1)
    return unread


def prefer(
    run: str,
    out: Path,
    *,
    other: str | None = None,
    prompts: str | None = None,
    items: int = 20,
    how: Sampling | None = None,
    page: bool = False,
    port: int = 0,
    judge: tuple[str, str] | None = None,
    rubric: str = RUBRIC,
    key_env: str = KEY_ENV,
    by: str | None = None,
) -> dict[str, Any]:
    """Collect preferences into the pairs file `out`; returns how many it has now."""
    require_place(out)
    file = ChosenFile(out)
    asked = duels(run, other, prompts, items, file, how or Sampling())
    who = by or getpass.getuser()
    try:
        if judge is not None:
            url, model = judge
            ask = asking(url, model, key_env, out.with_suffix(".judge.jsonl"))
            if unread := by_judge(asked, file, ask, model, rubric):
                console.print(f"{unread} replies of the judge say neither A nor B nor tie.")
        elif page:
            on_page(asked, file, who, port)
        else:
            in_terminal(asked, file, who)
    except KeyboardInterrupt:
        console.print("Stopped; what was chosen is kept.")
    pairs = sum(1 for _ in out.open(encoding="utf-8")) if out.exists() else 0
    ties = sum(1 for _ in file.ties.open(encoding="utf-8")) if file.ties.exists() else 0
    results.print(
        terminal(f"{out}: {pairs} pairs, {ties} ties beside them. To learn from them: "
                 f"myosotis train method=reward data=pairs data.path={out}"),
        soft_wrap=True,
    )  # fmt: skip
    return {"pairs": pairs, "ties": ties, "out": str(out)}
