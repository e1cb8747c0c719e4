"""One run, from a checked configuration to a record: the story that everything else serves.

the base is measured, before anything is attached
the update is trained, watched while it trains
the tuned model is measured, and both are compared

Every rank of a distributed run tells the same story; measuring, keeping and telling are the first
rank's (the tracker of the others keeps nothing).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import lightning
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig

from myosotis.commands.components import (
    Components,
    attach,
    base_retention,
    check_base,
    deploy_quality,
    load_components,
    measure_base,
    merge_initial,
    with_references,
)
from myosotis.commands.find_model import base_facts
from myosotis.commands.fit import Run, evaluations_of, fit, held_out
from myosotis.commands.mend import mend_folder
from myosotis.commands.opening import claimed, describe, opened
from myosotis.commands.parts import benchmarks, eval_schedule_of
from myosotis.commands.protecting import told
from myosotis.commands.resume import Continued, continued
from myosotis.commands.rewarding import write_scale
from myosotis.commands.settling import Asked, ask_until_settled, outlook_of
from myosotis.commands.sync import mend_tracking
from myosotis.commands.template_file import save_template
from myosotis.config import check, instantiate
from myosotis.config.instantiate import plain
from myosotis.evaluation import intermediate, kl, results, samples
from myosotis.evaluation.deploy import deploy_result
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.interpolation import turn
from myosotis.evaluation.item_files import write_benchmark_items, write_example_items
from myosotis.evaluation.refusal_file import write_refusals
from myosotis.evaluation.weights import weight_changes
from myosotis.records.run_folder import SweepFolder, SweepInfo
from myosotis.records.schema import AtStart, DeployResult, RunRecord, UpdateInfo
from myosotis.report import terminal
from myosotis.report.scorecard import scorecard
from myosotis.retention.benchmarks.scores import Measurement, tasks_in_mean
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.compare import reachable_verdicts
from myosotis.tracking.run_tracker import RunTracker
from myosotis.training import cost, diagnostics
from myosotis.training.best_checkpoint import BestCheckpoint
from myosotis.updates.tensors import num_parameters
from myosotis.utils import distributed, escape, memory
from myosotis.utils.console import console
from myosotis.utils.own_files import refuse_links, require_place


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
    task = continued(cfg, overrides)
    cfg, folder = task.cfg, task.folder
    require_place(folder.record)
    refuse_links(folder.path)
    warnings = check(cfg)
    lightning.seed_everything(cfg.seed, verbose=False)
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    command = command or ["myosotis", "train", *overrides]
    silent = not _first_rank()
    with claimed(cfg, folder, sweep, silent=silent):
        if sweep is None and not silent and (ended := _ended_before(task)) is not None:
            return ended
        with opened(cfg, folder, command, sweep, silent=silent) as tracker:
            for warning in warnings:
                tracker.warn(warning)
            parts = load_components(cfg, tracker.warn)
            describe(tracker, cfg, parts)
            parts, base = _measure_base(tracker, cfg, parts)
            run = _attach(tracker, cfg, parts, base)
            trained = _fit(run)
            distributed.send([tensor.detach() for _, tensor in run.parts.update.parameters()])
            if base is None:
                run.parts.crew.help_out()
            else:
                with run.parts.crew.led():
                    _conclude(run, base, trained, began)
    if base is not None and sweep is None:
        terminal.show(tracker.record, folder.scorecard)
    return tracker.record


def _ended_before(task: Continued) -> RunRecord | None:
    """The record of a run that is resumed but has nothing left to do; only what a kill left undone
    of its end is done, and where nothing is, nothing is touched.
    """
    if task.cfg.resume is None or task.further:
        return None
    record = task.folder.load()
    if record.status != "FINISHED":
        return None
    said = [*mend_folder(task.folder), *mend_tracking(task.folder)]
    name = f"{escape.terminal(record.run_name)} ({record.run_id[:8]})"
    also = escape.terminal("; " + ", ".join(said)) if said else ""
    console.print(
        f"The run {name} is finished: nothing is left to do{also}.\n"
        "For more steps: trainer.max_steps=N",
        highlight=False,
        soft_wrap=True,
    )
    return task.folder.load()


def quiet_lightning() -> None:
    """Lightning's notes and tips belong to its own command lines; its warnings are kept."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _first_rank() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _measure_base(
    tracker: RunTracker, cfg: DictConfig, parts: Components
) -> tuple[Components, EvalResult | None]:
    """The base, before anything is attached; on other ranks only what training needs of it."""
    if not _first_rank():
        return with_references(merge_initial(parts)), None
    parts, base = measure_base(parts, cfg.task.metric)
    budget = instantiate.budget(cfg)
    scores = base.retention.tasks
    expected = None
    if inside := tasks_in_mean(scores):
        epsilon = budget.epsilon_of_mean({name: scores[name].mean for name in inside})
        expected = outlook_of(cfg, {name: parts.suite[name] for name in inside}, epsilon)
    terminal.detectable([] if expected else reachable_verdicts(scores, budget), expected)
    tracker.log(results.metrics(base), step=0)
    return parts, base


