"""`myosotis evaluate`: run the benchmarks on any model; with a base, compare the two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig

from myosotis.commands.components import base_retention, tuned_scorer
from myosotis.commands.find_model import find_model, source_named
from myosotis.commands.opening import describe_model, owned_anew
from myosotis.commands.parts import (
    benchmarks,
    device_of,
    general_texts,
    precision_of,
    scorer_of,
)
from myosotis.commands.reward_task import Reference, RewardTask
from myosotis.commands.run_params import resolved, shown
from myosotis.commands.settling import Asked, ask_until_settled
from myosotis.config import config_hash
from myosotis.data.kinds import REWARDED
from myosotis.evaluation import kl, results, samples
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.item_files import write_benchmark_items
from myosotis.evaluation.refusal_file import write_refusals
from myosotis.evaluation.weights import weight_changes
from myosotis.models.load import BaseModel, load_tokenizer
from myosotis.models.model_ref import ModelRef
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.report import terminal
from myosotis.report.scorecard import scorecard
from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.measure import measure
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.tracking.null_logger import NullLogger
from myosotis.tracking.run_tracker import RunTracker, track
from myosotis.training import diagnostics
from myosotis.trees.scorer import Scorer
from myosotis.updates.base import Update
from myosotis.utils.console import progress
from myosotis.utils.errors import ConfigError
from myosotis.utils.own_files import refuse_links, require_place


def evaluate(
    cfg: DictConfig, model: str, *, base: str | None = None, command: Sequence[str] = ()
) -> RunRecord:
    """Measure `model` on `cfg.retention`; with `base` (or an update, which has one), compare.

    A model that cannot be loaded leaves no folder and no run. `command` is what was asked, after
    `myosotis`. Raises `ConfigError` when the two models do not share a tokenizer: their items could
    not be paired.
    """
    require_place(Path(cfg.out) / "record.json")
    refuse_links(Path(cfg.out))
    began = time.perf_counter()
    tuned = find_model(model, base)
    reference = _reference(tuned, base)
    mlflow = NullLogger()
    name = f"evaluate-{tuned.name}"
    if cfg.tracking.enabled:
        mlflow = MLflowLogger(
            cfg.tracking.uri, cfg.tracking.experiment, name, {"method": "evaluate"}
        )
    suite = _suite(cfg, tuned, reference)
    task = None if cfg.task.metric not in REWARDED else RewardTask.of(cfg)
    loaded = tuned.load(precision_of(cfg).weights, device_of(cfg))
    folder = RunFolder(Path(cfg.out))
    with (
        owned_anew(folder),
        track(
            folder.path,
            mlflow,
            run_name=name,
            command=shown(["myosotis", *(command or ["evaluate", model])]),
            config=resolved(cfg),
            config_hash=config_hash(cfg),
        ) as kept,
    ):
        measured = _measure(cfg, kept, suite, tuned, reference, loaded, task)
        if isinstance(measured, Asked):
            _compared(kept, measured)
        else:
            kept.record.retention = results.scores_only(measured)
            kept.log(results.metrics(EvalResult(measured, {})), step=0)
        kept.save()
        kept.record.cost = {"total_seconds": time.perf_counter() - began}
        kept.publish(scorecard)
    terminal.show(kept.record, kept.folder.scorecard)
    return kept.record


def _reference(tuned: ModelRef, base: str | None) -> ModelRef | None:
    """What to compare with: the given base, the base under an update, or nothing."""
    if tuned.adapter is not None:
        return ModelRef(tuned.source.name, tuned.source)
    return None if base is None else ModelRef(base, source_named(base))


def _suite(
    cfg: DictConfig, tuned: ModelRef, reference: ModelRef | None, items: int | None = None
) -> Suite:
    """The suite, rendered with the tokenizer both models have; `items` as in `benchmarks`."""
    suites = []
    for one in (tuned, reference):
        if one is None or (suites and one.source == tuned.source):
            continue
        suites.append(_questions(cfg, one, reference, items))
    if len(suites) == 2 and suites[0].hash != suites[1].hash:
        raise ConfigError(
            "The two models read the benchmarks differently: their tokenizers, chat templates or "
            "context lengths differ.",
            "Compare models of one family, or add retention.chat_template=false.",
        )
    return suites[0]


def _questions(
    cfg: DictConfig, one: ModelRef, reference: ModelRef | None, items: int | None
) -> Suite:
    """The suite as one of the two models reads it."""
    base = reference.source if reference is not None else None
    return benchmarks(cfg, base, one.source, load_tokenizer(one.source), items)


def _measure(
    cfg: DictConfig,
    kept: RunTracker,
    suite: Suite,
    tuned: ModelRef,
    reference: ModelRef | None,
    of_tuned: tuple[BaseModel, Update | None],
    task: RewardTask | None,
) -> Measurement | Asked:
    """The tuned model, loaded as `of_tuned`; with a reference both, until it is settled. What its
    answers are worth besides, where a reward is asked for."""
    loaded, update = of_tuned
    scorer = scorer_of(loaded, cfg)
    if update is not None:
        scorer = tuned_scorer(scorer, update)
    name = precision_of(cfg).name
    describe_model(kept.record, loaded, scorer, suite, dtype=name)
    if update is not None:
        kept.record.update.name = update.name
        kept.record.update.trainable = update.count()

    def of_itself(asked: Suite) -> Measurement:
        with progress(f"benchmarks, {tuned.name}", total=asked.size) as advance:
            return measure(asked, EvalModel(scorer, loaded.tokenizer), advance)

    if reference is None:
        if task is not None:
            task.measure(kept, scorer, loaded)
        return of_itself(suite)
    base = _base_of(cfg, reference, loaded, update, scorer)
    if task is not None:
        task.measure(kept, scorer, loaded, base)

    def of_base(asked: Suite) -> Measurement:
        with base.there():
            return base_retention(asked, base.scorer, base.model, name)

    before = of_base(suite)
    _kl(cfg, kept, loaded, update, scorer)
    return ask_until_settled(
        cfg,
        suite,
        before,
        of_itself(suite),
        build=lambda items: _suite(cfg, tuned, reference, items),
        ask=lambda new: (of_base(new), of_itself(new)),
    )


def _kl(
    cfg: DictConfig, kept: RunTracker, loaded: BaseModel, update: Update | None, scorer: Scorer
) -> None:
    """KL from the base on general prose, where base and tuned model are one model with a switch."""
    if update is None:
        return
    texts = general_texts(cfg, loaded.tokenizer, loaded.context_length)
    kept.record.shift = kl.measured(scorer, update, kl.Texts({"general": texts}))
    kept.record.weights = weight_changes(update)
    kept.log(kl.metrics(kept.record.shift), step=0)


def _base_of(
    cfg: DictConfig,
    reference: ModelRef,
    loaded: BaseModel,
    update: Update | None,
    scorer: Scorer,
) -> Reference:
    """The base to compare with: the model under the update, or another one."""
    if update is not None:
        return Reference(loaded, scorer, update.disabled)
    base, _ = reference.load(precision_of(cfg).weights, device_of(cfg))
    return Reference(base, scorer_of(base, cfg), nullcontext)


def _compared(kept: RunTracker, asked: Asked) -> None:
    """What comparing the two models found, to the record and the loggers."""
    record = kept.record
    record.suite = asked.suite.identity()
    record.retention, record.suite_verdict = asked.found
    for sentence in diagnostics.of_behaviour(record.retention):
        kept.warn(sentence)
    write_refusals(kept.folder.refusals, asked.suite, asked.base, asked.tuned)
    record.flips = samples.flips(asked.suite, asked.base, asked.tuned)
    write_benchmark_items(kept.folder.items, asked.base, asked.tuned)
    kept.log(results.forgetting_metrics(record.retention, record.suite_verdict), step=0)
    kept.log(results.metrics(EvalResult(asked.tuned, {}), asked.base), step=0)
