"""`myosotis export`: a run written out for others, and scored again from what was written.

An adapter for PEFT, whole merged weights, or a LoRA of given rank out of a full run. Whether an
export is good is not assumed: the folder is loaded as any tool would load it, and held against the
base on the run's own benchmarks and budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import open_dict
from torch import Tensor

from myosotis.commands.evaluate import evaluate
from myosotis.commands.find_model import base_facts, config_of, of_run
from myosotis.commands.parts import device_of, precision_of
from myosotis.commands.template_file import carry_template
from myosotis.models.load import BaseModel, load_base_model
from myosotis.records.find import find_run, has_update
from myosotis.records.run_folder import RunFolder, new_folder_named
from myosotis.report.model_card import model_card
from myosotis.updates.base import Update, portable
from myosotis.updates.full import FullUpdate
from myosotis.updates.lora import LoraUpdate
from myosotis.updates.target_modules import linear_names
from myosotis.utils.atomic_write import write_text
from myosotis.utils.console import console
from myosotis.utils.device import float64
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import terminal
from myosotis.utils.own_files import refuse_link, require_place


def export(
    run: str,
    to: str,
    *,
    rank: int | None = None,
    alpha: float = 1.0,
    out: Path | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """Write run `run` as `to` and score the folder; returns where it is and what was found.

    `alpha` dials the update (adapter and merged), `base` is what the result names as its base model
    (default: the hub's name of it, where the run knows one). Raises `ConfigError` for a form that
    the update does not have, or a folder that is not empty.
    """
    folder = find_run(run, able=has_update)
    cfg, source = config_of(folder)
    out = out or folder.path / f"export-{to}"
    refuse_full(out)
    if (to == "lora") != (rank is not None):
        raise ConfigError("--to lora needs --rank, and no other form takes it.")
    if alpha != 1 and to == "lora":
        raise ConfigError("--alpha works with --to merged and --to adapter only.")
    subject = of_run(folder)
    if subject.start is not None and to != "merged":
        raise ConfigError(
            f"--to {to} would leave out the tuned model that the run started from "
            f"({cfg.model.start}).",
            "Use --to merged: it holds both.",
        )
    loaded, update = subject.load(precision_of(cfg).weights, device_of(cfg))
    assert update is not None
    update = update.alone()
    if base is not None:
        loaded.model.config.name_or_path = base
    facts = base_facts(cfg, loaded)
    energy = None
    if to == "adapter":
        write_adapter(update, loaded, alpha, out, facts)
    elif to == "merged":
        write_merged(update, loaded, alpha, out)
    else:
        assert rank is not None
        fresh = load_base_model(source, precision_of(cfg).weights, device=device_of(cfg))
        fresh.model.config.name_or_path = loaded.model.config.name_or_path
        energy = _write_lora(update, fresh, rank, out, facts)
        console.print(
            f"rank {rank} keeps {energy.kept:.1%} of the update's squared norm", highlight=False
        )
        if energy.elsewhere > 0.001:
            console.print(
                f"[yellow]![/] {energy.elsewhere:.1%} of it lies in embeddings, norms and biases, "
                "which LoRA does not change",
                highlight=False,
            )
    carry_template(folder.update, out, loaded.tokenizer)
    _write_card(folder, out, portable(loaded.model.config.name_or_path), whole=to == "merged")
    with open_dict(cfg):
        cfg.out = str(new_folder_named(folder.path / f"export-{to}-scored"))
        cfg.tracking.enabled = False
        cfg.resume = None
    named = source.path or source.id or source.name
    record = evaluate(cfg, str(out), base=str(named), command=["export", run, "--to", to])
    verdict = record.suite_verdict.verdict if record.suite_verdict else ""
    console.print(f"Written to {terminal(out)}: {verdict or 'not compared'}", highlight=False)
    found: dict[str, Any] = {"folder": str(out), "form": to, "verdict": verdict}
    if energy is not None:
        found |= {"energy_kept": energy.kept, "energy_elsewhere": energy.elsewhere}
    return found | {"record": record}


def refuse_full(out: Path) -> None:
    """Raise `ConfigError` when something lies in the folder `out` already, or it is a link."""
    require_place(out)
    refuse_link(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty.", "Choose another folder with --out DIR.")


def write_dialled(
    update: Update,
    base: BaseModel,
    alpha: float,
    out: Path,
    facts: Mapping[str, Any],
    *,
    whole: bool = False,
) -> str:
    """The update at strength α as an adapter; `whole`, or where it is none, as a model.

    Returns the form. Raises `ConfigError` where the update cannot be merged into one.
    """
    update = update.alone()
    if whole or isinstance(update, FullUpdate):
        write_merged(update, base, alpha, out)
        return "merged"
    write_adapter(update, base, alpha, out, facts)
    return "adapter"


def write_adapter(
    update: Update, base: BaseModel, alpha: float, out: Path, facts: Mapping[str, Any]
) -> None:
    """α times the update, beside its base; `facts` are those of `base_facts`."""
    if isinstance(update, FullUpdate):
        raise ConfigError("A full run has no adapter.", "Use --to merged, or --to lora --rank R.")
    update.save(out, base_id=base.model.config.name_or_path, alpha=alpha, facts=facts)


def write_merged(update: Update, base: BaseModel, alpha: float, out: Path) -> None:
    """A whole model at strength α, with its tokenizer."""
    merged = update.merged(alpha)
    out.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(out, safe_serialization=True)
    base.tokenizer.save_pretrained(out)


@dataclass(frozen=True)
class Energy:
    """Shares of the update's squared norm: kept by the truncation, and outside linear layers."""

    kept: float
    elsewhere: float


def _write_card(folder: RunFolder, out: Path, base: str | None, *, whole: bool) -> None:
    """The card of the run's record; said, where what was written does not name its base."""
    peft = (out / "adapter_config.json").is_file()
    card = model_card(folder.load(), base=base, peft=peft, whole=whole)
    write_text(out / "README.md", card)
    if base is None and not whole:
        console.print(
            "[yellow]![/] It names no base: the run's is a folder of this machine. "
            "--base OWNER/NAME says what it is called elsewhere.",
            highlight=False,
        )


def _write_lora(
    update: Update, fresh: BaseModel, rank: int, out: Path, facts: Mapping[str, Any]
) -> Energy:
    """Truncated singular value decomposition of Δθ, layer by layer (Eckart & Young 1936)."""
    if not isinstance(update, FullUpdate):
        raise ConfigError(f"--to lora is for full runs; this run has update={update.name}.")
    lora = LoraUpdate({"r": rank, "lora_alpha": rank})
    lora.attach(fresh.model)
    layers = set(linear_names(update.model))
    total = kept = elsewhere = 0.0
    for name, delta in update.delta():
        energy = float(float64(delta).square().sum())
        total += energy
        layer = name.removesuffix(".weight")
        if layer not in layers or not name.endswith(".weight"):
            elsewhere += energy
            continue
        module: Any = lora.model.get_submodule(layer)
        a, b = factors(delta.T if module.fan_in_fan_out else delta, rank)
        with torch.no_grad():
            module.lora_A["default"].weight.copy_(a)
            module.lora_B["default"].weight.copy_(b)
        kept += float((float64(b) @ float64(a)).square().sum())
    lora.save(out, base_id=fresh.model.config.name_or_path, facts=facts)
    total = total or 1.0
    return Energy(kept / total, elsewhere / total)


def factors(delta: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (rank, d_in) and B (d_out, rank): B·A is the best approximation of `delta` of that rank."""
    u, s, vh = torch.linalg.svd(delta.float(), full_matrices=False)
    n = min(rank, len(s))
    root = s[:n].sqrt()
    a, b = delta.new_zeros(rank, delta.shape[1]), delta.new_zeros(delta.shape[0], rank)
    a[:n], b[:, :n] = root[:, None] * vh[:n], u[:, :n] * root
    return a, b
