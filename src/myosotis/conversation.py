"""`myosotis generate`: what a tuned model answers, beside what its base answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from myosotis.console import console, progress
from myosotis.data.formats import Message
from myosotis.generate import generate
from myosotis.runs import find
from myosotis.subjects import config_of, dtype_of, of_run, template_of


def answer(
    run: str,
    prompts: Sequence[str],
    *,
    compare: bool = False,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[dict[str, str]]:
    """Answers of the model of `run` (and with `compare` of its base), shown and returned.

    The prompts go through the chat template the run was trained with.
    """
    folder = find(run)
    cfg, _ = config_of(folder)
    base, update = of_run(folder).load(dtype_of(cfg))
    assert update is not None
    template = template_of(cfg, base)
    ids = [template.prompt([Message("user", prompt)]) for prompt in prompts]

    def ask(who: str) -> list[str]:
        with progress(f"{who} answers", total=len(ids)) as advance:
            return generate(
                update.model,
                base.tokenizer,
                ids,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                advance=advance,
            )

    columns = {"tuned": ask("tuned")}
    if compare:
        with update.disabled():
            columns = {"base": ask("base"), **columns}
    found = [
        {"prompt": prompt, **{who: texts[i] for who, texts in columns.items()}}
        for i, prompt in enumerate(prompts)
    ]
    for one in found:
        _show(one)
    return found


def _show(one: dict[str, Any]) -> None:
    """Model text is shown as text: nothing in it is markup."""
    console.print(Panel(Text(one["prompt"]), title="prompt", title_align="left", style="dim"))
    who = [name for name in ("base", "tuned") if name in one]
    table = Table(expand=True, show_lines=False)
    for name in who:
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(*(Text(one[name]) for name in who))
    console.print(table)
