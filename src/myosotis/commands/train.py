"""One run, from a checked configuration to a record: the story that everything else serves.

the base is measured, before anything is attached
the update is trained, watched while it trains
the tuned model is measured, and both are compared
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig

from myosotis.commands.components import Components
from myosotis.commands.opening import describe, opened
from myosotis.config import check, instantiate
from myosotis.config.instantiate import plain
from myosotis.evaluation import intermediate, kl, results, samples
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.interpolation import turn
from myosotis.records.run_folder import RunFolder, SweepInfo
from myosotis.records.schema import RunRecord, UpdateInfo
from myosotis.report import terminal
from myosotis.retention.compare import reachable_verdicts
from myosotis.tracking.run_tracker import RunTracker
from myosotis.training import cost, diagnostics
from myosotis.training.best_checkpoint import BestCheckpoint
from myosotis.training.callbacks import (
    AtomicCheckpointIO,
    Interrupted,
    PeriodicEval,
    SaveLast,
    ScheduledEval,
    StepSeed,
    StopOnSignal,
    Throughput,
    cadence,
)
from myosotis.training.eval_schedule import EvalSchedule, looks_ask_everything, pace
from myosotis.training.module import FineTuning
from myosotis.training.optim import Schedule
from myosotis.training.resume import continued
from myosotis.updates.base import Update
from myosotis.updates.tensors import num_parameters
from myosotis.utils import memory
from myosotis.utils.console import console


def train(
    cfg: DictConfig,
    overrides: Sequence[str] = (),
    sweep: SweepInfo | None = None,
    command: Sequence[str] | None = None,
) -> RunRecord:
    """Run what `cfg` describes (or continue what `cfg.resume` names); returns the record.

    `overrides` are those that `cfg` was composed with, `command` the one that reproduces the run
    (default: `myosotis train OVERRIDES`). A trial of `sweep` leaves the telling to it. Raises
    `MyosotisError` for what a person can mend, `Interrupted` after Ctrl-C or SIGTERM.
    """
    began = time.perf_counter()
    quiet_lightning()
    memory.forget_peak()
    cfg, folder = continued(cfg, overrides)
    warnings = check(cfg)
    lightning.seed_everything(cfg.seed, verbose=False)
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    if getattr(rank_zero_only, "rank", 0) != 0:
        return _follow(cfg, folder)
    command = command or ["myosotis", "train", *overrides]
    with opened(cfg, folder, command, sweep) as kept:
        for warning in warnings:
            kept.warn(warning)
        bench = Components.of(cfg, kept.warn)
        describe(kept, cfg, bench)
        base = _measure_base(kept, cfg, bench)
        update = bench.attach(cfg)
        guard = _guard(cfg, update, folder)
        looks = _pace(cfg, bench, update)
        trained = _fit(kept, cfg, bench, update, base, guard, looks)
        kept.record.checkpoint = guard.finish(trained.steps, kept.warn)
        kept.record.update.off_difference = bench.check_base(update, base)
        update.save(kept.folder.update, base_id=bench.base.id)
        tuned = bench.examination.sit(bench.scorer, "tuned")
        _conclude(kept, cfg, bench, base, tuned, trained.steps)
        _dial(kept, cfg, bench, update, base, tuned)
        spent = cost.of(trained, kept, base, tuned, bench, looks, began)
        spent |= intermediate.items_asked(kept.history.points())
        kept.record.cost = spent
        kept.log({f"cost/{k}": v for k, v in spent.items() if v is not None}, step=trained.steps)
        kept.publish(kept.folder.update)
    if sweep is None:
        terminal.show(kept.record, results.in_words(kept.record), kept.folder.scorecard)
    return kept.record


def quiet_lightning() -> None:
    """Lightning's notes and tips belong to its own command lines; its warnings are kept."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _measure_base(kept: RunTracker, cfg: DictConfig, bench: Components) -> EvalResult:
    """The base, before anything is attached; benchmarks from the cache where they are there."""
    base = bench.measure_base(cfg.task.metric)
    terminal.reach(reachable_verdicts(base.retention.tasks, instantiate.budget(cfg)))
    kept.log(results.metrics(base), step=0)
    return base


