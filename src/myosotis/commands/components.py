"""What a run is made of, from its configuration, in the order in which it can fail.

Data and benchmarks come first, so that a malformed line or a benchmark that is not at hand is told
before any weights load. `Components` never change: each step of a run (`merge_initial`,
`with_references`, `attach`) returns new ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis import updates
from myosotis.config import instantiate
from myosotis.config.instantiate import plain
from myosotis.config.schema import AUTO
from myosotis.data.convert import viewed
from myosotis.data.datamodule import ExampleModule
from myosotis.data.few_shot import choose_shots
from myosotis.data.kinds import kind_of
from myosotis.evaluation import kl
from myosotis.evaluation.evaluator import EvalResult, Evaluator
from myosotis.models.dtype import Precision, resolve
from myosotis.models.init_from import InitialUpdate
from myosotis.models.load import (
    BaseModel,
    ModelSource,
    context_length,
    load_base_model,
    load_config,
    load_tokenizer,
    zero_dropouts,
)
from myosotis.objectives import Objective
from myosotis.objectives.hard_negatives import hardened
from myosotis.objectives.reference_logprobs import referenced
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import KL
from myosotis.retention.benchmarks import build, cache, prose
from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.measure import Measurement
from myosotis.retention.benchmarks.requests import Encoder
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from myosotis.training.eval_schedule import EvalSchedule, cadence, schedule_evals
from myosotis.trees.attention import PackingMode
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update
from myosotis.utils.console import progress
from myosotis.utils.errors import RunError


@dataclass(frozen=True)
class Components:
    """The parts of a run before anything is attached to its base model."""

    base: BaseModel
    precision: Precision
    scorer: Scorer  # scores with the weights as they are now
    data: ExampleModule
    suite: Suite
    evaluator: Evaluator
    objective: Objective
    total_steps: int
    texts: kl.Texts  # on which KL to the base is measured
    initial: InitialUpdate | None = None  # to be merged into the base once that was measured

    @property
    def eval_model(self) -> EvalModel:
        """Who is asked the benchmarks: the model with the weights it has at the moment."""
        return EvalModel(self.scorer, self.base.tokenizer)

    def held_out(self) -> dict[str, float]:
        """The objective and its metrics on held-out examples, as `val/…`."""
        measured = self.evaluator.held_out(self.scorer, self.objective)
        return {f"val/{name}": value for name, value in measured.items()}


@dataclass(frozen=True)
class TunedComponents(Components):
    """The parts of a run with its update attached; `scorer` scores the tuned model."""

    update: Update = field(kw_only=True)

    def kl(self) -> list[KL]:
        """How far the predictions are from the base's, with the weights as they are now."""
        return kl.measured(self.scorer, self.update, self.texts)


def load_components(cfg: DictConfig, warn: Callable[[str], None]) -> Components:
    """Data, benchmarks, model and packing check, in this order. `warn` takes sentences."""
    data = data_of(cfg)
    for sentence in data.warnings():
        warn(sentence)
    source = instantiate.model_source(cfg)
    initial = InitialUpdate.of(cfg.model.start, RunFolder(Path(cfg.out)))
    suite = benchmarks(cfg, data.template.tokenizer, context_of(source))
    precision = resolve(
        cfg.trainer.precision, update=cfg["update"].name, accelerator=cfg.trainer.accelerator
    )
    base = load_base_model(source, precision.weights, quantization=quantization_of(cfg))
    zero_dropouts(base.model)
    scorer = scorer_of(base, cfg)
    if scorer.backend.name == "padded":
        warn(f"Rows are padded, one path per row, which is slower: {scorer.backend.reason}.")
    data = _with_hard_negatives(data, scorer, base.content_hash, precision.name)
    parts = Components(
        base=base,
        precision=precision,
        scorer=scorer,
        data=data,
        suite=suite,
        evaluator=evaluator_of(cfg, data, suite),
        objective=instantiate.objective(cfg),
        total_steps=total_steps(cfg, data.steps_per_epoch),
        texts=kl_texts(cfg, data, context_of(source)),
        initial=initial,
    )
    return merge_initial(parts) if cfg.retention.against == "start" else parts


