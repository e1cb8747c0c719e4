"""The training of a run: Lightning's part, and what is measured between its steps.

The story around it is `train.py`.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
from omegaconf import DictConfig

from myosotis.commands.components import (
    Components,
    TunedComponents,
)
from myosotis.commands.parts import asks_everything
from myosotis.commands.protecting import controls_of
from myosotis.config import instantiate
from myosotis.evaluation import intermediate, kl
from myosotis.evaluation.evaluator import EvalResult
from myosotis.objectives import samples
from myosotis.report import narrator
from myosotis.tracking.run_tracker import RunTracker
from myosotis.training import cost
from myosotis.training.best_checkpoint import BestCheckpoint
from myosotis.training.callbacks import (
    AtomicCheckpointIO,
    PeriodicEval,
    SaveLast,
    ScheduledEval,
    StepSeed,
    StopOnSignal,
    Throughput,
)
from myosotis.training.datamodule import StepModule
from myosotis.training.eval_schedule import EvalSchedule, cadence
from myosotis.training.module import FineTuning
from myosotis.training.optim import Schedule
from myosotis.training.rollout import Rollouts
from myosotis.training.strategy import strategy_of
from myosotis.training.user_callbacks import UserCallbacks, trainer_options
from myosotis.training.work_estimate import Work
from myosotis.trees.attention import text_config
from myosotis.trees.scorer import device_of
from myosotis.updates.tensors import num_parameters
from myosotis.utils import distributed, rank_failure
from myosotis.utils.device import hardware, num_devices, peak_flops
from myosotis.utils.errors import Interrupted

Measure = Callable[[int], dict[str, float]]
"""What is measured after a step, by name."""


@dataclass(frozen=True)
class Run:
    """What the steps of one run share once its update is attached."""

    cfg: DictConfig
    tracker: RunTracker
    parts: TunedComponents
    base: EvalResult | None  # on the first rank
    best: BestCheckpoint
    schedule: EvalSchedule


def fit(
    cfg: DictConfig,
    parts: TunedComponents,
    best: BestCheckpoint,
    evaluations: list[ScheduledEval],
    loggers: list[Any],
) -> cost.Training:
    """Lightning's part. The same on every rank; raises `Interrupted` when told to stop."""
    every = cfg.trainer.checkpoint_every
    steps = cadence(every, parts.total_steps, key="trainer.checkpoint_every")
    stop, throughput = StopOnSignal(), Throughput(parts.total_steps)
    folder, own = best.folder, instantiate.callbacks(cfg)
    users = UserCallbacks(own, lambda: bool(best.course.ended) or stop.stopping)
    trainer = lightning.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=num_devices(cfg.trainer.accelerator, cfg.trainer.devices),
        strategy=strategy_of(cfg.trainer.strategy, cfg.trainer.accelerator, cfg.trainer.devices),
        precision="32-true",  # the scorer owns the arithmetic: models/dtype.py
        max_steps=parts.total_steps,
        max_epochs=-1,
        logger=loggers,
        callbacks=[
            StepSeed(cfg.seed),
            throughput,
            *own,
            PeriodicEval(evaluations, users),
            best,
            users,
            stop,
            SaveLast(folder.checkpoint, steps),
        ],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        val_check_interval=parts.total_steps,
        **trainer_options(own),
        default_root_dir=str(folder.path),
    )
    resuming = cfg.resume is not None and folder.checkpoint.exists()
    path = str(folder.checkpoint) if resuming else None
    module = fine_tuning(cfg, parts)
    with stopped_at_once(trainer, stop), rank_failure.heard():
        trainer.fit(module, datamodule=StepModule(parts.data), ckpt_path=path, weights_only=True)
    if signum := int(distributed.total(stop.received or 0, largest=True)):
        raise Interrupted(signum, trainer.global_step)
    parts.update.gather()
    parts.scorer.lockstep = False
    return cost.Training(
        steps=trainer.global_step,
        train_seconds=throughput.seconds,
        eval_seconds={one.name: one.seconds for one in evaluations},
        examples=throughput.examples,
        tokens=int(throughput.work.tokens),
        flops=_flops(parts, throughput.work),
        peak_flops=_peak(parts, trainer.world_size),
        rehearsed=module.controls.spent(trainer.global_step),
        stopped=users.stopped,
    )


