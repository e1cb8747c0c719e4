"""Writes the pages of `docs/reference/` that follow from the code: config.md, cli.md, files.md.

    python docs/generate.py           write them
    python docs/generate.py --check   fail when one of them is not what would be written

Every sentence comes from where the thing itself is: the schema's fields, the comments of the YAML
files in `conf/`, the help of the command line, the first sentence of each module.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING as NOTHING
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import patch

from omegaconf import MISSING, DictConfig, OmegaConf

from myosotis.cli import COMMANDS, main
from myosotis.config import compose
from myosotis.config.schema import Config

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
PAGES = ROOT / "docs" / "reference"
MADE = "<!-- Written by docs/generate.py; do not edit. To write it anew, run that. -->"

# The order in which a newcomer meets the groups.
GROUPS = (
    "model", "data", "method", "update", "objective", "reward", "control", "optimizer", "schedule",
    "trainer", "retention", "task", "plan", "sweep", "experiment",
)  # fmt: skip
LIKE_THE_OTHERS = ("hydra",)  # Hydra's own groups


# ---------------------------------------------------------------------------- reading


def groups() -> list[str]:
    """The config groups, in the order of the page."""
    found = {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {*LIKE_THE_OTHERS}
    found = {name for name in found if options(name)}
    sections = {field.name for field in fields(Config) if is_dataclass(section(field.name))}
    known = [name for name in GROUPS if name in found | sections]
    return [*known, *sorted(found - {*known})]


def section(name: str) -> Any:
    """The type of a part of the schema."""
    return get_type_hints(Config).get(name)


def options(group: str) -> list[Path]:
    """The files of a group, one an option."""
    return sorted((CONF / group).glob("*.yaml"))


def about(path: Path) -> str:
    """What the comment at the top of an option says."""
    said: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#")
        if text.strip() == "@package _global_":
            continue
        if text.startswith("   "):  # an example below the sentence
            break
        said.append(text.strip())
    return " ".join(said)


def comments(group: str, option: str) -> dict[str, str]:
    """By key: what stands behind it in an option's own file, else in another of its group."""
    found: dict[str, str] = {}
    own = CONF / group / f"{option}.yaml"
    files = [own, *sorted((CONF / group / "common").glob("*.yaml")), *options(group)]
    for path in files:
        for key, text in re.findall(
            r"^(?:  )?(\w+):[^#\n]*#\s*(\S.*)$", path.read_text("utf-8"), re.M
        ):
            found.setdefault(key, text)
    return found


