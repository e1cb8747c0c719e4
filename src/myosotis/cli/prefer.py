"""`myosotis prefer`: its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from myosotis.cli import arguments
from myosotis.cli.arguments import port, positive, seed
from myosotis.utils.errors import ConfigError

Arguments = argparse.Namespace


def build(
    parser: argparse.ArgumentParser, run_help: str
) -> tuple[argparse.ArgumentParser, Callable[[Arguments], Any]]:
    """The parser with the arguments, and what runs them."""
    parser.description = (
        "Collect preferences: two sampled answers to each prompt, of one run or of two, without "
        "saying whose is which. Choose in the terminal, on a page of this machine (--page), or let "
        "a language model choose in both orders (--judge). Pairs are appended to a file that "
        "data=pairs reads; prompts it has already are skipped."
    )
    parser.add_argument("run", metavar="RUN", help=run_help)
    parser.add_argument("--other", metavar="RUN", help="the run that gives the second answer")
    parser.add_argument(
        "--out", type=Path, default=Path("preferences.jsonl"), metavar="FILE",
        help="file of pairs to append to (default: preferences.jsonl)",
    )  # fmt: skip
    parser.add_argument(
        "--prompts", metavar="FILE",
        help="prompts: a file or hub:OWNER/NAME with a field prompt; by default those of the run",
    )  # fmt: skip
    parser.add_argument(
        "--items", type=positive(int), default=20, metavar="N", help="prompts to ask (default: 20)"
    )
    parser.add_argument(
        "--max-new-tokens", type=positive(int), default=128, metavar="N",
        help="longest answer, in tokens (default: 128)",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", type=positive(float), default=1.0, help="of sampling (default: 1)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the sampling (default: 0)")
    parser.add_argument("--page", action="store_true", help="choose on a page of this machine")
    parser.add_argument(
        "--port", type=port, default=0, metavar="N",
        help="port of that page (default: a free one)",
    )  # fmt: skip
    arguments.judge(parser)
    parser.add_argument(
        "--by", metavar="NAME", help="who chooses, as it is written (default: your user name)"
    )
    parser.set_defaults(overrides=[])

    def start(parsed: Arguments) -> Any:
        if parsed.page and parsed.judge is not None:
            raise ConfigError("prefer takes one of --page and --judge.")
        if parsed.rubric is not None and parsed.judge is None:
            raise ConfigError("--rubric is what a judge goes by: add --judge URL MODEL.")
        from myosotis.commands import prefer, rate

        rubric = {} if parsed.rubric is None else {"rubric": rate.read_rubric(parsed.rubric)}
        return prefer.prefer(
            parsed.run,
            parsed.out,
            other=parsed.other,
            prompts=parsed.prompts,
            items=parsed.items,
            how=prefer.Sampling(parsed.max_new_tokens, parsed.temperature, parsed.seed),
            page=parsed.page,
            port=parsed.port,
            judge=parsed.judge and tuple(parsed.judge),
            key_env=parsed.key_env,
            by=parsed.by,
            **rubric,
        )

    return parser, start