@contextmanager
def stopped_at_once(trainer: lightning.Trainer, stop: StopOnSignal) -> Iterator[None]:
    """A `KeyboardInterrupt` inside of `fit` is told as `Interrupted`: Lightning makes a
    `SystemExit` of it, which looks like a failure, and leaves Ctrl-C without effect."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise Interrupted(stop.received or signal.SIGINT, trainer.global_step) from None


def _flops(parts: TunedComponents, read: Work) -> float:
    total = num_parameters(parts.base.model)
    return read.flops(total, parts.update.count(), text_config(parts.base.model))


def _peak(parts: TunedComponents, devices: int) -> float | None:
    """Of all devices together, in the dtype that is multiplied in."""
    one = peak_flops(hardware(device_of(parts.base.model)), parts.precision.compute)
    return one * devices if one else None


def fine_tuning(cfg: DictConfig, parts: TunedComponents) -> FineTuning:
    """The LightningModule of a run."""
    return FineTuning(
        parts.update,
        parts.objective,
        parts.scorer,
        optimizer=instantiate.optimizer(cfg),
        schedule=Schedule(cfg.schedule.name, cfg.schedule.warmup, parts.total_steps),
        weight_decay=cfg.optimizer.get("weight_decay", 0.0),
        gradient_clip_val=cfg.trainer.gradient_clip_val,
        layer_decay=cfg.optimizer.get("layer_decay", 1.0),
        controls=controls_of(cfg, parts),
        rollouts=rollouts_of(cfg, parts),
        sources=() if samples(parts.objective) else parts.data.sources(),
    )


def rollouts_of(cfg: DictConfig, parts: TunedComponents) -> Rollouts | None:
    """What samples the answers of an objective that learns from them; None for others."""
    objective, rewards = parts.objective, parts.evaluator.rewards
    if not samples(objective) or rewards is None:
        return None
    encoded = parts.data.encoded["train"]
    return Rollouts(
        parts.update,
        objective,
        rewards,
        parts.data.template,
        encoded.examples,
        seed=cfg.seed,
    )


def evaluations_of(run: Run) -> list[ScheduledEval]:
    """What is measured while training, and when; the other ranks score their share of it."""
    validation = loss_steps(run.cfg, run.parts)
    if run.base is None:
        measures = [partial(_help, run)] * 2
    else:
        measures = [
            partial(_shared, run, m) for m in (partial(held_out, run), _retention_of(run, run.base))
        ]
    return [
        ScheduledEval("validation", measures[0], validation),
        ScheduledEval("retention", measures[1], run.schedule.steps),
    ]


def held_out(run: Run, step: int) -> dict[str, float]:
    """The held-out metrics after a step; what is told item by item is kept beside the curves."""
    return run.parts.held_out(partial(run.tracker.jsonl.log_values, step))


def _shared(run: Run, measure: Measure, step: int) -> dict[str, float]:
    with run.parts.crew.led():
        found = measure(step)
    run.best.agree()
    return found


def _help(run: Run, step: int) -> dict[str, float]:
    run.parts.crew.help_out()
    run.best.agree()
    return {}


def _retention_of(run: Run, base: EvalResult) -> Any:
    """The benchmarks while training, as a function that measures the weights as they are.

    Where a checkpoint is chosen by it, only the half of the items that chooses is asked.
    """
    cfg, parts, best = run.cfg, run.parts, run.best
    suite, before = parts.suite, base.retention
    if best.chooses:
        suite, before = parts.evaluator.halves["selection"], before.half("selection")
    budget = instantiate.budget(cfg)

    def measure(step: int) -> dict[str, float]:
        _, mean, metrics, signs = intermediate.look(
            suite,
            parts.eval_model,
            before,
            budget,
            floor=None if asks_everything(cfg) else cfg.retention.sequential_floor,
            ceiling=cfg.retention.sequential_ceiling,
            cheap=run.schedule.cheap,
            evaluations=len(run.schedule.steps),
        )
        metrics |= kl.metrics(parts.kl())
        verdict = mean.verdict if mean else ""
        if said := narrator.alarm(mean, signs):
            run.tracker.warn(said)
        loss = held_out(run, step) if best.needs_loss else {}
        inside = bool(verdict) and budget.accepts(verdict)
        best.offer(loss.get("val/loss", math.nan), verdict, inside)
        return metrics | loss

    return measure


def loss_steps(cfg: DictConfig, parts: Components) -> Set[int]:
    """When the held-out loss is measured while training."""
    return cadence(cfg.trainer.val_every, parts.total_steps, key="trainer.val_every")