def _attach(
    tracker: RunTracker, cfg: DictConfig, parts: Components, base: EvalResult | None
) -> Run:
    """The update on its base, the checkpoint to end with, and when to evaluate."""
    tuned = attach(parts, cfg)
    update = tuned.update
    best = BestCheckpoint(
        update,
        tracker.folder,
        on_breach=cfg.retention.on_breach,
        patience=cfg.retention.patience,
    )
    schedule = eval_schedule_of(
        cfg,
        tuned.data,
        tuned.suite,
        tuned.texts,
        total_steps=tuned.total_steps,
        trained=update.count() / num_parameters(tuned.base.model),
        packs=tuned.scorer.backend.packs,
    )
    return Run(cfg, tracker, tuned, base, best, schedule)


def _fit(run: Run) -> cost.Training:
    """Train, watched; the update holds the result. The first rank measures around it."""
    if run.base is None:
        return fit(run.cfg, run.parts, run.best, evaluations_of(run), [run.tracker.mlflow])
    cfg, tracker, parts = run.cfg, run.tracker, run.parts
    tracker.record.update = UpdateInfo(
        name=parts.update.name,
        trainable=parts.update.count(),
        total=tracker.record.model.parameters,
        settings=plain(cfg["update"]),
        identity_at_init=parts.update.capabilities.identity_at_init,
    )
    tracker.record.at_start = _at_start(run, run.base)
    tracker.log(held_out(run, 0), step=0)
    if cfg.retention.suite and cfg.retention.every is not None:
        console.print(run.schedule.text, highlight=False, markup=False)
    trained = fit(cfg, parts, run.best, evaluations_of(run), tracker.loggers)
    if trained.stopped:
        tracker.warn(trained.stopped)
    tracker.log(held_out(run, trained.steps), step=trained.steps)
    tracker.record.controls = told(cfg, trained.rehearsed, tracker.jsonl.points())
    for sentence in diagnostics.of_curves(tracker.jsonl.points(), tracker.jsonl.values()):
        tracker.warn(sentence)
    tracker.record.checkpoint = run.best.finish(trained.steps, tracker.warn)
    return trained


def _at_start(run: Run, base: EvalResult) -> AtStart | None:
    """What attaching an update did that does not begin as the base; None for all others."""
    parts = run.parts
    if parts.update.capabilities.identity_at_init:
        return None
    before = parts.evaluator.retention(parts.scorer, "before training")
    budget = instantiate.budget(run.cfg)
    return AtStart(results.retention_rows(base.retention, before, budget)[1], parts.kl())


def _conclude(run: Run, base: EvalResult, trained: cost.Training, began: float) -> None:
    """Save the update, measure the tuned model, compare, dial, and publish all of it."""
    cfg, tracker, parts = run.cfg, run.tracker, run.parts
    named = parts.base.model.config.name_or_path
    facts = base_facts(cfg, parts.base)
    parts.update.save(tracker.folder.update, base_id=named, facts=facts)
    save_template(tracker.folder.update, parts.data.template)
    if parts.objective.needs_value_head:
        write_scale(cfg, parts.data, parts.scorer, parts.update, tracker.folder.path)
    tracker.record.update.off_difference = check_base(parts)
    tuned = parts.evaluator.sit(parts.scorer, "tuned")
    tuned.deploy = deploy_quality(parts, parts.scorer, "tuned")
    asked = _settle(run, base, tuned)
    base, tuned = replace(base, retention=asked.base), replace(tuned, retention=asked.tuned)
    tuned.seconds += asked.seconds
    _compare(run, base, tuned, asked, trained.steps)
    _dial(run, base, tuned, asked.suite)
    spent = cost.of(
        trained,
        base,
        tuned,
        run.schedule,
        total_seconds=time.perf_counter() - began,
        trainable=parts.update.count(),
        update_folder=tracker.folder.update,
        rows_at_once=parts.scorer.rows_at_once,
    )
    spent |= intermediate.items_asked(tracker.jsonl.points())
    tracker.record.cost = spent
    tracker.log({f"cost/{k}": v for k, v in spent.items() if v is not None}, step=trained.steps)
    tracker.publish(scorecard, tracker.folder.update)