def merge_initial(parts: Components) -> Components:
    """From now on the base is what the run goes on from (`model.start`), where there is such a
    thing."""
    if parts.initial is None:
        return parts
    base = parts.initial.merged_into(parts.base)
    zero_dropouts(base.model)
    scorer = parts.scorer.with_model(base.model, parts.scorer.backend)
    # What the model before it said of the examples is no reference any more.
    bare = {
        part: [replace(tree, reference=None) for tree in encoded.trees]
        for part, encoded in parts.data.encoded.items()
    }
    return _with_trees(replace(parts, base=base, scorer=scorer, initial=None), bare)


def measure_base(parts: Components, metric: str) -> tuple[Components, EvalResult]:
    """Evaluate the base before anything is attached; benchmarks from the cache if they can be.

    Only for the model as it was loaded: the cache goes by the content of its files. The task is
    measured on what the run goes on from, where there is such a thing; and where `task.shots`
    asks, also with examples in the prompt, by `metric`.
    """
    began = time.perf_counter()
    retention = base_retention(parts.suite, parts.scorer, parts.base, parts.precision.name)
    parts = merge_initial(parts)
    quality = parts.evaluator.quality(parts.scorer, "base")
    few_shot = parts.evaluator.prompted(parts.scorer, metric)
    parts = with_references(parts)
    seconds = time.perf_counter() - began
    return parts, EvalResult(retention, quality, seconds, few_shot, parts.evaluator.rules())


def base_retention(suite: Suite, scorer: Scorer, base: BaseModel, dtype: str) -> Measurement:
    """The benchmarks on the base alone, before anything is attached; cached."""
    with progress(f"benchmarks, {base.id}", total=suite.size) as advance:
        return cache.measured(
            suite,
            EvalModel(scorer, base.tokenizer),
            model=base.content_hash,
            dtype=dtype,
            backend=scorer.backend.name,
            advance=advance,
        )


def with_references(parts: Components) -> Components:
    """The trees carry the base's log-probs, where the objective measures gains from them."""
    if not parts.objective.needs_reference:
        return parts
    about = {"model": parts.base.content_hash, "dtype": parts.precision.name}
    live = getattr(parts.objective, "reference", "cached") == "live"
    known: dict[str, list[Tree]] = {}
    for part in ("validation",) if live else ("train", "validation"):
        trees = list(parts.data.encoded[part].trees)
        bare = [i for i, tree in enumerate(trees) if tree.reference is None]
        if bare:
            scored = referenced([trees[i] for i in bare], parts.scorer, what=part, **about)
            for i, tree in zip(bare, scored, strict=True):
                trees[i] = tree
        known[part] = trees
    return _with_trees(parts, known)


def _with_trees(parts: Components, trees: dict[str, list[Tree]]) -> Components:
    """The same parts with other trees of the same examples."""
    data, asked = parts.data.with_trees(trees), parts.evaluator
    return replace(
        parts,
        data=data,
        evaluator=replace(
            asked,
            trees=data.test_trees[: len(asked.trees)],
            validation=data.validation_trees[: len(asked.validation)],
        ),
    )


def attach(parts: Components, cfg: DictConfig) -> TunedComponents:
    """Wrap the base with the update of `cfg`: what trains, and scores as tuned, from now on."""
    update = updates.build(update_settings(cfg, parts.data))
    update.attach(parts.base.model, parts.base.tokenizer)
    if cfg.trainer.gradient_checkpointing:
        _checkpoint_activations(update.model)
    same: dict[str, Any] = {**vars(parts), "scorer": tuned_scorer(parts.scorer, update)}
    return TunedComponents(**same, update=update)


