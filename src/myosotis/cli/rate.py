"""`myosotis rate`: its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from myosotis.cli import arguments
from myosotis.utils.errors import ConfigError

Arguments = argparse.Namespace


def build(
    parser: argparse.ArgumentParser, run_help: str
) -> tuple[argparse.ArgumentParser, Callable[[Arguments], Any]]:
    """The parser with the arguments, and what runs them."""
    parser.description = (
        "Let people compare the answers of base and tuned model without knowing which is whose. "
        "Writes a sheet (.csv, or a .html page that works by itself); with --read, takes the "
        "sheets back: win rate and agreement with intervals, kept in the run's record. With "
        "--judge, a language model compares them, in both orders."
    )
    parser.add_argument("run", metavar="RUN", help=run_help)
    parser.add_argument("--out", type=Path, metavar="FILE", help="sheet to write: .csv or .html")
    parser.add_argument(
        "--read", type=Path, nargs="+", metavar="FILE", help="filled-in sheets, one of each rater"
    )
    arguments.judge(parser)
    parser.add_argument(
        "--refusals",
        action="store_true",
        help="ask the judge which answers of a run with retention=safety refuse",
    )
    parser.set_defaults(overrides=[])

    def start(parsed: Arguments) -> Any:
        if [parsed.out, parsed.read, parsed.judge].count(None) != 2:
            raise ConfigError("rate takes one of --out FILE, --read FILE and --judge URL MODEL.")
        from myosotis.commands import rate

        if parsed.refusals and parsed.judge is None:
            raise ConfigError("--refusals asks a judge: add --judge URL MODEL.")
        if parsed.refusals:
            return rate.judge_refusals(parsed.run, *parsed.judge, key_env=parsed.key_env)
        if parsed.judge is not None:
            given = {"rubric": parsed.rubric, "key_env": parsed.key_env}
            return rate.judge(parsed.run, *parsed.judge, **given)

        if parsed.out is not None:
            return rate.write(parsed.run, parsed.out)
        return rate.read(parsed.run, parsed.read)

    return parser, start
