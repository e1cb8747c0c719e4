"""`myosotis export-data`: its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis.cli.arguments import positive
from myosotis.utils.errors import ConfigError

Arguments = argparse.Namespace


def build(
    parser: argparse.ArgumentParser, config: Callable[[Arguments], DictConfig]
) -> tuple[argparse.ArgumentParser, Callable[[Arguments], Any]]:
    """The parser with the arguments, and what runs them; `config` composes their overrides."""
    parser.description = (
        "Write the training and validation examples as JSON Lines that a hosted service takes, "
        "each line held against its published limits; with prices, what training costs there and "
        "after how many calls it pays. Prices are of 1,000 tokens."
    )
    parser.add_argument("--to", required=True, choices=("openai", "together", "hf"))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    amount = positive(float, zero=True)
    parser.add_argument("--price", type=amount, metavar="P", help="of 1,000 training tokens")
    parser.add_argument("--epochs", type=positive(float), default=1.0, help="default: 1")
    parser.add_argument(
        "--saves",
        type=amount,
        default=0.0,
        metavar="TOKENS",
        help="prompt tokens that a call to the base needs and one to the tuned model does not",
    )
    parser.add_argument(
        "--call-price",
        type=amount,
        nargs=2,
        metavar=("BASE", "TUNED"),
        help="of 1,000 tokens of a call, to each of the two",
    )

    def start(parsed: Arguments) -> Any:
        if parsed.call_price and parsed.price is None:
            raise ConfigError("--call-price needs --price: what training costs.")
        cfg = config(parsed)
        from myosotis.commands.export_data import export_data

        return export_data(
            cfg,
            parsed.to,
            parsed.out,
            price=parsed.price,
            epochs=parsed.epochs,
            saved_tokens=parsed.saves,
            call_price=tuple(parsed.call_price) if parsed.call_price else None,
        )

    return parser, start