def _checkpoint_activations(model: Any) -> None:
    """Keep each layer's input alone for the backward pass; renamed in transformers 5."""
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    enable = next(getattr(model, name) for name in names if hasattr(model, name))
    enable({"use_reentrant": False})


def check_base(parts: TunedComponents, base: EvalResult) -> float:
    """Base weights did not move, and with the update off the model scores as the base did.

    Returns by how much the scores differ, in nats per token; raises `RunError` where that is more
    than rounding.
    """
    parts.update.fingerprint_base()
    kind = parts.evaluator.kind
    with parts.update.disabled():
        off = kind.scores(parts.scorer, parts.evaluator.trees[:4])
    scores = off[kind.compared_by]
    before = base.quality[kind.compared_by].scores[: len(scores)]
    worst = max((abs(a - b) for a, b in zip(scores, before, strict=True)), default=0.0)
    if not worst <= 1e-4 * max(1.0, max(abs(before), default=0.0)):
        raise RunError(
            "With the update disabled, the model scores differently from the base (by "
            f"{worst:.2g} nats per token), so any measured forgetting would be wrong."
        )
    return worst


def scorer_of(base: BaseModel, cfg: DictConfig) -> Scorer:
    """What scores the base: packed into rows where the packing check allows it."""
    return Scorer(
        base.model,
        probe(base.model),
        row_tokens=cfg.data.row_tokens,
        rows_at_once=cfg.trainer.rows_at_once or rows_at_once(cfg.trainer.accelerator),
    )


def tuned_scorer(scorer: Scorer, update: Update) -> Scorer:
    """The same for the base with its update, which may be one that cannot be packed."""
    packing = scorer.backend
    if not update.capabilities.packs:
        packing = PackingMode("padded", update.capabilities.reasons["packs"], fast_head=False)
    return scorer.with_model(update.model, packing)


def update_settings(cfg: DictConfig, data: ExampleModule) -> dict[str, Any]:
    """The `update` group, with the labels of the data or a value head where those are needed."""
    return instantiate.update_settings(cfg) | data.kind.update_settings()


def quantization_of(cfg: DictConfig) -> str | None:
    """How the frozen weights are quantised: null, or nf4 (a setting of LoRA's)."""
    return cfg["update"].get("quantization")


def data_of(cfg: DictConfig) -> ExampleModule:
    """The data of `cfg`, read and tokenised. Raises `DataError` on the first file that is wrong."""
    objective = instantiate.objective(cfg)
    dataset = viewed(instantiate.dataset(cfg), objective.data_kind, cfg.objective.name)
    source = instantiate.model_source(cfg)
    context = context_of(source)
    kind = kind_of(
        dataset,
        reads_labels=updates.build(plain(cfg["update"])).reads_labels,
        needs_value_head=objective.needs_value_head,
    )
    module = ExampleModule(
        dataset,
        kind.renderer(load_tokenizer(source), cfg.data.template),
        kind=kind,
        batch_size=cfg.data.batch_size,
        max_length=min(cfg.data.max_length or context, context),
        overlong=cfg.data.overlong,
        seed=cfg.seed,
    )
    module.setup()
    return module


def _with_hard_negatives(
    data: ExampleModule, scorer: Scorer, model: str, dtype: str
) -> ExampleModule:
    """Where examples have rivals: the base chooses the rejected answers."""
    if not any(example.rivals for part in data.encoded.values() for example in part.examples):
        return data
    about = {"model": model, "dtype": dtype}
    return data.with_examples(
        {
            part: hardened(encoded, data.template, scorer, what=part, **about)
            for part, encoded in data.encoded.items()
        }
    )


def context_of(source: ModelSource) -> int:
    """Longest path in tokens; read from the configuration alone."""
    return context_length(load_config(source), load_tokenizer(source))


