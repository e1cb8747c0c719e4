"""`myosotis export-data`: examples as a hosted service takes them, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.text import Text

from myosotis.commands.parts import data_module
from myosotis.config import check
from myosotis.data.datamodule import left_aside
from myosotis.data.services import SERVICES, Price, Service, faults, learned_of_last, lines_of
from myosotis.data.sft import ERRORS_SHOWN, Example
from myosotis.data.template_text import TemplateOptions
from myosotis.data.tokenize import Encoded
from myosotis.utils.atomic_write import replacing
from myosotis.utils.console import console, results
from myosotis.utils.errors import ConfigError, DataError
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
    `data.mask` and `data.reasoning` decide what is learned, as in a training.
    """
    check(cfg, here=False)
    require_place(out / "train.jsonl")
    service, module = SERVICES[to], data_module(cfg)
    if cfg.data.mask == "full":
        raise ConfigError(
            f"data.mask=full: {service.name} learns answers, and reads what is before them.",
            "data.mask=answers or last.",
        )
    module.setup()
    parts = {
        part: [_as_learned(example, module.template.options) for example in whole]
        for part, whole in module.dataset.parts().items()
        if part in PARTS
    }
    fitted = module.encoded
    last = learned_of_last([example for part in parts.values() for example in part])
    _require(parts, fitted, service, last)
    for warning in left_aside(module.dataset.manifest):
        console.print(Text(f"! {warning}", "yellow"))
    written = {
        part: str(_write(out / f"{part}.jsonl", examples, service, last))
        for part, examples in parts.items()
        if examples
    }
    tokens = _tokens(fitted["train"])
    found: dict[str, Any] = {
        "to": to,
        "files": written,
        "examples": {part: len(examples) for part, examples in parts.items()},
        "tokens": tokens,
        "tokenizer": str(module.template.tokenizer.name_or_path).rpartition("/")[2],
    }
    if price is not None:
        found |= _priced(tokens, len(parts["train"]), price, epochs, saved_tokens, call_price)
    if to == "hf" and not last:
        found["train_with"] = "assistant_only_loss=True"
    _show(found, epochs)
    return found


def _as_learned(example: Example, options: TemplateOptions) -> Example:
    """The example with what `data.mask` and `data.reasoning` leave of it to be learned."""
    if not example.completion_only:
        return example
    turns, _ = options.prepared(example.messages)
    told = replace(example, messages=tuple(turns))
    if example.rejected is None:
        return told
    worse = options.prepared(example.with_rejected().messages)[0][-1]
    turn = None if example.rejected_turn is None else worse
    return replace(told, rejected=worse.content, rejected_turn=turn)


def _tokens(read: Encoded) -> int:
    """Of all examples that are written, however long; of a pair, the prompt once and both sides."""
    return sum(map(sum, read.lengths))


def _require(
    parts: dict[str, list[Example]], fitted: dict[str, Encoded], service: Service, last: bool
) -> None:
    """Raise `DataError` for what the service would refuse, with the place of each."""
    told = [
        f"{example.where}: {fault}"
        for part, examples in parts.items()
        for example, lengths in zip(examples, fitted[part].lengths, strict=True)
        for fault in faults(example, service, sum(lengths), last=last)
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


def _write(path: Path, examples: Sequence[Example], service: Service, last: bool) -> Path:
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        lines_of(examples, service, file.write, last=last)
    size = path.stat().st_size
    if service.most_bytes is not None and size > service.most_bytes:
        path.unlink()
        raise DataError(
            f"{path.name} has {size:,} bytes, and {service.name} takes {service.most_bytes:,}",
            "data.train_items=N takes a part",
        )
    return path


def _priced(
    tokens: int,
    examples: int,
    price: float,
    epochs: float,
    saved: float,
    call_price: tuple[float, float] | None,
) -> dict[str, Any]:
    cost = Price(tokens, epochs, price)
    found: dict[str, Any] = {"training_price": cost.training}
    if call_price is not None:
        per_call = tokens / max(1, examples)
        base, tuned = call_price
        found["tokens_per_call"] = per_call
        found["pays_after_calls"] = cost.pays_after(
            call_tokens=per_call, saved_tokens=saved, base_price=base, tuned_price=tuned
        )
    return found


def _show(found: dict[str, Any], epochs: float) -> None:
    if "train_with" in found:
        said = f"several answers of a conversation are learned: train with {found['train_with']}"
        results.print(said, soft_wrap=True)
    for part, path in found["files"].items():
        results.print(terminal(f"{path}: {found['examples'][part]:,} examples"), soft_wrap=True)
    said = f"{found['tokens']:,} training tokens by the tokenizer of this model"
    results.print(f"{said}; the service counts by its own", soft_wrap=True)
    if "training_price" in found:
        cost = found["training_price"]
        shown = f"{cost:,.2f}" if cost >= 1 or cost == 0 else f"{cost:.2g}"
        results.print(f"training, {epochs:g} epochs: {shown}")
    if "pays_after_calls" in found:
        calls = found["pays_after_calls"]
        told = "never: a call costs no less" if calls is None else f"after {calls:,} calls"
        results.print(f"it pays {told}, of {found['tokens_per_call']:,.0f} tokens each")
