"""The help screens: the commands, and for `train` the groups and the keys with their sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# Help was asked for, so it is a result and goes to stdout.
out = Console(highlight=False, soft_wrap=False)

COMMENTED = r"^(\w+):[^#\n]*#\s*(\S.*)$"

EXAMPLES = (
    ("myosotis demo", "about ten minutes on two CPU cores"),
    ("myosotis plan data=jsonl data.path=mine.jsonl", "what would run"),
    ("myosotis train data=jsonl data.path=mine.jsonl", "tune, watch, record"),
    ("myosotis train -m update.r=4,16,64", "a run for each value"),
    ("myosotis generate last --prompt 'Hello' --compare", "base and tuned side by side"),
)


def overview(commands: Mapping[str, str]) -> None:
    """`myosotis --help`."""
    out.print("[bold]myosotis[/]: fine-tune a language model, and see what it forgets.\n")
    out.print("Usage: myosotis COMMAND \\[key=value …] \\[--json]\n")
    _rows([(name, sentence) for name, sentence in commands.items()])
    out.print("\nExamples")
    for command, what in EXAMPLES:
        out.print(Padding(Text(f"# {what}", "dim"), (0, 2)))
        out.print(Padding(Text(command, "cyan"), (0, 2)))
    out.print("\n`myosotis COMMAND --help` tells more; `myosotis train --help` lists every key.")
    out.print('Tab completion: eval "$(myosotis -sc install=bash)" (fish: install=fish).')
    out.print("Exit codes: 0 done, 2 bad input, 1 anything else; with retention.gate=true")
    out.print("3 when the model forgot and 4 when that is not settled.")


def _rows(rows: list[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)


def train(args: list[str]) -> None:
    """`myosotis train --help`, for the choices already made in `args`."""
    from myosotis.cli.errors import explained
    from myosotis.config.compose import compose, groups

    overrides = [arg for arg in args if "=" in arg and not arg.startswith("-")]
    try:
        cfg = compose(overrides)
        choices = groups()
    except Exception as error:
        if (told := explained(error, args)) is not None:
            raise told from None
        raise
    out.print("Usage: myosotis train \\[key=value …] \\[-m] \\[--json] \\[Hydra's flags]\n")
    out.print("[bold]Groups[/]: choose with group=option\n")
    _rows([(group, ", ".join(options)) for group, options in choices.items()])
    out.print("\n[bold]Keys[/]: override with group.key=value; shown with what you would get\n")
    for group, rows in _keys(cfg).items():
        _group(group, rows)
    out.print("\n-m runs every combination of values given with commas. --cfg job prints the")
    out.print("config, --info how it was found, -cd DIR adds your own config folder,")
    out.print("--hydra-help lists the rest.")


def _group(name: str, rows: list[tuple[str, str, str]]) -> None:
    """One group: a line a key, its sentence beside it where that fits."""
    out.print(Text(name or "at the top level", "bold"))
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2), expand=True)
    table.add_column(width=33, overflow="fold")
    table.add_column(style="dim", ratio=1)
    for key, value, sentence in rows:
        table.add_row(Text.assemble((key, "cyan"), "=", value), Text(sentence))
    out.print(table)


def _keys(cfg: Any) -> dict[str, list[tuple[str, str, str]]]:
    """By group ("" for the root): key, value and sentence of every leaf of the composed config."""
    from omegaconf import DictConfig

    from myosotis.config.schema import Config, sentences

    said = _commented(list(cfg)) | sentences(Config)
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name in cfg:
        node = cfg._get_node(name)
        if not isinstance(node, DictConfig):
            groups.setdefault("", []).append((name, _shown(node), said.get(name, "")))
            continue
        for key in node:
            child = node._get_node(key)
            if isinstance(child, DictConfig) and "_target_" in child:
                continue  # what the keys beside it are handed to
            row = (str(key), _shown(child), said.get(f"{name}.{key}", ""))
            groups.setdefault(str(name), []).append(row)
    return groups


def _commented(groups: list[str]) -> dict[str, str]:
    """What the comments behind the keys of our YAML files say, by dotted key."""
    found: dict[str, str] = {}
    conf = resources.files("myosotis.conf")
    for group in groups:
        folders = [conf / group, conf / group / "common"]
        files = [f for folder in folders if folder.is_dir() for f in folder.iterdir()]
        for file in files:
            if file.name.endswith(".yaml"):
                for key, text in re.findall(COMMENTED, file.read_text(), re.MULTILINE):
                    found.setdefault(f"{group}.{key}", text)
    return found


def _shown(node: Any) -> str:
    from omegaconf import OmegaConf

    if OmegaConf.is_config(node):
        value = OmegaConf.to_container(node, resolve=False)
    else:
        value = node._value()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