def _guard(cfg: DictConfig, update: Update, folder: RunFolder) -> BestCheckpoint:
    return BestCheckpoint(
        update, folder, on_breach=cfg.retention.on_breach, patience=cfg.retention.patience
    )


def _pace(cfg: DictConfig, bench: Components, update: Update) -> EvalSchedule:
    """When the benchmarks are looked at while training; the same on every rank."""
    return pace(
        cfg,
        bench.data,
        bench.suite,
        bench.texts,
        total_steps=bench.total_steps,
        trained=update.count() / num_parameters(bench.base.model),
        packs=bench.scorer.backend.name != "padded",
    )


def _fit(
    kept: RunTracker,
    cfg: DictConfig,
    bench: Components,
    update: Update,
    base: EvalResult,
    guard: BestCheckpoint,
    looks: EvalSchedule,
) -> cost.Training:
    """Train, watched; the update holds the result."""
    kept.record.update = UpdateInfo(
        name=update.name,
        trainable=update.count(),
        total=kept.record.model.parameters,
        settings=plain(cfg["update"]),
        identity_at_init=update.capabilities.identity_at_init,
    )
    kept.record.at_start = intermediate.at_start(
        bench, update, base.retention, instantiate.budget(cfg)
    )
    kept.log(bench.held_out(), step=0)
    if cfg.retention.suite and cfg.retention.every is not None:
        console.print(looks.text, highlight=False)
    evaluators = _evaluators(kept, cfg, bench, base, guard, looks)
    trained = _train_steps(cfg, bench, update, guard, evaluators, [kept.history, kept.mlflow])
    kept.log(bench.held_out(), step=trained.steps)
    for sentence in diagnostics.of_curves(kept.history.points()):
        kept.warn(sentence)
    return trained


def _train_steps(
    cfg: DictConfig,
    bench: Components,
    update: Update,
    guard: BestCheckpoint,
    evaluators: list[ScheduledEval],
    loggers: list[Any],
) -> cost.Training:
    """Lightning's part. The same on every rank; raises `Interrupted` when told to stop."""
    module = fine_tuning(cfg, bench, update)
    steps = cadence(cfg.trainer.checkpoint_every, bench.total_steps, key="trainer.checkpoint_every")
    stop, meter = StopOnSignal(), Throughput(bench.total_steps)
    folder = guard.folder
    checkpoints = SaveLast(folder.checkpoint, steps)
    trainer = lightning.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=cfg.trainer.devices,
        strategy=cfg.trainer.strategy,
        precision=bench.precision.trainer,
        max_steps=bench.total_steps,
        max_epochs=-1,
        logger=loggers,
        callbacks=[
            StepSeed(cfg.seed),
            meter,
            PeriodicEval(evaluators),
            guard,
            *instantiate.callbacks(cfg),
            stop,
            checkpoints,
        ],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        default_root_dir=str(folder.path),
    )
    resuming = cfg.resume is not None and folder.checkpoint.exists()
    path = str(folder.checkpoint) if resuming else None
    trainer.fit(module, datamodule=bench.data, ckpt_path=path, weights_only=True)
    if stop.received is not None:
        raise Interrupted(stop.received, trainer.global_step)
    watched = {evaluator.name: evaluator.seconds for evaluator in evaluators}
    return cost.Training(trainer.global_step, meter.seconds, watched, meter.examples, meter.tokens)


def fine_tuning(cfg: DictConfig, bench: Components, update: Update) -> FineTuning:
    """The LightningModule of a run."""
    return FineTuning(
        update,
        bench.objective,
        bench.scorer,
        optimizer=instantiate.optimizer(cfg),
        schedule=Schedule(cfg.schedule.name, cfg.schedule.warmup, bench.total_steps),
        weight_decay=cfg.optimizer.get("weight_decay", 0.0),
        gradient_clip_val=cfg.trainer.gradient_clip_val,
    )


