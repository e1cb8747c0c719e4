"""The arguments of `myosotis runs`, and what it prints: the result on stdout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import line

ACTIONS = ("list", "show", "delete")


def build(
    parser: argparse.ArgumentParser, run_help: str
) -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], Any]]:
    """The parser with its arguments, and the function that they start."""
    parser.description = (
        "List the runs below the current folder, newest first; show one; or delete one, its folder "
        "and its MLflow run, after asking."
    )
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="default: list")
    parser.add_argument("run", nargs="?", metavar="RUN", help=run_help)
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument(
        "--keep-mlflow", action="store_true", help="delete the folder, and leave MLflow as it is"
    )
    parser.set_defaults(overrides=[])
    return parser, _start


def _start(parsed: argparse.Namespace) -> Any:
    if (parsed.action == "list") == (parsed.run is not None):
        wanted = "takes no run" if parsed.action == "list" else "needs a run"
        raise ConfigError(f"runs {parsed.action} {wanted}.", "`myosotis runs` lists them.")
    from myosotis.commands import runs

    if parsed.action == "delete":
        return _delete(parsed)
    if parsed.action == "show":
        found = runs.shown(parsed.run)
        for name, value in found.items():
            _say(name, value)
        return found
    known = runs.listed()
    if known:
        from rich.console import Console

        out = Console(file=sys.stdout, highlight=False)
        out.width = out.width if out.is_terminal else 200
        out.print(runs.table(known))
    else:
        print("There are no runs below this folder: myosotis train makes one.")
    return {"runs": known}


def _say(name: str, value: Any) -> None:
    """A fact in a line; nothing where there is none."""
    from myosotis.commands.runs import shown_size

    if name == "bytes":
        name, value = "size", shown_size(value)
    elif name == "command":
        import shlex

        value = shlex.join(value)
    for one in value if isinstance(value, list) else [value]:
        if one:
            print(f"{name:10} {line(one)}")


def _delete(parsed: argparse.Namespace) -> Any:
    from myosotis.commands import runs

    def agreed(found: dict[str, Any]) -> bool:
        if parsed.yes:
            return True
        if not sys.stdin.isatty():
            raise ConfigError("runs delete asks first, and there is no terminal.", "Add --yes.")
        size = runs.shown_size(found["bytes"])
        what = f"{found['run_name']} ({found['run_id'][:8]}), {size} in {found['out']}"
        return input(f"Delete {line(what)}? [y/N] ").strip().lower() in ("y", "yes")

    done = runs.delete(parsed.run, agreed, keep_mlflow=parsed.keep_mlflow)
    print(f"{'Deleted' if done['deleted'] else 'Kept'} {done['out']}.")
    if done.get("left"):
        print(f"Not of the run, and still there: {line(', '.join(done['left']))}")
    return done
