"""The arguments of `myosotis compare`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from myosotis.cli.arguments import page_format, share
from myosotis.utils.errors import ConfigError

SETTINGS, BUDGET = "retention.", ("retention.budget=", "retention.accept=")
"""What a word that is no log begins with, and one that sets the budget."""


def build(
    parser: argparse.ArgumentParser, config: Callable[[argparse.Namespace], Any]
) -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], Any]]:
    """The parser with its arguments, and the function that they start; `config` composes."""
    parser.description = (
        "Compare two logs of evaluations that exist, item by item: A is the base, B the tuned "
        "model. A log is a folder or file that lm-eval (--log_samples) or Inspect wrote, a run "
        "(RUN is its tuned model, RUN#base its base), its retention_items.parquet, or a .csv or "
        ".jsonl with the columns item and score (and task, cluster, text). With one RUN its base "
        "and its tuned model are compared. No model is loaded."
    )
    parser.add_argument(
        "logs",
        nargs="+",
        metavar="LOG",
        help="A and B, or one run; beside them settings of the budget, as retention.budget=0.02",
    )
    parser.add_argument(
        "--budget",
        type=share,
        metavar="SHARE",
        help="share of the base's score that may be lost (default: 0.05, or the run's own)",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="what the verdict rests on; may be repeated: the first that a task has "
        "(default: acc_norm, acc, exact_match, or the only one)",
    )
    parser.add_argument(
        "--cluster",
        metavar="KEY",
        help="key of the documents, or column, that tells which items belong together "
        "(default: subjects of a group, shared passages, the column cluster)",
    )
    parser.add_argument(
        "--common",
        action="store_true",
        help="compare the tasks and items that both have; what is left out is named",
    )
    parser.add_argument(
        "--other-setup",
        action="store_true",
        help="compare although prompts, numbers of examples or task versions differ",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="page to write (default: compare-A-B.html in this folder, by the models' names)",
    )
    page_format(parser)
    parser.add_argument(
        "--gate",
        action="store_true",
        help="exit with code 3 when forgotten, 4 when not shown to be within the budget",
    )
    parser.set_defaults(overrides=[], config_name="train", config_dir=None)

    def start(parsed: argparse.Namespace) -> Any:
        return _start(parsed, config)

    return parser, start


def _start(parsed: argparse.Namespace, config: Callable[[argparse.Namespace], Any]) -> Any:
    words = [word for word in parsed.logs if not word.startswith(SETTINGS)]
    given = [word for word in parsed.logs if word.startswith(SETTINGS)]
    if len(words) not in (1, 2):
        raise ConfigError(
            f"compare takes two logs or one run, not {len(words)}.",
            "`myosotis compare --help` says what a log can be.",
        )
    typed = [*words, *given]
    if parsed.budget is not None:
        given.append(f"retention.budget={parsed.budget}")
    if parsed.gate:
        given.append("retention.gate=true")
    parsed.overrides = given
    cfg = config(parsed)
    from myosotis.cli.hydra_app import gated
    from myosotis.commands.compare import Wishes, compare
    from myosotis.records.codec import plain

    wishes = Wishes(
        metrics=parsed.metric,
        cluster=parsed.cluster,
        common=parsed.common,
        other_setup=parsed.other_setup,
        own_budget=not any(word.startswith(BUDGET) for word in given),
        out=parsed.out,
        format=parsed.format,
        command=["compare", *typed, *_flags(parsed)],
    )
    record, page = compare(words, cfg, wishes)
    return gated({**plain(record), "scorecard": str(page)}, record.suite_verdict, cfg)


def _flags(parsed: argparse.Namespace) -> list[str]:
    """The options as they were given, for the record."""
    found = [f"--budget={parsed.budget}"] if parsed.budget is not None else []
    found += [f"--metric={name}" for name in parsed.metric]
    found += [f"--cluster={parsed.cluster}"] if parsed.cluster is not None else []
    found += ["--common"] if parsed.common else []
    found += ["--other-setup"] if parsed.other_setup else []
    return found
