"""Everything a run works with, made from its configuration in the order in which it can fail.

Data and benchmarks come first, so that a malformed line or a benchmark that is not at hand is told
before any weights load.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis import updates
from myosotis.config import instantiate
from myosotis.config.instantiate import plain
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.convert import viewed
from myosotis.data.datamodule import ExampleModule
from myosotis.data.few_shot import choose_shots
from myosotis.data.label_template import LabelRenderer, RewardRenderer, labels_of
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
from myosotis.retention.benchmarks import build as suites
from myosotis.retention.benchmarks import cache, prose
from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.measure import Measurement
from myosotis.retention.benchmarks.requests import Encoder
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from myosotis.trees.attention import PackingMode
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update
from myosotis.utils.console import progress
from myosotis.utils.errors import ConfigError, RunError


@dataclass
class Components:
    """The parts of a run. `scorer` scores with the weights as they are now."""

    base: BaseModel
    precision: Precision
    backend: PackingMode
    scorer: Scorer
    data: ExampleModule
    suite: Suite
    examination: Evaluator
    objective: Objective
    total_steps: int
    texts: kl.Texts  # on which the shift of predictions is measured
    start: InitialUpdate | None = None  # merged into the base once that was measured
    update: Update | None = None  # once attached

    @classmethod
    def of(cls, cfg: DictConfig, warn: Callable[[str], None]) -> Components:
        """Data, benchmarks, model and probe, in this order. `warn` takes sentences for a person."""
        data = data_of(cfg)
        for sentence in data.warnings():
            warn(sentence)
        source = instantiate.model_source(cfg)
        start = InitialUpdate.of(cfg.model.start, RunFolder(Path(cfg.out)))
        suite = benchmarks(cfg, data.template.tokenizer, context_of(source))
        precision = resolve(
            cfg.trainer.precision, update=cfg["update"].name, accelerator=cfg.trainer.accelerator
        )
        base = load_base_model(source, precision.weights, quantization=quantization_of(cfg))
        zero_dropouts(base.model)
        backend = probe(base.model)
        if backend.name == "padded":
            warn(f"every path is a row of its own: {backend.reason}")
        scorer = Scorer(
            base.model,
            backend,
            row_tokens=cfg.data.row_tokens,
            rows_at_once=cfg.trainer.rows_at_once or rows_at_once(cfg.trainer.accelerator),
        )
        _harden(data, scorer, base.content_hash, precision.name)
        bench = cls(
            base=base,
            precision=precision,
            backend=backend,
            scorer=scorer,
            data=data,
            suite=suite,
            examination=examination(cfg, data, suite),
            objective=instantiate.objective(cfg),
            total_steps=total_steps(cfg, data.steps_per_epoch),
            texts=shift_texts(cfg, data, context_of(source)),
            start=start,
        )
        if cfg.retention.against == "start":
            bench.go_on()
        return bench

    def go_on(self) -> None:
        """From now on the base is what the run goes on from, where there is such a thing."""
        if self.start is None:
            return
        self.base, self.start = self.start.merged_into(self.base), None
        zero_dropouts(self.base.model)
        self.scorer.model = self.base.model
        for encoded in self.data.encoded.values():  # what the model before it said of them
            encoded.trees[:] = [replace(tree, reference=None) for tree in encoded.trees]

    def measure_base(self, metric: str) -> EvalResult:
        """Examine the base, before anything is attached; benchmarks from the cache if they can be.

        Only for the model as it was loaded: the cache goes by the content of its files. The task is
        measured on what the run goes on from, where there is such a thing; and where `task.shots`
        asks, also with examples in the prompt, by `metric`.
        """
        began = time.perf_counter()
        retention = self.base_retention()
        self.go_on()
        quality = self.examination.quality(self.scorer, "base")
        prompted = self.examination.prompted(self.scorer, metric)
        self.remember_base()
        seconds = time.perf_counter() - began
        return EvalResult(retention, quality, seconds, prompted, self.examination.rules())

    @property
    def eval_model(self) -> EvalModel:
        """Who is asked the benchmarks: the model with the weights it has at the moment."""
        return EvalModel(self.scorer, self.base.tokenizer)

    def base_retention(self) -> Measurement:
        """The benchmarks on the base alone, before anything is attached; cached."""
        with progress("benchmarks, base", total=self.suite.size) as advance:
            return cache.measured(
                self.suite,
                self.eval_model,
                model=self.base.content_hash,
                dtype=self.precision.name,
                backend=self.backend.name,
                advance=advance,
            )

    def remember_base(self) -> None:
        """Give the trees the base's log-probs, where the objective measures gains from them."""
        if not self.objective.needs_reference:
            return
        about = {"model": self.base.content_hash, "dtype": self.precision.name}
        live = getattr(self.objective, "reference", "cached") == "live"
        for part in ("validation",) if live else ("train", "validation"):
            trees = self.data.encoded[part].trees
            bare = [i for i, tree in enumerate(trees) if tree.reference is None]
            if bare:
                found = referenced([trees[i] for i in bare], self.scorer, what=part, **about)
                for i, tree in zip(bare, found, strict=True):
                    trees[i] = tree
        self.examination.validation = self.data.validation_trees[: len(self.examination.validation)]

    def held_out(self) -> dict[str, float]:
        """The objective, and what it watches, on held-out examples with the weights as they are."""
        found = self.examination.held_out(self.scorer, self.objective)
        return {f"val/{name}": value for name, value in found.items()}

    def check_base(self, update: Update, base: EvalResult) -> float:
        """Base weights did not move, and with the update off the model scores as the base did.

        Returns by how much the scores differ, in nats a token; raises `RunError` where that is more
        than rounding.
        """
        update.fingerprint_base()
        few = self.examination.trees[:4]
        with update.disabled():
            off = self.scorer.evaluate(few)
        # Of graded answers the log-likelihood of each is kept with its sign.
        signs = [tree.grade or 1 for tree in few]
        scores = [n * float(s.logp[0] / s.weight[0]) for n, s in zip(signs, off, strict=True)]
        metric = "margin" if self.examination.rewards else "loglik"
        metric = "separation" if any(tree.grade for tree in few) else metric
        before = base.quality[metric].scores[: len(scores)]
        worst = max((abs(a - b) for a, b in zip(scores, before, strict=True)), default=0.0)
        if not worst <= 1e-4 * max(1.0, max(abs(before), default=0.0)):
            raise RunError(
                "with the update off the model scores differently than the base did (by "
                f"{worst:.2g} nats a token): what was measured as forgetting would be wrong"
            )
        return worst

    def attach(self, cfg: DictConfig) -> Update:
        """Wrap the base with the update of `cfg`; from now on `scorer` scores the tuned model."""
        update = updates.build(update_settings(cfg, self.data))
        update.attach(self.base.model, self.base.tokenizer)
        if cfg.trainer.gradient_checkpointing:
            model = update.model  # its method was renamed in transformers 5
            name = "activation_checkpointing_enable"
            getattr(model, name, model.gradient_checkpointing_enable)({"use_reentrant": False})
        self.scorer.model = update.model
        self.scorer.backend = backend_of(update, self.backend)
        self.update = update
        return update

    def shift(self) -> list[KL]:
        """How far the predictions are from the base's, with the weights as they are now."""
        assert self.update is not None
        return kl.measured(self.scorer, self.update, self.texts)


