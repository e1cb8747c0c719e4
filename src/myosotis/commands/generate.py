"""`myosotis generate`: what a tuned model answers, beside what its base answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from myosotis import updates
from myosotis.commands.find_model import config_of, find_model, of_run, template_of
from myosotis.commands.parts import device_of, precision_of
from myosotis.data.sft import Message
from myosotis.models.generate import end_ids, generate
from myosotis.models.load import ModelSource
from myosotis.records.find import find_run, has_update
from myosotis.trees.lm_head import arithmetic
from myosotis.updates.base import Update
from myosotis.utils.console import progress, results
from myosotis.utils.errors import ConfigError

if TYPE_CHECKING:
    from myosotis.updates.peft import PeftUpdate

CONFIG = "adapter_config.json"


def answer(
    run: str,
    prompts: Sequence[str],
    *,
    others: Sequence[str] = (),
    compare: bool = False,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[dict[str, str]]:
    """Answers of the model of `run` (and with `compare` of its base), shown and returned.

    `others` are more updates of the same base (runs or adapter folders): they answer, too, one
    active at a time. The prompts go through the chat template the run was trained with.
    """
    folder = find_run(run, able=has_update)
    cfg, source = config_of(folder)
    base, update = of_run(folder).load(precision_of(cfg).weights, device_of(cfg))
    assert update is not None
    template = template_of(cfg, base)
    ids = [template.prompt([Message("user", prompt)]) for prompt in prompts]

    products = precision_of(cfg).products

    def ask(who: str) -> list[str]:
        with (
            arithmetic(device_of(cfg), products),
            progress(f"{who} answers", total=len(ids)) as advance,
        ):
            return generate(
                update.model,
                base.tokenizer,
                ids,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                stop=[*end_ids(update.model, base.tokenizer), *template.end_ids()],
                advance=advance,
            )

    first = "tuned" if not others else folder.load().run_name
    columns = {first: ask(first)}
    for name in others:
        beside = _beside(update, name, source)
        with cast("PeftUpdate", update).using(beside):
            columns[name] = ask(name)
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


def _beside(update: Update, name: str, source: ModelSource) -> str:
    """Load the update that `name` means beside `update`; returns what it is called there."""
    also = getattr(update, "also", None)
    adapter = Path(name)
    if not (adapter / CONFIG).is_file():
        other = find_model(name)
        if other.source != source:
            raise ConfigError(f"{name} was tuned from {other.source.name}, not from {source.name}.")
        adapter = other.adapter or adapter
    if also is None or not (adapter / CONFIG).is_file():
        raise ConfigError(
            f"{name} and update={update.name} cannot share one base.",
            "Adapters in PEFT's format can (lora, ia3, vera, …); run generate once for each other.",
        )
    if getattr(updates.from_folder(adapter), "moves_base", False):
        raise ConfigError(
            f"{name} changes weights of the base itself, and cannot stand beside another update.",
            f"myosotis evaluate {name} --base MODEL loads it alone.",
        )
    called = re.sub(r"\W", "_", name)
    also(adapter, called)
    return called


def _show(one: dict[str, Any]) -> None:
    """Model text is shown as text: nothing in it is markup."""
    results.print(Panel(Text(one["prompt"]), title="prompt", title_align="left", style="dim"))
    who = [name for name in one if name != "prompt"]
    table = Table(expand=True, show_lines=False)
    for name in who:
        table.add_column(Text(name), ratio=1, overflow="fold")
    table.add_row(*(Text(one[name]) for name in who))
    results.print(table)
