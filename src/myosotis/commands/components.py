"""What a run is made of, from its configuration, in the order in which it can fail.

Data and benchmarks come first, so that a malformed line or a benchmark that is not at hand is told
before any weights load. `Components` never change: each step of a run (`merge_initial`,
`with_references`, `attach`) returns new ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from myosotis import updates
from myosotis.commands.dry_run import dry_run
from myosotis.commands.parts import (
    benchmarks,
    context_of,
    data_of,
    deploy_evaluator,
    device_of,
    evaluator_of,
    kl_texts,
    precision_of,
    quantization_of,
    require_held_out,
    scorer_of,
    total_steps,
    update_settings,
)
from myosotis.commands.rewarding import require_prompts, require_rewards, rewards_of
from myosotis.commands.screening import Screening
from myosotis.config import instantiate
from myosotis.data.datamodule import ExampleModule, found_in
from myosotis.data.kinds import Scores
from myosotis.data.stored_examples import RIVALS, traits
from myosotis.evaluation import kl
from myosotis.evaluation.evaluator import EvalResult, Evaluator, Keep
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.models.dropouts import zero_dropouts
from myosotis.models.dtype import Precision
from myosotis.models.init_from import InitialUpdate
from myosotis.models.load import BaseModel, content_hash, load_base_model
from myosotis.objectives import Objective
from myosotis.objectives.hard_negatives import hardened
from myosotis.objectives.reference_logprobs import referenced
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import KL
from myosotis.retention.benchmarks import cache
from myosotis.retention.benchmarks.eval_model import WRITE, EvalModel
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.training.activation_checkpointing import checkpoint_activations
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.shared import Crew, Job, Weights, summed
from myosotis.trees.stored_trees import StoredTrees
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update
from myosotis.utils.console import console, progress
from myosotis.utils.errors import RunError
from myosotis.utils.escape import terminal

HELD_OUT = "held_out"
"""The job of ranks that measure together (trees/shared.py)."""


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
    screening: Screening  # of the benchmark items against the training data
    deploy: Evaluator | None = None  # asks about a sample of what the model will see
    initial: InitialUpdate | None = None  # to be merged into the base once that was measured

    @property
    def eval_model(self) -> EvalModel:
        """Who is asked the benchmarks: the model with the weights it has at the moment."""
        return EvalModel(self.scorer, self.base.tokenizer)

    def held_out(self, keep: Keep | None = None) -> dict[str, float]:
        """The objective and its metrics on held-out examples, as `val/…`; `keep` as in
        `Evaluator.held_out`."""
        if (ask := self.scorer.ask) is not None:
            measured = ask(HELD_OUT)
        else:
            measured = self.evaluator.held_out(self.scorer, self.objective, keep)
        return {f"val/{name}": value for name, value in measured.items()}


@dataclass(frozen=True)
class TunedComponents(Components):
    """The parts of a run with its update attached; `scorer` scores the tuned model."""

    update: Update = field(kw_only=True)
    untouched: Scores = field(kw_only=True)  # of the base before `attach` (`first_scores`)

    def kl(self) -> list[KL]:
        """How far the predictions are from the base's, with the weights as they are now."""
        return kl.measured(self.scorer, self.update, self.texts)

    @cached_property
    def crew(self) -> Crew:
        """The ranks of a run, as this one takes part in what they measure together."""
        scorer, update = self.scorer, self.update

        def at(strength: float) -> AbstractContextManager[None]:
            return update.disabled() if strength == 0 else update.scaled(strength)

        jobs = {
            HELD_OUT: Job(partial(self.evaluator.held_out, scorer, self.objective), summed),
            kl.DIVERGENCE: Job(partial(kl.part, scorer, update, self.texts), kl.merged),
            WRITE: Job(self.eval_model.write, itemgetter(0)),
        }
        return Crew(scorer, Weights(lambda: update.strength, at), jobs)


def load_components(cfg: DictConfig, warn: Callable[[str], None]) -> Components:
    """Data, benchmarks, a dry run without weights, model and packing check, in this order.
    `warn` takes sentences."""
    data = data_of(cfg)
    for sentence in (*found_in(data.dataset.manifest), *data.mixed()):
        console.print(terminal(sentence), style="dim", highlight=False)
    require_held_out(cfg, data)
    for sentence in data.warnings():
        warn(sentence)
    require_prompts(cfg, data)
    source = instantiate.model_source(cfg)
    initial = InitialUpdate.of(cfg.model.start, RunFolder(Path(cfg.out)))
    if initial is not None:
        initial.require_base(source.name, content_hash(source, quantization_of(cfg)))
    screening = Screening.of(cfg, data.dataset.train)
    suite = screening.screened(benchmarks(cfg, source, source, data.template.tokenizer))
    for sentence in screening.warnings():
        warn(sentence)
    require_rewards(cfg)
    sample = deploy_evaluator(cfg, data, warn)
    for sentence in dry_run(cfg, source, update_settings(cfg, data)).update.remarks():
        warn(sentence)
    precision = precision_of(cfg)
    base = load_base_model(
        source, precision.weights, quantization=quantization_of(cfg), device=device_of(cfg)
    )
    if data.template.installed:  # what is written of this base is served with it
        base.tokenizer.chat_template = data.template.installed
    zero_dropouts(base.model)
    scorer = scorer_of(base, cfg)
    if not scorer.backend.packs:
        warn(f"Rows are padded, one path per row, which is slower: {scorer.backend.reason}.")
    data = _with_hard_negatives(data, scorer, base.content_hash, precision.name)
    parts = Components(
        base=base,
        precision=precision,
        scorer=scorer,
        data=data,
        suite=suite,
        evaluator=evaluator_of(cfg, data, suite, rewards_of(cfg)),
        objective=instantiate.objective(cfg),
        total_steps=total_steps(cfg, data.steps_per_epoch),
        texts=kl_texts(cfg, data, context_of(source)),
        screening=screening,
        deploy=sample,
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
        if not isinstance(encoded.trees, StoredTrees)
    }
    return _with_trees(replace(parts, base=base, scorer=scorer, initial=None), bare)


