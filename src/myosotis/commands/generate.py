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
from myosotis.commands.rewarding import reward_model
from myosotis.data.sft import Example, Message
from myosotis.models.generate import end_ids, generate
from myosotis.models.load import ModelSource
from myosotis.records.find import find_run, has_update
from myosotis.rewards import RewardFunction
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
    best_of: int = 1,
    reward: str | None = None,
) -> list[dict[str, Any]]:
    """Answers of the model of `run` (and with `compare` of its base), shown and returned.

    With `best_of` above 1 so many are sampled, and the one shown to which the reward model of the
    run `reward` gives most; `rewards` then says, by who answered, what that and all of them got.

    `others` are more updates of the same base (runs or adapter folders): they answer, too, one
    active at a time. The prompts go through the chat template the run was trained with.
    """
    folder = find_run(run, able=has_update)
    cfg, source = config_of(folder)
    judge = None if reward is None else reward_model(cfg, reward)
    base, update = of_run(folder).load(precision_of(cfg).weights, device_of(cfg))
    assert update is not None
    template = template_of(cfg, base)
    ids = [template.prompt([Message("user", prompt)]) for prompt in prompts]

    products = precision_of(cfg).products

    got: dict[str, list[dict[str, float]]] = {}

    def ask(who: str) -> list[str]:
        with (
            arithmetic(device_of(cfg), products),
            progress(f"{who} answers", total=best_of * len(ids)) as advance,
        ):
            texts = generate(
                update.model,
                base.tokenizer,
                [prompt for prompt in ids for _ in range(best_of)],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                stop=[*end_ids(update.model, base.tokenizer), *template.end_ids()],
                advance=advance,
            )
        if judge is None:
            return texts
        chosen, got[who] = _best(judge, prompts, texts)
        return chosen

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
        | ({"rewards": {who: told[i] for who, told in got.items()}} if got else {})
        for i, prompt in enumerate(prompts)
    ]
    for one in found:
        _show(one)
    return found


def _best(
    judge: RewardFunction, prompts: Sequence[str], texts: Sequence[str]
) -> tuple[list[str], list[dict[str, float]]]:
    """Of the answers to each prompt, in a row, the one that is worth most; and what it is worth,
    beside the mean of how many."""
    size = len(texts) // len(prompts)
    chosen, told = [], []
    for k, prompt in enumerate(prompts):
        own = texts[k * size : (k + 1) * size]
        asked = Example((Message("user", prompt), Message("assistant", "")), "--prompt")
        rewards = judge([asked] * size, own)
        chosen.append(own[int(rewards.argmax())])
        told.append({"best": float(rewards.max()), "mean": float(rewards.mean()), "of": size})
    return chosen, told


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
    rewards = one.get("rewards", {})
    who = [name for name in one if name not in ("prompt", "rewards")]
    table = Table(expand=True, show_lines=False)
    for name in who:
        title = name
        if (told := rewards.get(name)) is not None:
            title += (
                f": reward {told['best']:.2f}, the best of {told['of']} (mean {told['mean']:.2f})"
            )
        table.add_column(Text(title), ratio=1, overflow="fold")
    table.add_row(*(Text(one[name]) for name in who))
    results.print(table)