def _settle(run: Run, base: EvalResult, tuned: EvalResult) -> Asked:
    """Ask both models on, until the verdict is settled.

    Where the weights are those of a step that one half of the items chose, the other half judges.
    A trial is chosen among the others of its sweep.
    """
    cfg, parts, record = run.cfg, run.parts, run.tracker.record
    source, tokenizer = instantiate.model_source(cfg), parts.data.template.tokenizer

    def ask(new: Suite) -> tuple[Measurement, Measurement]:
        with parts.update.disabled():
            before = base_retention(new, parts.scorer, parts.base, parts.precision.name)
        return before, parts.evaluator.asked(new, parts.scorer, "tuned, to settle the verdict")

    return ask_until_settled(
        cfg,
        parts.suite,
        base.retention,
        tuned.retention,
        build=lambda n: parts.screening.screened(benchmarks(cfg, source, source, tokenizer, n)),
        ask=ask,
        half="report" if record.checkpoint is not None and record.checkpoint.chosen else None,
        chosen_among=SweepFolder(run.tracker.folder.path.parent).load() is not None,
    )


def _compare(run: Run, base: EvalResult, tuned: EvalResult, asked: Asked, step: int) -> None:
    """Compare tuned model and base; `step` is the last one of the training."""
    cfg, tracker, record = run.cfg, run.tracker, run.tracker.record
    if record.checkpoint is not None:
        step = record.checkpoint.step
    examples = run.parts.evaluator.examples
    sources = [example.source for example in examples]
    record.task = results.task_summary(base, tuned, cfg.task.metric)
    record.task.sources = results.task_sources(base, tuned, cfg.task.metric, sources)
    record.deploy = _deploy(run, base, tuned)
    record.baselines = results.baselines(base, tuned)
    for sentence in diagnostics.of_task(record.task):
        tracker.warn(sentence)
    record.suite = asked.suite.identity()
    record.retention, record.suite_verdict = asked.found
    for sentence in diagnostics.of_behaviour(record.retention):
        tracker.warn(sentence)
    write_refusals(tracker.folder.refusals, asked.suite, base.retention, tuned.retention)
    record.contamination = list(run.parts.screening.rows.values())
    run.parts.screening.noted(record.retention)
    budget = instantiate.budget(cfg)
    record.halves = results.halves(base, tuned, cfg.task.metric, budget, asked.level)
    record.flips = samples.flips(asked.suite, base.retention, tuned.retention)
    record.samples = samples.samples(examples, base, tuned)
    record.wording = samples.wording(record.samples)
    write_benchmark_items(tracker.folder.items, base.retention, tuned.retention)
    write_example_items(tracker.folder.task_items, examples, base, tuned)
    record.shift = run.parts.kl()
    record.weights = weight_changes(run.parts.update)
    forgetting = results.forgetting_metrics(record.retention, record.suite_verdict)
    forgetting |= kl.metrics(record.shift)
    forgetting |= {
        f"task/{cfg.task.metric}/{name}": quality.tuned
        for name, quality in record.task.sources.items()
        if quality.tuned is not None
    }
    tracker.log({**results.metrics(tuned, base.retention), **forgetting}, step=step)
    tracker.save()


def _deploy(run: Run, base: EvalResult, tuned: EvalResult) -> DeployResult | None:
    """The gain on what the model will see, against that on held-out examples; a warning where it
    vanishes."""
    asked, task, metric = run.parts.deploy, run.tracker.record.task, run.cfg.task.metric
    if asked is None or task is None:
        return None
    groups = [example.groups[0] if example.groups else None for example in asked.examples]
    found = deploy_result(task, base.deploy[metric], tuned.deploy[metric], groups)
    if found.warning:
        run.tracker.warn(found.warning)
    return found


def _dial(run: Run, base: EvalResult, tuned: EvalResult, suite: Suite) -> None:
    """The update at the strengths that `retention.dial` names, on all that was asked."""
    cfg, parts, record = run.cfg, run.parts, run.tracker.record
    if not cfg.retention.dial:
        return
    record.dial, record.dial_choice = turn(
        replace(parts.evaluator, suite=suite),
        parts.scorer,
        parts.update,
        base,
        tuned,
        metric=cfg.task.metric,
        budget=instantiate.budget(cfg),
        strengths=list(cfg.retention.dial),
        refine=False,
    )
    run.tracker.save()
