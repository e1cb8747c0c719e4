"""`myosotis evaluate`: run the benchmarks on any model; with a base, compare the two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from myosotis.commands.components import base_retention, tuned_scorer
from myosotis.commands.find_model import dtype_of, find_model, source_named
from myosotis.commands.opening import describe_model, owned_anew
from myosotis.commands.parts import benchmarks, context_of, general_texts, scorer_of
from myosotis.commands.run_params import resolved, shown
from myosotis.config import config_hash, instantiate
from myosotis.evaluation import kl, results, samples
from myosotis.evaluation.evaluator import EvalResult
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
from myosotis.trees.scorer import Scorer
from myosotis.updates.base import Update
from myosotis.utils.console import progress
from myosotis.utils.errors import ConfigError
from myosotis.utils.own_files import refuse_links


def evaluate(
    cfg: DictConfig, model: str, *, base: str | None = None, command: Sequence[str] = ()
) -> RunRecord:
    """Measure `model` on `cfg.retention`; with `base` (or an update, which has one), compare.

    A model that cannot be loaded leaves no folder and no run. `command` is what was asked, after
    `myosotis`. Raises `ConfigError` when the two models do not share a tokenizer: their items could
    not be paired.
    """
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
    loaded = tuned.load(dtype_of(cfg))
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
        before, after = _measure_both(cfg, kept, suite, tuned, reference, loaded)
        _conclude(cfg, kept, suite, before, after)
        kept.record.cost = {"total_seconds": time.perf_counter() - began}
        kept.publish(scorecard)
    terminal.show(kept.record, kept.folder.scorecard)
    return kept.record


def _reference(tuned: ModelRef, base: str | None) -> ModelRef | None:
    """What to compare with: the given base, the base under an update, or nothing."""
    if tuned.adapter is not None:
        return ModelRef(tuned.source.name, tuned.source)
    return None if base is None else ModelRef(base, source_named(base))


def _suite(cfg: DictConfig, tuned: ModelRef, reference: ModelRef | None) -> Suite:
    """The suite, rendered with the tokenizer both models have."""
    suites = []
    for one in (tuned, reference):
        if one is None or (suites and one.source == tuned.source):
            continue
        tokenizer = load_tokenizer(one.source)
        suites.append(benchmarks(cfg, tokenizer, context_of(one.source)))
    if len(suites) == 2 and suites[0].hash != suites[1].hash:
        raise ConfigError(
            "The two models read the benchmarks differently: their tokenizers, chat templates or "
            "context lengths differ.",
            "Compare models of one family, or add retention.chat_template=false.",
        )
    return suites[0]


def _measure_both(
    cfg: DictConfig,
    kept: RunTracker,
    suite: Suite,
    tuned: ModelRef,
    reference: ModelRef | None,
    of_tuned: tuple[BaseModel, Update | None],
) -> tuple[Measurement | None, Measurement]:
    """The base (from the cache if it can be), then the tuned model, loaded as `of_tuned`."""
    loaded, update = of_tuned
    scorer = scorer_of(loaded, cfg)
    if update is not None:
        scorer = tuned_scorer(scorer, update)
    name = str(loaded.model.dtype).removeprefix("torch.")
    describe_model(kept.record, loaded, scorer, suite, dtype=name)
    if update is not None:
        kept.record.update.name = update.name
        kept.record.update.trainable = update.count()
    before = None
    if reference is not None:
        if update is not None:
            with update.disabled():
                before = base_retention(suite, scorer, loaded, name)
        else:
            base, _ = reference.load(dtype_of(cfg))
            before = base_retention(suite, scorer_of(base, cfg), base, name)
        _kl(cfg, kept, loaded, update, scorer)
    with progress(f"benchmarks, {tuned.name}", total=suite.size) as advance:
        return before, measure(suite, EvalModel(scorer, loaded.tokenizer), advance)


def _kl(
    cfg: DictConfig, kept: RunTracker, loaded: BaseModel, update: Update | None, scorer: Scorer
) -> None:
    """KL from the base on general prose, where base and tuned model are one model with a switch."""
    if update is None:
        return
    texts = general_texts(cfg, loaded.tokenizer, loaded.context_length)
    kept.record.shift = kl.measured(scorer, update, kl.Texts({"general": texts}))
    kept.log(kl.metrics(kept.record.shift), step=0)


def _conclude(
    cfg: DictConfig,
    kept: RunTracker,
    suite: Suite,
    before: Measurement | None,
    after: Measurement,
) -> None:
    record = kept.record
    if before is None:
        record.retention = results.scores_only(after)
    else:
        budget = instantiate.budget(cfg)
        record.retention, record.suite_verdict = results.retention_rows(before, after, budget)
        record.flips = samples.flips(suite, before, after)
        results.write_items(kept.folder.items, before, after)
        forgetting = results.forgetting_metrics(record.retention, record.suite_verdict)
        kept.log(forgetting, step=0)
    kept.log(results.metrics(EvalResult(after, {}), before), step=0)
    kept.save()
