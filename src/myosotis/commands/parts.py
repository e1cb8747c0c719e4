"""Each part of a run, made from the configuration.

In what order they are made, and what becomes of them, is in `components.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from myosotis import updates
from myosotis.commands.find_model import template_options
from myosotis.commands.vocabulary import require_known, require_known_items
from myosotis.config import instantiate
from myosotis.config.instantiate import plain
from myosotis.config.schema import AUTO
from myosotis.data import deploy
from myosotis.data.convert import viewed
from myosotis.data.datamodule import ExampleModule, left_aside
from myosotis.data.few_shot import choose_shots
from myosotis.data.kinds import RANKED, kind_of
from myosotis.data.named_templates import choose_template
from myosotis.data.retrieve import retrieve
from myosotis.evaluation import kl
from myosotis.evaluation.evaluator import Evaluator
from myosotis.evaluation.ranked_labels import labels_of
from myosotis.evaluation.task_metrics import Attempts
from myosotis.models.dtype import Precision, resolve
from myosotis.models.load import (
    BaseModel,
    ModelSource,
    context_length,
    load_config,
    load_tokenizer,
)
from myosotis.objectives import samples
from myosotis.retention.benchmarks import build, prose
from myosotis.retention.benchmarks.requests import Encoder
from myosotis.retention.benchmarks.sampling_design import SamplingDesign, designs_of
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from myosotis.retention.settle import ceiling_of
from myosotis.rewards.together import Rewards
from myosotis.training.eval_schedule import EvalSchedule, cadence, schedule_evals
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.device import device_for, on_gpu


def scorer_of(base: BaseModel, cfg: DictConfig) -> Scorer:
    """What scores the base: packed into rows where the packing check allows it."""
    products = precision_of(cfg).products
    return Scorer(
        base.model,
        probe(base.model, products),
        row_tokens=cfg.data.row_tokens,
        rows_at_once=cfg.trainer.rows_at_once or rows_on(on_gpu(cfg.trainer.accelerator)),
        products=products,
    )


def precision_of(cfg: DictConfig) -> Precision:
    """In which numbers a run of this configuration computes."""
    update, accelerator = cfg["update"].name, cfg.trainer.accelerator
    return resolve(cfg.trainer.precision, update=update, accelerator=accelerator)


def device_of(cfg: DictConfig) -> torch.device:
    """Where it computes."""
    return device_for(cfg.trainer.accelerator)


def update_settings(cfg: DictConfig, data: ExampleModule) -> dict[str, Any]:
    """The `update` group, with the labels of the data or a value head where those are needed."""
    return instantiate.update_settings(cfg) | data.kind.update_settings()


def quantization_of(cfg: DictConfig) -> str | None:
    """How the frozen weights are quantised: null, or nf4 (a setting of LoRA's)."""
    return cfg["update"].get("quantization")


def data_of(cfg: DictConfig) -> ExampleModule:
    """The data of `cfg`, read and tokenised. Raises `DataError` for the first file that is wrong,
    or example that the model has no words for."""
    module = data_module(cfg)
    module.setup()
    require_known(module, instantiate.model_source(cfg))
    if samples(instantiate.objective(cfg)):  # a policy knows a prompt by its tree
        return module.with_trees({"train": list(module.train_trees)})
    return module


def data_module(cfg: DictConfig) -> ExampleModule:
    """The data of `cfg`, read; they are tokenised when they are asked for."""
    objective = instantiate.objective(cfg)
    dataset = viewed(instantiate.dataset(cfg), objective.data_kind, cfg.objective.name)
    source = instantiate.model_source(cfg)
    context = context_of(source)
    tokenizer = load_tokenizer(source)
    every = chain.from_iterable(dataset.parts().values())
    chosen = choose_template(tokenizer, cfg.data.template, every)
    kind = kind_of(
        dataset,
        reads_labels=updates.build(plain(cfg["update"])).reads_labels,
        needs_value_head=objective.needs_value_head,
    )
    options = template_options(cfg)
    kind.require_mask(options.mask, dataset.name)
    renderer = kind.renderer(chosen.tokenizer, chosen.kind, options)
    if renderer.kind == "chat":
        renderer.note, renderer.installed = chosen.note, chosen.text
    renderer.note = "; ".join(filter(None, (renderer.note, renderer.idle_switches())))
    return ExampleModule(
        dataset,
        renderer,
        kind=kind,
        batch_size=cfg.data.batch_size,
        max_length=min(cfg.data.max_length or context, context),
        overlong=cfg.data.overlong,
        seed=cfg.seed,
        repeats=objective.iterations if samples(objective) else 1,
    )


def locator_of(cfg: DictConfig) -> DataLocator:
    """Where the data of benchmarks are at hand."""
    folder = cfg.retention.data_dir
    files = plain(cfg.retention.data_files)
    return DataLocator(Path(folder).expanduser() if folder else None, files)


def require_held_out(cfg: DictConfig, data: ExampleModule) -> None:
    """What the test part must hold for the metric of `cfg`, before any weights load."""
    own = cfg.task.own
    for name in (cfg.task.metric, *cfg.task.metrics):
        data.kind.require_metric("rougeL" if name in own else name, data.dataset.name)
    trees = data.test_trees[: cfg.task["items"] or None]
    decides = "rougeL" if cfg.task.metric in own else cfg.task.metric
    data.kind.require_held_out(trees, decides, min(cfg.task.generate, len(trees)))


def context_of(source: ModelSource) -> int:
    """Longest path in tokens; read from the configuration alone."""
    return context_length(load_config(source), partial(load_tokenizer, source))


def benchmarks(
    cfg: DictConfig,
    base: ModelSource | None,
    source: ModelSource,
    tokenizer: object,
    items: int | None = None,
) -> Suite:
    """The suite of `cfg`, rendered for `source` and its tokenizer: to compare with `base`, or None
    to compare nothing. Of `items` per benchmark instead of `retention.items` where a later round
    asks more. Raises `DataError` for an item with a token that the model does not know.
    """
    suite = build.build(
        list(cfg.retention.suite),
        tokenizer,  # type: ignore[arg-type]
        context_length=context_of(source),
        items=items or cfg.retention["items"],
        seed=cfg.retention.seed,
        num_fewshot=cfg.retention.num_fewshot,
        chat_template=cfg.retention.chat_template,
        locator=locator_of(cfg),
        designs=_designs(cfg, base) if base is not None else {},
        safety_prompts=cfg.retention.get("safety_prompts"),
    )
    require_known_items(suite, tokenizer, source)
    return suite


def most_items(cfg: DictConfig) -> int | None:
    """The most items per benchmark that are asked until the verdict is settled; None: a fixed set.

    A fixed set is asked also where the base is not the model that is trained (`model.start`,
    measured against the pretrained one): it is not at hand after the training. Raises `ConfigError`
    where the most is fewer than are asked first.
    """
    asked = cfg.retention
    elsewhere = cfg.model.start is not None and asked.against == "pretrained"
    if not asked.settle or asked["items"] is None or not asked.suite or elsewhere:
        return None
    return ceiling_of(int(asked["items"]), asked.max_items)


def _designs(cfg: DictConfig, base: ModelSource) -> dict[str, SamplingDesign]:
    """The sampling designs that ship for the embedded model, of pools that have enough items. They
    are of questions without examples and without a chat template, as a run asks by default."""
    most = most_items(cfg)
    if most is None or base.kind != "wheel" or base.id is None:
        return {}
    if cfg.retention.num_fewshot != 0 or cfg.retention.chat_template:
        return {}
    designs = designs_of(base.id)
    return {
        name: one for name, one in designs.items() if len(one.rows) >= min(most, one.population)
    }


def kl_texts(cfg: DictConfig, data: ExampleModule, context_length: int) -> kl.Texts:
    """Held-out answers of the task (none where no text is scored), and general prose."""
    task = data.test_trees[: cfg.retention.kl_items] if data.kind.is_text else []
    general = general_texts(cfg, data.template.tokenizer, context_length)
    return kl.Texts({"task": task, "general": general})


def general_texts(cfg: DictConfig, tokenizer: object, context_length: int) -> list[Tree]:
    """The beginnings of some passages of general prose."""
    encoder = Encoder(tokenizer, context_length)
    return prose.texts(encoder, cfg.retention.kl_items, cfg.retention.seed)


def evaluator_of(
    cfg: DictConfig, data: ExampleModule, suite: Suite, rewards: Rewards | None = None
) -> Evaluator:
    """What the models of this run are asked; `rewards` are what their answers are worth."""
    count = cfg.task["items"] or len(data.test_trees)
    return Evaluator(
        suite=suite,
        template=data.template.of_answers(),
        examples=data.test_examples[:count],
        trees=data.test_trees[:count],
        kind=data.kind,
        generate=cfg.task.generate,
        max_new_tokens=cfg.task.max_new_tokens,
        validation=data.validation_trees[:count],
        validation_kind=data.kind_of("validation"),
        validation_sources=[e.source for e in data.encoded["validation"].examples[:count]],
        shots=choose_shots(data.dataset.train, cfg.task.shots, cfg.seed),
        retrieved=retrieve(data.test_examples[:count], data.dataset.train, cfg.task.retrieve),
        instruction=cfg.task.system or "",
        max_length=data.max_length,
        metrics=[cfg.task.metric, *cfg.task.metrics],
        own=instantiate.task_metrics(cfg),
        rewards=rewards,
        attempts=attempts_of(cfg),
        labels=labels_of(chain(*data.dataset.parts().values())) if ranks(cfg) else (),
        validation_examples=data.encoded["validation"].examples[:count],
    )


def ranks(cfg: DictConfig) -> bool:
    """Whether the answers of the data are ranked as labels."""
    return any(name in RANKED for name in (cfg.task.metric, *cfg.task.metrics))


def attempts_of(cfg: DictConfig) -> Attempts:
    """How pass@k and best of k are asked for."""
    task = cfg.task
    return Attempts(task.k, task.samples, task.temperature, cfg.seed)


def deploy_evaluator(
    cfg: DictConfig, data: ExampleModule, warn: Callable[[str], None]
) -> Evaluator | None:
    """What asks about a sample of what the model will see; None without `data.deploy`. `warn` takes
    what of it was not read, or does not fit."""
    path = cfg.data.get("deploy")
    if path is None:
        return None
    kind = instantiate.objective(cfg).data_kind
    words = plain(cfg.data.source)
    sample = deploy.deploy_dataset(str(path), words, kind, cfg.objective.name)
    read = deploy.encoded(
        sample, data.template, data.kind, max_length=data.max_length, overlong=data.overlong
    )
    for sentence in (*left_aside(sample.manifest), *read.warnings("data.deploy")):
        warn(sentence)
    count = cfg.task["items"] or len(read.trees)
    asked = evaluator_of(cfg, data, Suite((), 0, ""))
    return replace(
        asked,
        examples=read.examples[:count],
        trees=read.trees[:count],
        validation=(),
        validation_kind=None,
        shots=(),
        retrieved=(),
        instruction="",
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


def rows_on(gpu: bool) -> int:
    """Rows in one forward pass to begin with; halved when memory runs out.

    A CPU gains nothing from more than one.
    """
    return 16 if gpu else 1
