"""Values of command-line arguments, with what is wrong in words."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST = 1_000_000_000


def positive(kind: type[Any], *, zero: bool = False) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = kind(text)
        if not (0 < value <= MOST or (zero and value == 0)):
            raise argparse.ArgumentTypeError(
                f"must be {'at least' if zero else 'above'} 0 and at most {MOST:,}, not {text[:40]}"
            )
        return value

    read.__name__ = kind.__name__
    return read


def share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value


def strength(text: str) -> float:
    value = float(text)
    if not -MOST <= value <= MOST:
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text[:40]}")
    return value


def seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**32 - 1, not {text[:40]}")
    return value


def port(text: str) -> int:
    value = int(text)
    if not 0 < value < 65536:
        raise argparse.ArgumentTypeError(f"must be from 1 to 65535, not {text}")
    return value


def page_format(parser: argparse.ArgumentParser) -> None:
    """`--format` of a command that writes a scorecard."""
    parser.add_argument(
        "--format",
        choices=("html", "md", "json", "csv"),
        help="default: by the ending of --out, else html",
    )


def judge(parser: argparse.ArgumentParser) -> None:
    """What a command takes that can ask a language model to compare answers."""
    parser.add_argument(
        "--judge",
        nargs=2,
        metavar=("URL", "MODEL"),
        help="an OpenAI-compatible server (up to /v1), and the name of a model there",
    )
    parser.add_argument("--rubric", type=Path, metavar="FILE", help="what the judge is to go by")
    parser.add_argument(
        "--key-env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable that holds the key of the server (default: OPENAI_API_KEY)",
    )
