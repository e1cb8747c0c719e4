"""`myosotis export-data`: examples as a hosted service takes them, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis.commands.parts import data_module
from myosotis.config import check
from myosotis.data.services import SERVICES, Price, Service, faults, lines_of
from myosotis.data.sft import ERRORS_SHOWN, Example
from myosotis.data.tokenize import Encoded
from myosotis.utils.atomic_write import replacing
from myosotis.utils.console import results
from myosotis.utils.errors import DataError
from myosotis.utils.escape import terminal
from myosotis.utils.own_files import require_place

PARTS = ("train", "validation")
"""What is written: the test part stays here, for `myosotis evaluate` and a look of one's own."""


def export_data(
    cfg: DictConfig,
    to: str,
    out: Path,
    *,
    price: float | None = None,
    epochs: float = 1.0,
    saved_tokens: float = 0.0,
    call_price: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Write `train.jsonl` and `validation.jsonl` to the folder `out`; returns what was written.

    `price` is that of 1,000 training tokens, `call_price` that of 1,000 tokens of a call to the
    base and to the tuned model, `saved_tokens` what a call to the base has more. Raises `DataError`
    with file and line of every example that the service would not take; nothing is written then.
    """
    check(cfg, here=False)
    require_place(out / "train.jsonl")
    service, module = SERVICES[to], data_module(cfg)
    parts = {part: module.dataset.parts()[part] for part in PARTS}
    module.setup()
    fitted = module.encoded
    _require(parts, fitted, service)
    written = {
        part: str(_write(out / f"{part}.jsonl", examples, service))
        for part, examples in parts.items()
        if examples
    }
    tokens = fitted["train"].tokens
    found: dict[str, Any] = {
        "to": to,
        "files": written,
        "examples": {part: len(examples) for part, examples in parts.items()},
        "tokens": tokens,
        "tokenizer": str(module.template.tokenizer.name_or_path).rpartition("/")[2],
    }
    if price is not None:
        found |= _priced(fitted["train"], price, epochs, saved_tokens, call_price)
    _show(found, epochs)
    return found


def _require(
    parts: dict[str, Sequence[Example]], fitted: dict[str, Encoded], service: Service
) -> None:
    """Raise `DataError` for what the service would refuse, with the place of each."""
    told = [
        f"{example.where}: {fault}"
        for part, examples in parts.items()
        for example, lengths in zip(examples, fitted[part].lengths, strict=True)
        for fault in faults(example, service, sum(lengths))
    ]
    if told:
        shown = told[:ERRORS_SHOWN]
        if rest := len(told) - len(shown):
            shown.append(f"… and {rest} more")
        raise DataError(f"{service.name} does not take these examples:\n" + "\n".join(shown))
    if (count := len(parts["train"])) < service.fewest:
        raise DataError(
            f"{service.name} takes {service.fewest} training examples or more; there are {count}",
            "more data, or a smaller data.val_fraction",
        )


def _write(path: Path, examples: Sequence[Example], service: Service) -> Path:
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        lines_of(examples, service, file.write)
    size = path.stat().st_size
    if service.most_bytes is not None and size > service.most_bytes:
        path.unlink()
        raise DataError(
            f"{path.name} has {size:,} bytes, and {service.name} takes {service.most_bytes:,}",
            "data.train_items=N takes a part",
        )
    return path


def _priced(
    train: Encoded,
    price: float,
    epochs: float,
    saved: float,
    call_price: tuple[float, float] | None,
) -> dict[str, Any]:
    cost = Price(train.tokens, epochs, price)
    found: dict[str, Any] = {"training_price": cost.training}
    if call_price is not None:
        per_call = train.tokens / max(1, train.kept)
        base, tuned = call_price
        found["tokens_per_call"] = per_call
        found["pays_after_calls"] = cost.pays_after(
            call_tokens=per_call, saved_tokens=saved, base_price=base, tuned_price=tuned
        )
    return found


def _show(found: dict[str, Any], epochs: float) -> None:
    for part, path in found["files"].items():
        results.print(terminal(f"{path}: {found['examples'][part]:,} examples"), soft_wrap=True)
    said = f"{found['tokens']:,} training tokens by the tokenizer of this model"
    results.print(f"{said}; the service counts by its own", soft_wrap=True)
    if "training_price" in found:
        results.print(f"training, {epochs:g} epochs: {found['training_price']:,.2f}")
    if "pays_after_calls" in found:
        calls = found["pays_after_calls"]
        told = "never: a call costs no less" if calls is None else f"after {calls:,} calls"
        results.print(f"it pays {told}, of {found['tokens_per_call']:,.0f} tokens each")
