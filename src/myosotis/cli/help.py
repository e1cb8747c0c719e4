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

COMMENTED = r"^(?:  )?(\w+):[^#\n]*#\s*(\S.*)$"

NAMED = ("control", "reward")  # groups of entries by name, each with keys of its own

EXAMPLES = (
    ("myosotis demo", "end to end on the embedded model; ten to fifteen minutes on two CPU cores"),
    ("myosotis plan data=jsonl data.path=mine.jsonl", "show what a run on your data would do"),
    (
        "myosotis train data=jsonl data.path=mine.jsonl",
        "fine-tune on your data, and measure what is forgotten",
    ),
    ("myosotis train -m update.r=4,16,64", "one run per value"),
    (
        "myosotis generate last --prompt 'Hello' --compare",
        "the answers of base and tuned model side by side",
    ),
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
    out.print(
        "\n`myosotis COMMAND --help` explains a command; `myosotis train --help` lists every key."
    )
    out.print('Tab completion: eval "$(myosotis -sc install=bash)" (fish: install=fish).')
    out.print(
        "Exit codes: 0 success, 2 bad input, 1 any other error. With retention.gate=true: 3 when"
    )
    out.print("the model has forgotten, 4 when it is not shown to be within its budget.")


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
    out.print("[bold]Groups[/]: choose an option with group=option\n")
    _rows([(group, ", ".join(options)) for group, options in choices.items()])
    out.print(
        "\n[bold]Keys[/]: change one with group.key=value; the values shown are the present ones\n"
    )
    for group, rows in _keys(cfg).items():
        _group(group, rows)
    out.print("\nYour own data: data=jsonl data.path=FILE (pairs: data=pairs, graded answers:")
    out.print("data=graded); `myosotis train data=jsonl --help` lists the keys for it.")
    out.print("-m runs every combination of values given with commas. --cfg job prints the")
    out.print("config, --info shows how it was composed, -cd DIR adds a config folder of your own,")
    out.print("--hydra-help lists Hydra's other flags.")
    out.print("--trust lets a run that came from elsewhere, and task files, run their code.")


def _group(name: str, rows: list[tuple[str, str, str]]) -> None:
    """One group: a line per key, its sentence beside it where that fits."""
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

    said = _commented(cfg) | sentences(Config)
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name in cfg:
        node = cfg._get_node(name)
        if not isinstance(node, DictConfig):
            groups.setdefault("", []).append((name, _shown(node), said.get(name, "")))
            continue
        for key in node:
            child = node._get_node(key)
            if name in NAMED and isinstance(child, DictConfig):
                rows = [
                    (f"{key}.{own}", _shown(child._get_node(own)), said.get(f"{key}.{own}", ""))
                    for own in child
                    if own != "_target_"
                ]
                groups.setdefault(str(name), []).extend(rows)
                continue
            if isinstance(child, DictConfig) and "_target_" in child:
                continue  # what the keys beside it are handed to
            row = (str(key), _shown(child), said.get(f"{name}.{key}", ""))
            groups.setdefault(str(name), []).append(row)
    return groups


def _commented(cfg: Any) -> dict[str, str]:
    """What the comments behind the keys of our YAML files say, by dotted key.

    Where options share a key, the chosen one has the word, then what is common to all.
    """
    found: dict[str, str] = {}
    conf = resources.files("myosotis.conf")
    for group in map(str, cfg):
        node = cfg._get_node(group)
        chosen = f"{node.get('name')}.yaml" if hasattr(node, "keys") else ""
        folders = [conf / group / "common", conf / group]
        files = [f for folder in folders if folder.is_dir() for f in _by_name(folder)]
        files.sort(key=lambda file: file.name != chosen)
        for file in files:
            if file.name.endswith(".yaml"):
                where = file.name.removesuffix(".yaml") if group in NAMED else group
                for key, text in re.findall(COMMENTED, file.read_text(), re.MULTILINE):
                    found.setdefault(f"{where}.{key}", text)
    return found


def _by_name(folder: Any) -> list[Any]:
    return sorted(folder.iterdir(), key=lambda file: file.name)


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
