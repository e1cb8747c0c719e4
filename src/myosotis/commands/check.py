"""`myosotis check`: one step of a run, and a line for each thing that must be so before a long one.

Most failed fine-tunings are a mask, a frozen tensor or a rate that nobody looked at. What is tried
here is the run itself: its data, its model, its update and its own training step, once; not the
benchmarks. Each line passes or fails, all of them lie in the record, and the exit code says whether
any failed. What an error of the run would be is the line at which it would happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.text import Text

from myosotis.commands.components import (
    Components,
    TunedComponents,
    attach,
    check_base,
    load_components,
    merge_initial,
    with_references,
)
from myosotis.commands.fit import fine_tuning
from myosotis.commands.opening import describe_model, owned_anew
from myosotis.commands.run_params import resolved, shown
from myosotis.commands.train import quiet_lightning
from myosotis.config import check as check_config
from myosotis.config import config_hash
from myosotis.data import audit, audit_view
from myosotis.data.kinds import Labels, Rewards
from myosotis.evaluation.evaluator import EvalResult
from myosotis.objectives import samples
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import CheckLine, DataInfo, RunRecord
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.tracking.null_logger import NullLogger
from myosotis.tracking.run_tracker import RunTracker, track
from myosotis.training.callbacks import StepSeed
from myosotis.training.datamodule import StepModule
from myosotis.training.module import FineTuning
from myosotis.trees.tree import Tree
from myosotis.utils.console import results
from myosotis.utils.errors import MyosotisError
from myosotis.utils.escape import terminal
from myosotis.utils.own_files import refuse_links, require_place

ASKED = 4
"""Held-out examples that the base, and the model with its update off, are compared on."""
TRIED = 4
"""Examples of the first step at most that it is tried on."""
NAMES_SHOWN = 4
ROUNDING = 1e-6
"""A gradient norm that the KL term of a policy has at its start, where it is 0, from rounding."""


def check_run(cfg: DictConfig, command: list[str]) -> RunRecord:
    """Try one step of the run of `cfg`; returns the record, whose `checks` are the lines.

    Raises `ConfigError` for a configuration that cannot work: that is known before anything is
    tried.
    """
    require_place(Path(cfg.out) / "record.json")
    refuse_links(Path(cfg.out))
    warnings = check_config(cfg)
    quiet_lightning()
    lightning.seed_everything(cfg.seed, verbose=False)
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    folder = RunFolder(Path(cfg.out))
    with (
        owned_anew(folder),
        track(
            folder.path,
            NullLogger(),
            run_name="check",
            command=shown(["myosotis", *command]),
            config=resolved(cfg),
            config_hash=config_hash(cfg),
        ) as kept,
    ):
        for sentence in warnings:
            kept.warn(sentence)
        _Checks(kept).run(_one_step(cfg))
        kept.save()
    return kept.record


class _Checks:
    """The lines, told as they come."""

    def __init__(self, kept: RunTracker) -> None:
        self.kept = kept

    def run(self, cfg: DictConfig) -> None:
        """All of them in their order; what cannot go on ends the list with a line that failed."""
        with self._ends_with("the run can be made"):
            parts = load_components(cfg, self.kept.warn)
            self._data(parts)
            parts, base = _base(parts)
            tuned = attach(parts, cfg)
            self._describe(tuned)
            self._trainable(tuned)
            self._start(tuned, base)
            module = self._step(tuned, cfg, base)
            self._groups(module)
            self._off(tuned)

    @contextmanager
    def _ends_with(self, what: str) -> Iterator[None]:
        try:
            yield
        except MyosotisError as error:
            self.line(what, False, str(error))

    def line(self, what: str, passed: bool, said: str) -> None:
        """One more line."""
        self.kept.record.checks.append(CheckLine(what, passed, said))
        mark, style = ("✓", "green") if passed else ("✗", "bold red")
        text = Text.assemble((f"{mark} ", style), (what, "bold"), f": {_one_line(said)}")
        results.print(text, soft_wrap=True)

    def _describe(self, parts: TunedComponents) -> None:
        record, data = self.kept.record, parts.data
        describe_model(record, parts.base, parts.scorer, parts.suite, dtype=parts.precision.name)
        manifest = data.dataset.manifest
        record.data = DataInfo(
            data.dataset.name,
            dict(manifest.get("rows", {})),
            manifest,
            str(manifest.get("hash", "")),
        )

    def _data(self, parts: Components) -> None:
        counts = parts.data.counts()
        said = ", ".join(
            f"{part} {row['kept']:,} of {row['given']:,}" for part, row in counts.items()
        )
        self.line("examples that fit", all(row["kept"] for row in counts.values()), said)
        encoded = parts.data.encoded["train"]
        scored = [tree.scored > 0 for tree in encoded.trees]
        share = encoded.scored / max(1, encoded.tokens)
        self.line(
            "every training example has something to learn",
            all(scored),
            f"{sum(scored):,} of {len(scored):,}; {share:.0%} of the tokens are scored",
        )
        if not isinstance(parts.data.kind, Labels | Rewards):
            self._ends(parts, encoded.trees)
        self._mask(parts, encoded.trees[0])

    def _ends(self, parts: Components, trees: Sequence[Tree]) -> None:
        """An answer whose end is not learned is an answer that never ends."""
        template = parts.data.template
        cut = set(parts.data.encoded["train"].truncated) | set(parts.data.encoded["train"].windows)
        examples = parts.data.encoded["train"].examples
        whole = [t for t, e in zip(trees, examples, strict=True) if e.where not in cut]
        ends = [
            bool(tree.weights[leaf]) and template.is_control(int(tree.ids[leaf]))
            for tree in whole
            for leaf in tree.leaves
        ]
        said = f"{sum(ends):,} of {len(ends):,} answers that are not cut"
        self.line("the end of the answer is learned", all(ends), said)

    def _mask(self, parts: Components, tree: Tree) -> None:
        """The first example, what is scored in brackets."""
        first = tree.paths()[0]
        told, inside = "", False
        for text, scored, _ in audit.tokens(first, parts.data.template):
            told += ("⟦" if scored else "⟧") * (scored != inside) + text
            inside = scored
        told += "⟧" * inside
        where = parts.data.encoded["train"].examples[0].where
        self.line("the mask, ⟦scored⟧", "⟦" in told, f"{where}: {told}")

    def _trainable(self, parts: TunedComponents) -> None:
        names = [name for name, _ in parts.update.parameters()]
        total = self.kept.record.model.parameters or 1
        with self._ends_with("the tensors that are to train"):
            parts.update.verify()
            said = (
                f"{len(names):,} tensors, {parts.update.count():,} numbers "
                f"({parts.update.count() / total:.2%} of the model), such as "
                f"{', '.join(names[:NAMES_SHOWN])}"
            )
            self.line("the tensors that are to train, and no others", bool(names), said)

    def _start(self, parts: TunedComponents, base: EvalResult) -> None:
        """Where training begins: at the base, unless the update says otherwise."""
        if not parts.update.capabilities.identity_at_init:
            why = parts.update.capabilities.reasons.get("identity_at_init", "")
            self.line("begins as the base", True, f"this update does not, by its nature: {why}")
            return
        kind = parts.evaluator.kind
        now = kind.scores(parts.scorer, parts.evaluator.trees)[kind.compared_by]
        worst = float(max(abs(now - base.quality[kind.compared_by].scores), default=0.0))
        rounding = 1e-4 if parts.precision.compute is torch.float32 else 2e-2
        said = f"scores differ by at most {worst:.2g} nats per token"
        self.line("begins as the base", worst <= rounding, said)

    def _step(self, parts: TunedComponents, cfg: DictConfig, base: EvalResult) -> FineTuning:
        """The training step of the run, on its first batch."""
        policy = samples(parts.objective)
        before = 0.0 if policy else parts.held_out()["val/loss"]
        module = fine_tuning(cfg, parts)
        trainer = lightning.Trainer(
            accelerator=cfg.trainer.accelerator,
            devices=1,
            precision="32-true",
            max_steps=1,
            logger=False,
            callbacks=[StepSeed(cfg.seed)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            use_distributed_sampler=False,
            default_root_dir=str(self.kept.folder.path),
        )
        trainer.fit(module, datamodule=StepModule(parts.data))
        told = {name: float(value) for name, value in trainer.callback_metrics.items()}
        norm = told.get("train/grad_norm", 0.0)
        reached = [name for name, p in parts.update.parameters() if p.grad is not None]
        missed = [name for name, p in parts.update.parameters() if p.grad is None]
        said = f"loss {told.get('train/loss', float('nan')):.4f}, gradient norm {norm:.4g}"
        learns = norm > (ROUNDING if policy else 0.0)
        if not learns and policy:
            said += "; were all answers to a prompt given the same reward?"
        self.line("one batch, forward and backward", learns, said)
        said = f"{len(reached):,} of {len(reached) + len(missed):,}"
        said += f"; none in {', '.join(missed[:NAMES_SHOWN])}" if missed else ""
        self.line("every tensor that is to train gets a gradient", not missed, said)
        if policy:  # its loss is of new answers each time, and does not have to fall
            return module
        after = parts.held_out()["val/loss"]
        rate = told.get("train/lr", 0.0)
        said = f"{before:.4f} → {after:.4f} on the same batch, at the full rate of {rate:g}"
        said += "" if after < before else "; a lower optimizer.lr may be needed"
        self.line("the loss falls after a step", after < before, said)
        return module

    def _groups(self, module: FineTuning) -> None:
        optimizer: Any = module.optimizers()
        groups = optimizer.param_groups
        with self._ends_with("optimiser groups"):
            module.update.verify(optimizer.optimizer)
            each = [
                f"{len(group['params'])} tensors at rate {group['lr']:g} and weight decay "
                f"{group.get('weight_decay', 0.0):g}"
                for group in groups
            ]
            self.line("optimiser groups hold each of them once", True, "; ".join(each))

    def _off(self, parts: TunedComponents) -> None:
        with self._ends_with("with the update off it is the base"):
            worst = check_base(parts)
            self.kept.record.update.off_difference = worst
            said = f"base weights have not moved; scores differ by {worst:.2g} nats per token"
            self.line("with the update off it is the base", True, said)


def _one_line(said: str) -> str:
    """Text of the data on a line of its own, its control characters shown."""
    return audit_view.visible(said).replace("↵\n", "↵")


def _one_step(cfg: DictConfig) -> DictConfig:
    """The run of `cfg` as one step at its full rate, without benchmarks."""
    short = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    assert isinstance(short, DictConfig)
    changed = {
        "retention.suite": [],
        "retention.kl_items": 0,
        "task.shots": 0,
        "task.items": ASKED,
        "trainer.max_steps": 1,
        "trainer.max_epochs": None,
        "schedule.name": "constant",
        "schedule.warmup": 0.0,
    }
    with open_dict(short):
        for key, value in changed.items():
            OmegaConf.update(short, key, value)
    return short


def _base(parts: Components) -> tuple[Components, EvalResult]:
    """The base on a few held-out examples, and the parts with the first batch to learn from."""
    parts = merge_initial(parts)
    data, asked = parts.data.of_first_step(TRIED), parts.evaluator
    few = replace(
        asked,
        trees=asked.trees[:ASKED],
        examples=asked.examples[:ASKED],
        validation=data.validation_trees,
        validation_kind=data.kind_of("train"),
        validation_examples=data.encoded["validation"].examples,
        validation_sources=(),
    )
    parts = with_references(replace(parts, data=data, evaluator=few))
    quality = parts.evaluator.quality(parts.scorer, "base", texts=False)
    return parts, EvalResult(Measurement({}), quality)


def passed(record: RunRecord) -> bool:
    """Whether no line failed."""
    return all(line.passed for line in record.checks)


def told(record: RunRecord, folder: Path) -> None:
    """What it came to, in a line."""
    failed = sum(not line.passed for line in record.checks)
    said = f"{len(record.checks)} checks, " + (f"{failed} failed" if failed else "all passed")
    results.print(f"{said}; record in {terminal(folder)}", highlight=False, soft_wrap=True)