def shown(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def type_of(hint: Any) -> str:
    """A type in words: `int or null`."""
    text = hint.__name__ if isinstance(hint, type) and "[" not in str(hint) else str(hint)
    names = [part.strip() for part in text.split("|")]
    return " or ".join({"None": "null", "Any": "number or mapping"}.get(n, n) for n in names)


def default_of(field: Field[Any]) -> Any:
    if field.default_factory is not NOTHING:
        return field.default_factory()
    return field.default


# ---------------------------------------------------------------------------- configuration


def config_page() -> Iterator[str]:
    yield "# Configuration"
    yield MADE
    yield (
        "Every key of a run, with its type, its default and what it means. A key is set on the "
        "command line as `group.key=value`, and an option of a group is chosen as `group=option`: "
        "`myosotis train method=full optimizer.lr=5e-5`. `myosotis train --help` prints the same "
        "for the choices you have made, and `myosotis train --cfg job` the whole configuration."
    )
    yield "## At the top level"
    rows = [
        (field.name, type_of(get_type_hints(Config)[field.name]), default_of(field), said(field))
        for field in fields(Config)
        if said(field)
    ]
    yield table(("key", "type", "default", "meaning"), map(as_row, rows))
    for group in groups():
        yield from group_section(group)


def said(field: Field[Any]) -> str:
    return str(field.metadata.get("help", ""))


def group_section(group: str) -> Iterator[str]:
    yield f"## {group}"
    files = options(group)
    if len(files) > 1 or (files and not is_dataclass(section(group))):
        rows = [(f"`{group}={path.stem}`", about(path)) for path in files]
        yield table(("option", "what it is"), rows)
    if is_dataclass(kind := section(group)) and isinstance(kind, type):
        yield schema_keys(group, kind)
    elif group in {field.name for field in fields(Config)}:
        yield from own_keys(group, [path.stem for path in files])


def own_keys(group: str, names: list[str]) -> Iterator[str]:
    """The keys that all options share, then those of each."""
    keys = {name: {row[0]: row for row in yaml_keys(group, name)} for name in names}
    every, *rest = [set(map(str, rows.values())) for rows in keys.values()]
    shared = every.intersection(*rest) if rest else set()
    first = [row for row in next(iter(keys.values())).values() if str(row) in shared]
    head = ("key", "type", "default", "meaning")
    if first:
        yield f"### Every `{group}=`"
        yield table(head, map(as_row, first))
    for name, rows in keys.items():
        if left := [row for row in rows.values() if str(row) not in shared]:
            yield f"### {group}={name}"
            yield table(head, map(as_row, left))


def schema_keys(group: str, kind: type) -> str:
    hints = get_type_hints(kind)
    usual = OmegaConf.to_container(compose()[group], throw_on_missing=False)
    assert isinstance(usual, dict)
    rows = []
    for field in fields(kind):
        default = default_of(field)
        if isinstance(default, str) and default == MISSING:  # each option gives one
            default = usual.get(field.name)
        rows.append((f"{group}.{field.name}", type_of(hints[field.name]), default, said(field)))
    return table(("key", "type", "default", "meaning"), map(as_row, rows))


def yaml_keys(group: str, option: str) -> list[tuple[str, str, Any, str]]:
    """Keys of an option that comes with its own: type of the default, default, comment."""
    node = compose([f"{group}={option}"])[group]
    told, rows = comments(group, option), []
    if group in ("control", "reward"):  # entries by name, each with keys of its own
        return [
            (f"{group}.{name}.{key}", type(value).__name__, value, told.get(str(key), ""))
            for name, entry in node.items()
            for key, value in entry.items()
            if key != "_target_"
        ]
    for key in node:
        child = node._get_node(key)
        if key in ("name", "_target_") or (isinstance(child, DictConfig) and "_target_" in child):
            continue
        value = OmegaConf.to_container(child) if OmegaConf.is_config(child) else child._value()
        kind = "null" if value is None else type(value).__name__
        rows.append((f"{group}.{key}", kind, value, told.get(str(key), "")))
    return rows


def as_row(row: tuple[str, str, Any, str]) -> tuple[str, str, str, str]:
    key, kind, default, sentence = row
    return f"`{key}`", kind, f"`{shown(default)}`", sentence


# ---------------------------------------------------------------------------- command line

CODES = (
    ("0", "Done; with `retention.gate=true`, the verdict is inside the budget."),
    ("1", "Something failed: a trial of a sweep, or a bug, which shows its traceback."),
    ("2", "The configuration or an input is wrong. A message says what would be right."),
    ("3", "With `retention.gate=true`: the verdict is *forgotten*."),
    (
        "4",
        "With `retention.gate=true`: not shown to be within budget (*slipped*, *inconclusive*).",
    ),
    ("130, 143", "Stopped by Ctrl-C or SIGTERM, after the step, with a checkpoint written."),
)

HYDRA = {
    "train": (
        ("`key=value`", "Overrides of the configuration; see [Configuration](config.md)."),
        ("`-m`, `--multirun`", "A run for every combination of values given with commas."),
        ("`-cd DIR`", "A folder with config files of your own, searched first."),
        ("`-cn NAME`", "Another primary config than `train`."),
        ("`--cfg job`", "Print the configuration and run nothing."),
        ("`--info`", "Print how Hydra found the configuration."),
        ("`--help`", "Every group and key, for the choices made so far."),
    ),
    "sweep": (
        ("`NAME`", "A study: `sweeps/NAME.yaml`, one that comes with myosotis, or a path to one."),
        ("`key=value`", "Overrides, as for `train`; `hydra.sweep.dir=DIR` names the folder."),
    ),
}


def cli_page() -> Iterator[str]:
    yield "# Command line"
    yield MADE
    yield (
        "Every command takes `--json`: the result is one JSON document on stdout, and everything "
        "else goes to stderr. `RUN` is the id of a run, a unique prefix of it, its name, its "
        "folder, or `last`."
    )
    yield table(
        ("command", "what it does"),
        [(f"[`myosotis {name}`](#myosotis-{name})", c.sentence) for name, c in COMMANDS.items()],
    )
    yield "## Exit codes"
    yield table(("code", "meaning"), CODES)
    yield "## Tab completion"
    yield '```bash\neval "$(myosotis -sc install=bash)"\n```'
    for name in COMMANDS:
        yield f"## myosotis {name}"
        if name in HYDRA:
            yield table(("argument", "meaning"), HYDRA[name])
            continue
        parser = parser_of(name)
        yield str(parser.description)
        rows = [
            (f"`{usage(action)}`", told(action))
            for action in parser._actions
            if "--help" not in action.option_strings and "--json" not in action.option_strings
        ]
        if rows:
            yield table(("argument", "meaning"), rows)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser whose help `myosotis NAME --help` prints."""
    found: list[argparse.ArgumentParser] = []

    def kept(self: argparse.ArgumentParser, file: Any = None) -> None:
        found.append(self)

    quiet = contextlib.redirect_stdout(io.StringIO())
    with patch.object(argparse.ArgumentParser, "print_help", kept), quiet:
        main([name, "--help"])
    return found[0]


def usage(action: argparse.Action) -> str:
    taken = action.metavar or ""
    if action.choices:
        taken = "|".join(map(str, action.choices))
    elif action.option_strings and action.nargs != 0 and not taken:
        taken = action.dest.upper()
    return " ".join(filter(None, [", ".join(action.option_strings), str(taken)]))


def told(action: argparse.Action) -> str:
    sentence = action.help or ""
    if action.default in (None, False, [], argparse.SUPPRESS) or "default" in sentence:
        return sentence
    return f"{sentence} (default: {action.default})".strip()


# ---------------------------------------------------------------------------- files

# The order of the house: a package imports only those before it (docs/architecture.md).
PACKAGES = (
    "utils", "records", "tracking", "trees", "updates", "models", "data", "objectives",
    "retention", "evaluation", "training", "report", "config", "commands", "cli",
)  # fmt: skip


def files_page() -> Iterator[str]:
    yield "# Every file"
    yield MADE
    yield (
        "The packages of `src/myosotis` in their order (a package imports only those before it; "
        "see [Architecture](../architecture.md)), and the first sentence of every file in them."
    )
    for package in PACKAGES:
        folder = ROOT / "src" / "myosotis" / package
        yield f"## {package}/"
        yield first_sentence(folder / "__init__.py")
        inside = sorted(p for p in folder.rglob("*.py") if p.name != "__init__.py")
        inside.sort(key=lambda path: path.relative_to(folder).parent.parts)
        rows = [(f"`{path.relative_to(folder)}`", first_sentence(path)) for path in inside]
        yield table(("file", "what is in it"), rows)


def first_sentence(path: Path) -> str:
    """Of a module's docstring, up to the first blank line, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


# ---------------------------------------------------------------------------- writing


def table(head: tuple[str, ...], rows: Any) -> str:
    """A Markdown table; a bar inside a cell is written as an entity, also inside code."""
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(c) for c in row) + " |" for row in cells)


def cell(text: str) -> str:
    text = " ".join(str(text).split())
    return text.replace("|", "\\|")


def written() -> dict[Path, str]:
    pages = {"config.md": config_page(), "cli.md": cli_page(), "files.md": files_page()}
    return {PAGES / name: "\n\n".join(parts) + "\n" for name, parts in pages.items()}


def run(check: bool) -> int:
    stale = []
    for path, text in written().items():
        if check and (not path.exists() or path.read_text("utf-8") != text):
            stale.append(path.relative_to(ROOT))
        elif not check:
            path.write_text(text, "utf-8")
            print(path.relative_to(ROOT))
    if stale:
        names = ", ".join(map(str, stale))
        print(f"stale: {names}; write it anew: python docs/generate.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--check", action="store_true", help="write nothing; fail when stale")
    sys.exit(run(arguments.parse_args().check))
