"""The command `myosotis`: which words start what.

What belongs in this package: reading the command line, turning errors and verdicts into messages
and exit codes, printing results as JSON. What a command does lies in `commands/train.py` and
`commands/plan.py`, and is imported when that command runs: nothing here imports torch.

__init__.py   the table of commands
hydra_app.py      `train`, through `hydra.main`
sweep.py      `sweep`, a multirun by name
multirun.py   what a multirun's jobs do: the ledger
commands.py   the others: their arguments
compare.py    `compare`: its arguments
runs.py       `runs`: its arguments, and what it prints
rate.py       `rate`: its arguments
prefer.py     `prefer`: its arguments
export_data.py  `export-data`: its arguments
arguments.py  the values those take
exit_codes.py    exit codes, messages, JSON
errors.py    Hydra's own errors in plain words, with near matches
help.py   the help screens
completion.py   tab completion
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from myosotis.cli.exit_codes import report
from myosotis.utils import children, trust


class Command(NamedTuple):
    sentence: str
    run: Callable[[list[str]], Any]


def _train(args: list[str]) -> Any:
    from myosotis.cli import hydra_app

    return hydra_app.main(args)


def _sweep(args: list[str]) -> Any:
    from myosotis.cli import sweep

    return sweep.main(args)


def _command(name: str) -> Callable[[list[str]], Any]:
    def start(args: list[str]) -> Any:
        from myosotis.cli import commands

        return commands.main(name, args)

    return start


COMMANDS: dict[str, Command] = {
    "demo": Command("run end to end on the embedded model: start here", _command("demo")),
    "plan": Command("show what a run would do: parameters, memory, steps", _command("plan")),
    "audit": Command("show what the model will read, token by token", _command("audit")),
    "check": Command("try one step of a run, and say what passed", _command("check")),
    "train": Command("fine-tune, and measure what is forgotten; -m: a sweep", _train),
    "sweep": Command("run a study of many runs: sweeps/NAME.yaml", _sweep),
    "evaluate": Command("run the benchmarks on any model, against its base", _command("evaluate")),
    "compare": Command("compare two logs of lm-eval or Inspect, item by item", _command("compare")),
    "generate": Command("print the answers of a run, and of its base", _command("generate")),
    "dial": Command("scale an update down until it is within budget", _command("dial")),
    "recover": Command("ask lost answers again: lost, or only mislaid?", _command("recover")),
    "forecast": Command("say what a run will have lost, by its KL", _command("forecast")),
    "export": Command("write a run out for other tools, and score that", _command("export")),
    "export-data": Command("write examples for a hosted service", _command("export-data")),
    "rate": Command("let people compare answers blindly, and count", _command("rate")),
    "prefer": Command("choose between sampled answers: pairs to learn", _command("prefer")),
    "scorecard": Command("write one HTML page about a run or a sweep", _command("scorecard")),
    "runs": Command("list, show and delete runs", _command("runs")),
    "sync": Command("bring MLflow up to date with the runs on disk", _command("sync")),
    "ui": Command("serve the MLflow pages of your runs", _command("ui")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (the console script leaves with it)."""
    # Large pages for large tensors, before torch is there: a tenth less memory (docs/log.md).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    children.inherit()
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        from myosotis.cli import help

        help.overview({name: command.sentence for name, command in COMMANDS.items()})
        return 0 if args else 2
    if args[0] == "--version":
        from myosotis import __version__

        print(f"myosotis {__version__}")
        return 0
    if args[0] in ("-sc", "--shell-completion", "--shell_completion"):
        from myosotis.cli import completion

        return completion.main(args, list(COMMANDS))
    json = "--json" in args
    rest = [arg for arg in args if arg not in ("--json", trust.FLAG)]
    with trust.word(trust.FLAG in args):
        return report(lambda: _dispatch(rest), json=json)


def _dispatch(args: list[str]) -> Any:
    name, rest = args[0] if args else "", args[1:]
    if name not in COMMANDS:
        from myosotis.utils.did_you_mean import did_you_mean
        from myosotis.utils.errors import ConfigError

        raise ConfigError(
            f"There is no command {name!r}.",
            did_you_mean(name, COMMANDS) or "`myosotis --help` lists the commands.",
        )
    return COMMANDS[name].run(rest)