def _evaluators(
    kept: RunTracker,
    cfg: DictConfig,
    bench: Components,
    base: EvalResult,
    guard: BestCheckpoint,
    looks: EvalSchedule,
) -> list[ScheduledEval]:
    """What is measured while training, and when.

    Where a checkpoint is chosen by it, only the half of the items that chooses is asked.
    """
    suite, before = bench.suite, base.retention
    if guard.chooses:
        suite, before = bench.examination.halves["select"], before.half("select")
    budget = instantiate.budget(cfg)

    def retention() -> dict[str, float]:
        _, mean, metrics, signs = intermediate.look(
            suite,
            bench.eval_model,
            before,
            budget,
            floor=None if looks_ask_everything(cfg) else cfg.retention.sequential_floor,
            ceiling=cfg.retention.sequential_ceiling,
            cheap=looks.cheap,
        )
        metrics |= kl.metrics(bench.shift())
        verdict = mean.verdict if mean else ""
        if said := results.alarm_in_words(mean, signs):
            kept.warn(said)
        loss = bench.held_out() if guard.needs_loss else {}
        inside = bool(verdict) and budget.accepts(verdict)
        guard.offer(loss.get("val/loss", math.nan), verdict, inside)
        return metrics | loss

    return [
        ScheduledEval("validation", bench.held_out, loss_steps(cfg, bench)),
        ScheduledEval("retention", retention, looks.steps),
    ]


def loss_steps(cfg: DictConfig, bench: Components) -> frozenset[int]:
    """When the held-out loss is measured while training."""
    return cadence(cfg.trainer.val_every, bench.total_steps, key="trainer.val_every")


def _conclude(
    kept: RunTracker,
    cfg: DictConfig,
    bench: Components,
    base: EvalResult,
    tuned: EvalResult,
    step: int,
) -> None:
    """Compare the two sittings; `step` is the last one of the training.

    Where the weights are those of a step that one half of the items chose, the other half judges.
    """
    record = kept.record
    before, after = base.retention, tuned.retention
    if record.checkpoint is not None:
        step = record.checkpoint.step
        if record.checkpoint.chosen:
            before, after = before.half("report"), after.half("report")
    record.task = results.task_summary(base, tuned, cfg.task.metric)
    record.baselines = results.baselines(base, tuned)
    for sentence in diagnostics.of_task(record.task):
        kept.warn(sentence)
    record.retention, record.suite_verdict = results.retention_rows(
        before, after, instantiate.budget(cfg)
    )
    record.halves = results.halves(base, tuned, cfg.task.metric, instantiate.budget(cfg))
    record.flips = samples.flips(bench.suite, base.retention, tuned.retention)
    record.samples = samples.samples(bench.examination.examples, base, tuned)
    record.wording = samples.wording(record.samples)
    results.write_items(kept.folder.items, base.retention, tuned.retention)
    record.shift = bench.shift()
    forgetting = results.forgetting_metrics(record.retention, record.suite_verdict)
    forgetting |= kl.metrics(record.shift)
    kept.log({**results.metrics(tuned), **forgetting}, step=step)
    kept.save()


def _dial(
    kept: RunTracker,
    cfg: DictConfig,
    bench: Components,
    update: Update,
    base: EvalResult,
    tuned: EvalResult,
) -> None:
    """The update at the strengths that `retention.dial` names."""
    if not cfg.retention.dial:
        return
    kept.record.dial, kept.record.dial_choice = turn(
        bench,
        update,
        base,
        tuned,
        metric=cfg.task.metric,
        budget=instantiate.budget(cfg),
        strengths=list(cfg.retention.dial),
        refine=False,
    )
    kept.save()


def _follow(cfg: DictConfig, folder: RunFolder) -> RunRecord:
    """What the other ranks of a distributed run do: train, and nothing else."""
    bench = Components.of(cfg, lambda _: None)
    bench.go_on()
    bench.remember_base()
    update = bench.attach(cfg)
    guard = _guard(cfg, update, folder)
    looks = _pace(cfg, bench, update)
    idle = [
        ScheduledEval("validation", dict, loss_steps(cfg, bench)),
        ScheduledEval("retention", dict, looks.steps),
    ]
    _train_steps(cfg, bench, update, guard, idle, [])
    return RunRecord(run_id="")