def backend_of(update: Update, base: PackingMode) -> PackingMode:
    """What a tuned model is scored with: the base's backend, unless its update cannot be packed."""
    if update.capabilities.packs:
        return base
    return PackingMode("padded", update.capabilities.reasons["packs"], fast_head=False)


def update_settings(cfg: DictConfig, data: ExampleModule) -> dict[str, Any]:
    """The `update` group, with the labels of the data or a value head where those are needed."""
    settings = instantiate.update_settings(cfg)
    if isinstance(data.template, LabelRenderer):
        settings["labels"] = data.template.labels
    return settings


def quantization_of(cfg: DictConfig) -> str | None:
    """How the frozen weights are quantised: null, or nf4 (a setting of LoRA's)."""
    return cfg["update"].get("quantization")


def data_of(cfg: DictConfig) -> ExampleModule:
    """The data of `cfg`, read and tokenised. Raises `DataError` on the first file that is wrong."""
    objective = instantiate.objective(cfg)
    dataset = viewed(instantiate.dataset(cfg), objective.data_kind, cfg.objective.name)
    source = instantiate.model_source(cfg)
    context = context_of(source)
    tokenizer, template = load_tokenizer(source), ChatRenderer
    if updates.build(plain(cfg["update"])).reads_labels:
        template = partial(LabelRenderer, labels=labels_of(dataset))
    elif objective.needs_value_head:
        template = RewardRenderer
    module = ExampleModule(
        dataset,
        template(tokenizer, cfg.data.template),
        batch_size=cfg.data.batch_size,
        max_length=min(cfg.data.max_length or context, context),
        overlong=cfg.data.overlong,
        seed=cfg.seed,
    )
    module.setup()
    return module


def _harden(data: ExampleModule, scorer: Scorer, model: str, dtype: str) -> None:
    """Where examples have rivals: the base chooses the rejected answers."""
    if not any(example.rivals for part in data.encoded.values() for example in part.examples):
        return
    about = {"model": model, "dtype": dtype}
    data.rewrite(
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
    return suites.build(
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


def shift_texts(cfg: DictConfig, data: ExampleModule, context_length: int) -> kl.Texts:
    """Held-out answers of the task (none where no text is scored), and general prose."""
    no_text = isinstance(data.template, LabelRenderer | RewardRenderer)
    task = [] if no_text else data.test_trees[: cfg.retention.kl_items]
    general = general_texts(cfg, data.template.tokenizer, context_length)
    return kl.Texts({"task": task, "general": general})


def general_texts(cfg: DictConfig, tokenizer: object, context_length: int) -> list[Tree]:
    """The beginnings of some passages of general prose."""
    encoder = Encoder(tokenizer, context_length)
    return prose.texts(encoder, cfg.retention.kl_items, cfg.retention.seed)


def examination(cfg: DictConfig, data: ExampleModule, suite: Suite) -> Evaluator:
    """What the models of this run are asked."""
    count = cfg.task["items"] or len(data.test_trees)
    grades = any(tree.grade for tree in data.test_trees)
    if grades and cfg.task.metric in ("accuracy", "margin"):
        raise ConfigError(
            f"task.metric={cfg.task.metric} is of pairs; {data.dataset.name} has graded answers",
            "task.metric=separation",
        )
    return Evaluator(
        suite=suite,
        template=data.template,
        examples=data.test_examples[:count],
        trees=data.test_trees[:count],
        generate=cfg.task.generate,
        max_new_tokens=cfg.task.max_new_tokens,
        validation=data.validation_trees[:count],
        shots=choose_shots(data.dataset.train, cfg.task.shots, cfg.seed),
        max_length=data.max_length,
        pairs=any(len(tree.leaves) > 1 for tree in data.test_trees[:1]),
        labels=len(data.template.labels) if isinstance(data.template, LabelRenderer) else 0,
        rewards=isinstance(data.template, RewardRenderer),
    )


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