def measure_base(parts: Components, metric: str) -> tuple[Components, EvalResult]:
    """Evaluate the base before anything is attached; benchmarks from the cache if they can be.

    Only for the model as it was loaded: the cache goes by the content of its files. The task is
    measured on what the run goes on from, where there is such a thing; and where `task.shots`,
    `task.retrieve` or `task.system` ask, also with other prompts, by `metric`.
    """
    began = time.perf_counter()
    retention = base_retention(parts.suite, parts.scorer, parts.base, parts.precision.name)
    parts = merge_initial(parts)
    quality = parts.evaluator.quality(parts.scorer, "base")
    elsewhere = deploy_quality(parts, parts.scorer, "base")
    few_shot = parts.evaluator.prompted(parts.scorer, metric)
    parts = with_references(parts)
    seconds = time.perf_counter() - began
    rules = parts.evaluator.rules()
    return parts, EvalResult(retention, quality, seconds, few_shot, rules, elsewhere)


def deploy_quality(parts: Components, scorer: Scorer, what: str) -> dict[str, TaskScore]:
    """Task quality on a sample of what the model will see; nothing without one."""
    if parts.deploy is None:
        return {}
    return parts.deploy.quality(scorer, f"{what}, what it will see")


def base_retention(suite: Suite, scorer: Scorer, base: BaseModel, dtype: str) -> Measurement:
    """The benchmarks on the base alone, before anything is attached; cached."""
    with progress(f"benchmarks, {base.id}", total=suite.size) as advance:
        return cache.measured(
            suite,
            EvalModel(scorer, base.tokenizer),
            model=base.content_hash,
            dtype=dtype,
            backend=scorer.conditions(),
            advance=advance,
        )


def with_references(parts: Components) -> Components:
    """The trees carry the base's log-probs, where the objective measures gains from them."""
    if not parts.objective.needs_reference:
        return parts
    about = {"model": parts.base.content_hash, "dtype": parts.precision.name}
    asked = getattr(parts.objective, "reference", "auto")
    narrow = parts.precision.compute is not torch.float32
    live = asked == "live" or (asked == "auto" and narrow)
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


def _with_trees(parts: Components, trees: Mapping[str, Sequence[Tree]]) -> Components:
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
    packing = tuned_packing(parts.scorer.backend, update)
    untouched = first_scores(parts, parts.scorer.with_model(parts.base.model, packing))
    update.attach(parts.base.model, parts.base.tokenizer)
    checkpoint_activations(update.model, cfg.trainer.gradient_checkpointing)
    scorer = parts.scorer.with_model(update.model, packing)
    same: dict[str, Any] = {**vars(parts), "scorer": scorer}
    return TunedComponents(**same, update=update, untouched=untouched)


ROUNDING = 1e-6
"""Nats by which the same may differ that the same kernels made of the same numbers on one device:
they are reproducible to the last bit, so that this is room for none but the last digits of a sum.
In bf16, too: there a score depends on what else is in its row, which is the same both times."""


def first_scores(parts: Components, scorer: Scorer) -> Scores:
    """Of a few examples of the task, an entry each, by what tells models apart; whatever a scorer
    was asked before, they lie in the same rows, and go through the model one row at a time."""
    alone = scorer.with_model(scorer.model, scorer.backend)
    alone.evaluated_at_once = 1
    kind = parts.evaluator.kind
    return kind.scores(alone, parts.evaluator.trees[:4])[kind.compared_by]


def check_base(parts: TunedComponents) -> float:
    """Base weights did not move, and with the update off the model scores as the base did.

    Returns by how much the scores differ, in nats per token; raises `RunError` where that is more
    than `ROUNDING`.
    """
    parts.update.fingerprint_base()
    with parts.update.disabled():
        off = first_scores(parts, parts.scorer)
    worst = float(abs(off - parts.untouched).max(initial=0.0))
    if not worst <= ROUNDING:
        raise RunError(
            "With the update disabled, the model scores differently from the base (by "
            f"{worst:.2g} nats per token), so any measured forgetting would be wrong."
        )
    return worst


def tuned_scorer(scorer: Scorer, update: Update) -> Scorer:
    """The same for the base with its update."""
    return scorer.with_model(update.model, tuned_packing(scorer.backend, update))


def tuned_packing(packing: PackingMode, update: Update) -> PackingMode:
    """How rows are built for a base with this update, which may be one that cannot be packed."""
    if update.capabilities.packs:
        return packing
    return PackingMode("padded", update.capabilities.reasons["packs"], fast_head=False)


def _with_hard_negatives(
    data: ExampleModule, scorer: Scorer, model: str, dtype: str
) -> ExampleModule:
    """Where examples have rivals: the base chooses the rejected answers."""
    if not any((traits(part.examples) & RIVALS).any() for part in data.encoded.values()):
        return data
    about = {"model": model, "dtype": dtype}
    return data.with_examples(
        {
            part: hardened(encoded, data.template, scorer, what=part, **about)
            for part, encoded in data.encoded.items()
        }
    )