def benchmarks(cfg: DictConfig, tokenizer: object, context_length: int) -> Suite:
    """The suite of `cfg`, rendered for this tokenizer."""
    return build.build(
        list(cfg.retention.suite),
        tokenizer,  # type: ignore[arg-type]
        context_length=context_length,
        items=cfg.retention["items"],
        seed=cfg.retention.seed,
        num_fewshot=cfg.retention.num_fewshot,
        chat_template=cfg.retention.chat_template,
        locator=DataLocator(
            Path(cfg.retention.data_dir).expanduser() if cfg.retention.data_dir else None,
            plain(cfg.retention.data_files),
        ),
    )


def kl_texts(cfg: DictConfig, data: ExampleModule, context_length: int) -> kl.Texts:
    """Held-out answers of the task (none where no text is scored), and general prose."""
    task = data.test_trees[: cfg.retention.kl_items] if data.kind.is_text else []
    general = general_texts(cfg, data.template.tokenizer, context_length)
    return kl.Texts({"task": task, "general": general})


def general_texts(cfg: DictConfig, tokenizer: object, context_length: int) -> list[Tree]:
    """The beginnings of some passages of general prose."""
    encoder = Encoder(tokenizer, context_length)
    return prose.texts(encoder, cfg.retention.kl_items, cfg.retention.seed)


def evaluator_of(cfg: DictConfig, data: ExampleModule, suite: Suite) -> Evaluator:
    """What the models of this run are asked."""
    count = cfg.task["items"] or len(data.test_trees)
    data.kind.require_metric(cfg.task.metric, data.dataset.name)
    return Evaluator(
        suite=suite,
        template=data.template,
        examples=data.test_examples[:count],
        trees=data.test_trees[:count],
        kind=data.kind,
        generate=cfg.task.generate,
        max_new_tokens=cfg.task.max_new_tokens,
        validation=data.validation_trees[:count],
        validation_kind=data.kind_of("validation"),
        shots=choose_shots(data.dataset.train, cfg.task.shots, cfg.seed),
        max_length=data.max_length,
    )


def eval_schedule_of(
    cfg: DictConfig,
    data: ExampleModule,
    suite: Suite,
    texts: kl.Texts,
    *,
    total_steps: int,
    trained: float,
    packs: bool,
) -> EvalSchedule:
    """When a run of `total_steps` steps that trains a share `trained` of the parameters looks at
    its benchmarks; `packs` says whether trees share rows. The same on every rank, and in a plan.

    Raises `ConfigError` for a `retention.every` that is no cadence.
    """
    asked = cfg.retention
    steps = None
    if asked.every != AUTO:
        steps = cadence(asked.every, total_steps, key="retention.every")
    return schedule_evals(
        data,
        suite,
        texts,
        total_steps=total_steps,
        trained=trained,
        one_path_a_row=not packs,
        row_tokens=cfg.data.row_tokens,
        floor=None if asks_everything(cfg) else asked.sequential_floor,
        chooses=asked.on_breach == "rollback",
        acts=asked.on_breach != "warn" or asked.patience is not None,
        steps=steps,
    )


def asks_everything(cfg: DictConfig) -> bool:
    """Whether a measurement while training may not end early: what ends early judges the mean
    alone, and by an interval that is wider, since it holds at every measurement."""
    return cfg.retention.on_breach == "rollback" or bool(instantiate.budget(cfg).tasks)


def total_steps(cfg: DictConfig, steps_per_epoch: int) -> int:
    """Optimiser steps of the run: the first limit that is reached; one epoch if none is set."""
    limits = []
    if cfg.trainer.max_steps is not None:
        limits.append(int(cfg.trainer.max_steps))
    if cfg.trainer.max_epochs is not None:
        limits.append(int(cfg.trainer.max_epochs) * steps_per_epoch)
    return min(limits, default=steps_per_epoch)


def rows_at_once(accelerator: str) -> int:
    """Rows in one forward pass to begin with; halved when memory runs out.

    A CPU gains nothing from more than one.
    """
    import torch

    return 16 if accelerator != "cpu" and torch.cuda.is_available() else 1
