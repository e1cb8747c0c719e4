"""What cannot work, refused before any weights load.

Composition has caught unknown keys and wrong types in the groups with a schema. Left for here: keys
forced in with `+`, interpolations, what the classes named by `_target_` take, ranges, names, and
choices that exclude each other.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from myosotis.config.controls import check_controls
from myosotis.config.default_lr import learning_rate
from myosotis.config.instantiate import optimizer_settings, with_heads
from myosotis.config.rewards import check_rewards
from myosotis.config.schema import AUTO, Config
from myosotis.config.strategy import require_devices, require_strategy
from myosotis.config.targets import bound, refuse_elsewhere
from myosotis.data.template_names import check_template
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from myosotis.data.kinds import TaskKind

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
OBJECTIVES = ("quality", "forgetting")
# How examples of any source become steps; the other keys of `data` go to its source.
STEPS_OF_DATA = ("batch_size", "row_tokens", "max_length", "overlong", "template")
STEPS_OF_DATA += ("reasoning", "template_kwargs", "score_empty_think", "mask", "deploy")
OWN_TARGETS = ("objective", "optimizer", "callbacks", "logger", "control", "reward")
MLFLOW = "myosotis.tracking.mlflow_logger.MLflowLogger"
# What a logger needs beside us: modules, of which one will do; also the name of our extra.
LOGGER_MODULES = {
    "WandbLogger": ("wandb",),
    "TensorBoardLogger": ("tensorboard", "tensorboardX"),
}


def check(cfg: DictConfig, *, here: bool = True) -> list[str]:
    """Raise `ConfigError` for what cannot work; return warnings, each a sentence. `here`: it is to
    be computed on this machine, and the devices that it asks for must be there.

    Imports torch and Lightning (to hold keywords against signatures); loads no weights.
    """
    values = _resolved(cfg)
    if values.get("stages"):
        raise ConfigError(
            "stages are trainings one after another; this is one.",
            "Put them into sweeps/NAME.yaml, and run myosotis sweep NAME.",
        )
    _keys(values, Config, "")
    _groups(values)
    _numbers(values, "")
    for group, node in values.items():
        if group == "data":
            _data(node)
        elif group == "task":
            refuse_elsewhere({key: value for key, value in node.items() if key != "own"}, group)
        elif group not in OWN_TARGETS:
            refuse_elsewhere(node, group)
    _ranges(cfg)
    _names(cfg)
    require_devices(cfg, here=here)
    require_strategy(cfg, here=here)
    _paths(cfg)
    _objects(cfg, values)
    kind = _combinations(cfg, values)
    warning = learning_rate(cfg).warning
    return [one for one in (warning, _few_answers(cfg, kind)) if one]


def _metrics(cfg: DictConfig, kind: type[TaskKind]) -> None:
    """Every metric of the task is known, fits the data, and has the answers that it needs."""
    from myosotis.config.instantiate import task_metrics
    from myosotis.evaluation.task_metrics import METRICS

    own = task_metrics(cfg)
    if taken := sorted(own.keys() & METRICS):
        raise ConfigError(f"task.own.{taken[0]} has the name of a metric that there is.")
    written = {*kind.written, *own}
    asked = {"task.metric": [cfg.task.metric], "task.metrics": list(cfg.task.metrics)}
    for key, names in asked.items():
        for name in names:
            _one_of(key, name, [*METRICS, *own])
            kind.require_metric("rougeL" if name in own else name)
            if name in written and not cfg.task.generate:
                raise ConfigError(
                    f"{key}={name} is computed on generated answers, but task.generate=0.",
                    "Add task.generate=16.",
                )


FEW_ANSWERS = 50
"""Generated answers below which a metric that decides on them is said to rest on few."""


def _few_answers(cfg: DictConfig, kind: type[TaskKind]) -> str:
    on_texts = cfg.task.metric in kind.written or cfg.task.metric in cfg.task.own
    if not on_texts or cfg.task.generate >= FEW_ANSWERS:
        return ""
    return (
        f"task.metric={cfg.task.metric} is measured on {cfg.task.generate} generated answers, "
        "which show large changes alone; task.generate=200 asks for more."
    )


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or str(error)
        raise ConfigError(f"{key} is needed.", f"Add {key}=VALUE.") from None
    except (InterpolationResolutionError, OmegaConfBaseException) as error:
        raise ConfigError(str(error).strip().split("\n")[0]) from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _groups(values: dict[str, Any]) -> None:
    """A primary config of one's own may lack what conf/train.yaml begins with."""
    for group in ("model", "data", "update", "objective", "optimizer", "trainer", "retention"):
        if not isinstance(values.get(group), dict):
            raise ConfigError(
                f"The configuration has no group {group!r}.",
                "A config of your own begins with `defaults: [train, _self_]`.",
            )


def _keys(values: dict[str, Any], schema: type, where: str) -> None:
    """Keys that `+` or `++` forced into a node with a schema."""
    types = get_type_hints(schema)
    for key, value in values.items():
        if key not in types:
            path = f"{where}.{key}" if where else str(key)
            raise ConfigError(f"There is no key {path!r}.", did_you_mean(key, types))
        if dataclasses.is_dataclass(types[key]) and isinstance(value, dict):
            _keys(value, types[key], key)


def _data(node: dict[str, Any]) -> None:
    """The source and its keywords; and no key of the group that nobody reads."""
    from myosotis.data.example import Dataset

    if not isinstance(node.get("source"), dict):
        raise ConfigError(
            "data.source names no class.", "Choose a data set, as in data=jsonl or data=docstrings."
        )
    _, words = bound(node["source"], Dataset, "data.source")
    known = {"name", "source", *STEPS_OF_DATA, *words}
    for key, value in node.items():
        if key not in known:
            raise ConfigError(f"data has no key {key!r}.", did_you_mean(key, known))
        if key != "source":
            refuse_elsewhere(value, f"data.{key}")
    refuse_elsewhere(words, "data.source")


SEEDS = 2**32 - 1
"""NumPy takes seeds of 32 bits."""

LARGEST = 10**15

MOST = 1_000_000_000
"""Of anything that is counted; nothing that is measured is larger either."""


def _at_least(lowest: float, most: float = MOST) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: lowest <= value <= most), f"at least {lowest:g} and at most {most:,}"


_POSITIVE: tuple[Callable[[Any], bool], str] = (
    (lambda value: 0 < value <= MOST),
    f"above 0 and at most {MOST:,}",
)
_SHARE: tuple[Callable[[Any], bool], str] = (lambda value: 0 < value < 1), "between 0 and 1"

RANGES = {
    "seed": _at_least(0, SEEDS),
    "retention.seed": _at_least(0, SEEDS),
    "data.split_seed": _at_least(0, SEEDS),
    "data.batch_size": _at_least(1),
    "data.row_tokens": _at_least(8, 10_000_000),
    "data.max_length": _at_least(2),
    "data.train_items": _at_least(1),
    "data.val_items": _at_least(1),
    "data.test_items": _at_least(1),
    "data.val_fraction": ((lambda value: 0 <= value < 1), "at least 0 and below 1"),
    "optimizer.lr": _POSITIVE,
    "optimizer.weight_decay": _at_least(0),
    "optimizer.layer_decay": ((lambda value: 0 < value <= 1), "above 0 and at most 1"),
    "schedule.warmup": _at_least(0),
    "trainer.max_steps": _at_least(1),
    "trainer.max_epochs": _at_least(1),
    "trainer.gradient_clip_val": _POSITIVE,
    "trainer.rows_at_once": _at_least(1),
    "trainer.num_threads": _at_least(1, 10_000),
    "retention.items": _at_least(2),
    "retention.max_items": _at_least(2),
    "retention.sequential_floor": _at_least(1),
    "retention.sequential_ceiling": _at_least(1),
    "retention.kl_items": _at_least(0),
    "retention.num_fewshot": _at_least(0),
    "retention.patience": _at_least(1),
    "task.items": _at_least(2),
    "task.shots": _at_least(0),
    "task.retrieve": _at_least(0),
    "task.generate": _at_least(0),
    "task.max_new_tokens": _at_least(1),
    "task.k": _at_least(1),
    "task.samples": _at_least(1),
    "task.temperature": _POSITIVE,
    "plan.device_gb": _POSITIVE,
}
CADENCES = ("trainer.val_every", "trainer.checkpoint_every", "retention.every")


def _ranges(cfg: DictConfig) -> None:
    for key, (fits, wanted) in RANGES.items():
        value = OmegaConf.select(cfg, key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key} takes a number, not {value!r}.")
        if not fits(value):
            raise ConfigError(f"{key}={_shown(value)} is out of range.", f"It must be {wanted}.")
    for key in CADENCES:
        _cadence(key, OmegaConf.select(cfg, key))
    _budget(OmegaConf.to_container(cfg.retention))


def _budget(retention: Any) -> None:
    """One share, or a share for some of the tasks."""
    from myosotis.records.verdict import task_name
    from myosotis.retention.budget import OTHERS

    given = retention["budget"]
    by_task = given if isinstance(given, dict) else {}
    suite = [str(entry) for entry in retention["suite"]]
    known = list(dict.fromkeys([*suite, *map(task_name, suite), OTHERS]))
    for name in by_task:
        _one_of("retention.budget", name, known)
    shares = {f".{name}": share for name, share in by_task.items()} or {"": given}
    fits, wanted = _SHARE
    for name, share in shares.items():
        key = f"retention.budget{name}"
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise ConfigError(f"{key} takes a number, not {share!r}.")
        if not fits(share):
            raise ConfigError(f"{key}={_shown(share)} is out of range.", f"It must be {wanted}.")


def _numbers(node: Any, where: str) -> None:
    """No number is infinite, none, or longer than any that something could be computed with."""
    children: Any = node.items() if isinstance(node, dict) else ()
    if isinstance(node, list):
        children = enumerate(node)
    for key, value in children:
        path = f"{where}.{key}" if where else str(key)
        if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
            raise ConfigError(f"{path}={_shown(value)} is not a number that can be used.")
        _numbers(value, path)


def _shown(value: Any) -> str:
    """A number as it was given, unless it has hundreds of digits."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} digits)"


def _cadence(key: str, value: Any) -> None:
    if value is None or (key == "retention.every" and value == AUTO):
        return
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number <= MOST or (text.endswith("%") and number > 100):
        raise ConfigError(
            f"{key}={_shown(value)} is neither a number of steps nor a share of the run.",
            "Give steps (50), a share (10%), or null for never.",
        )


def _one_of(key: str, value: Any, known: Collection[str]) -> None:
    if value not in known:
        # All known names, also when one of them is near: there are few.
        meant = did_you_mean(str(value), known)
        listed = f"Known: {', '.join(known)}."
        hint = meant if meant.startswith("Known") else f"{meant} {listed}".strip()
        raise ConfigError(f"{key} cannot be {value!r}.", hint)


def _names(cfg: DictConfig) -> None:
    _one_of("trainer.accelerator", cfg.trainer.accelerator, ACCELERATORS)
    level = str(cfg.trainer.gradient_checkpointing).lower()
    _one_of("trainer.gradient_checkpointing", level, ("false", "true", "mlp"))
    from myosotis.training.optim import SCHEDULES

    _one_of("schedule.name", cfg.schedule.name, SCHEDULES)
    _one_of("retention.accept", cfg.retention.accept, ("retained", "not_forgotten"))
    _one_of("retention.against", cfg.retention.against, ("pretrained", "start"))
    _one_of("retention.contaminated", cfg.retention.contaminated, ("keep", "exclude"))
    _one_of("retention.on_breach", cfg.retention.on_breach, ("warn", "stop", "rollback"))
    _one_of("model.kind", cfg.model.kind, ("wheel", "local", "hub"))
    for key, known in (
        ("overlong", ("drop", "truncate")),
        ("reasoning", ("keep", "drop", "last")),
        ("mask", ("answers", "last", "full")),
    ):
        if key in cfg.data:
            _one_of(f"data.{key}", cfg.data[key], known)
    if "template" in cfg.data:
        check_template(str(cfg.data.template))
    for name in cfg.sweep.objectives:
        _one_of("sweep.objectives", name, OBJECTIVES)
    if outside := [alpha for alpha in cfg.retention.dial if not 0 <= alpha <= 2]:
        raise ConfigError(
            f"retention.dial={outside[0]:g} is out of range.",
            "Strengths go from 0 to 2: 0 is the base, 1 the tuned model.",
        )
    if not cfg.sweep.objectives:
        raise ConfigError("sweep.objectives is empty.", f"Known: {', '.join(OBJECTIVES)}.")
    if cfg.retention.settle and cfg.retention["items"] and cfg.retention.max_items:
        from myosotis.retention.settle import ceiling_of

        ceiling_of(cfg.retention["items"], cfg.retention.max_items)
    if (kwargs := cfg.data.get("template_kwargs")) is not None and not OmegaConf.is_dict(kwargs):
        raise ConfigError(
            f"data.template_kwargs={kwargs} is no set of switches.",
            "As in data.template_kwargs={enable_thinking: false}.",
        )
    suite = list(cfg.retention.suite)
    if odd := [name for name in suite if not isinstance(name, str)]:
        raise ConfigError(f"retention.suite names {odd[0]}, which is no name of a benchmark.")
    if twice := sorted({name for name in suite if suite.count(name) > 1}):
        raise ConfigError(f"retention.suite names {twice[0]!r} twice.")


def _paths(cfg: DictConfig) -> None:
    from myosotis.data.places import HubData, files_of, place_of

    keys = ("data.path", "data.val_path", "data.test_path", "data.deploy")
    keys += ("retention.safety_prompts",)
    values = {key: OmegaConf.select(cfg, key) for key in keys} | _sources(cfg)
    for key, value in values.items():
        if value is None or isinstance(place := place_of(str(value)), HubData):
            continue
        try:
            files_of(place)
        except DataError as error:
            raise ConfigError(f"{key}: {error.message}", error.hint) from None


def _sources(cfg: DictConfig) -> dict[str, Any]:
    """The paths of several sources, by their keys. Raises `ConfigError` for what is no source."""
    from myosotis.data.source_list import mixture_of, source_list

    if "sources" not in cfg.data:
        return {}
    group = OmegaConf.to_container(cfg.data, resolve=True)
    assert isinstance(group, dict)
    if not isinstance(group["sources"], list):
        raise ConfigError(
            f"data.sources={_shown(group['sources'])} is no list.", "[{path: a.jsonl, weight: 2}]"
        )
    listed = source_list(group["sources"], group.get("path"), group.get("hub") or {})
    mixture_of(listed, group.get("mixture") or {})
    return {f"data.sources[{i}].path": one.get("path") for i, one in enumerate(group["sources"])}


def _objects(cfg: DictConfig, values: dict[str, Any]) -> None:
    """Hold every group that names a class against that class, and build the cheap ones once."""
    import torch

    from myosotis import updates
    from myosotis.models.dtype import PRECISIONS, resolve
    from myosotis.objectives import Objective

    _one_of("trainer.precision", cfg.trainer.precision, PRECISIONS)
    resolve(
        cfg.trainer.precision, update=values["update"]["name"], accelerator=cfg.trainer.accelerator
    )
    updates.build(values["update"])
    objective, words = bound(values["objective"], Objective, "objective")
    objective(**words)
    settings = optimizer_settings(values["optimizer"])
    optimizer, words = bound(settings, torch.optim.Optimizer, "optimizer", "params")
    rate = {"lr": 1e-4} if words.get("lr") is None else {}
    try:
        optimizer([torch.nn.Parameter(torch.zeros(1))], **{**words, **rate})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optimizer: {error}.") from None
    for name, settings in (values["callbacks"] or {}).items():
        if not isinstance(settings, dict):
            raise ConfigError(f"callbacks.{name} must name a class with _target_.")
        from lightning.pytorch import Callback

        bound(settings, Callback, f"callbacks.{name}")
    _loggers(values)


def _loggers(values: dict[str, Any]) -> None:
    """MLflow's entry only names it, which takes no MLflow (a plan has no use for the seconds that
    takes); the others are held against their class, and are installed."""
    entries = values.get("logger") or {}  # absent from a run of before there was the group
    for name, settings in entries.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"logger.{name} must name a class with _target_.")
        if settings == {"_target_": MLFLOW} and name == "mlflow":
            continue
        from lightning.pytorch.loggers.logger import Logger

        make, words = bound(settings, Logger, f"logger.{name}")
        refuse_elsewhere(words, f"logger.{name}")
        if name == "mlflow":
            key = next(iter(words), "_target_")
            raise ConfigError(
                f"logger.mlflow.{key} has no place here: MLflow is set by the group `tracking`.",
                "tracking.uri, tracking.experiment, …; a logger of yours takes another name.",
            )
        modules = LOGGER_MODULES.get(getattr(make, "__name__", ""), ())
        if modules and not any(importlib.util.find_spec(module) for module in modules):
            raise ConfigError(
                f"logger.{name} needs the package {modules[0]}, which is not installed.",
                f"pip install 'myosotis[{modules[0]}]'",
            )


def _combinations(cfg: DictConfig, values: dict[str, Any]) -> type[TaskKind]:
    """Refuse what does not go together; what the held-out examples are to be."""
    from myosotis import updates
    from myosotis.controls import About
    from myosotis.data.kinds import expected_kind
    from myosotis.objectives import Objective

    objective, words = bound(values["objective"], Objective, "objective")
    made = objective(**words)
    data_kind = made.data_kind
    update = updates.build(with_heads(values["update"], made))
    able = update.capabilities
    name = cfg["update"]["name"]
    if cfg.trainer.gradient_checkpointing and not able.gradient_checkpointing:
        raise ConfigError(
            f"update={name} cannot train with gradient checkpointing: "
            f"{able.reasons['gradient_checkpointing']}.",
            "Add trainer.gradient_checkpointing=false.",
        )
    if list(cfg.retention.dial) and not able.scalable:
        raise ConfigError(
            f"update={name} cannot be scaled to a strength: {able.reasons['scalable']}.",
            "Add 'retention.dial=[]'.",
        )
    watched = bool(cfg.retention.suite) and cfg.retention.every is not None
    acting = cfg.retention.on_breach != "warn" or cfg.retention.patience is not None
    if acting and not watched:
        key = "on_breach" if cfg.retention.on_breach != "warn" else "patience"
        raise ConfigError(
            f"retention.{key}={cfg.retention[key]} needs evaluations during training.",
            "Name benchmarks with retention.suite, and how often with retention.every=10%.",
        )
    if cfg.retention.gate and not cfg.retention.suite:
        raise ConfigError(
            "retention.gate=true needs a verdict, but retention.suite is empty.",
            "Add a benchmark, as in 'retention.suite=[hellaswag]'.",
        )
    if cfg.model.start is not None and cfg["update"].get("quantization"):
        raise ConfigError(
            "model.start is merged into weights, but update.quantization keeps them in four bits.",
            "Export the run first: myosotis export RUN --to merged --out DIR; then use "
            "model=local model.path=DIR.",
        )
    labels = update.reads_labels
    if labels and data_kind != "answers":
        raise ConfigError(
            f"update={name} learns from labels, but objective={cfg.objective.name} learns from "
            f"{data_kind}.",
            "Add objective=sft.",
        )
    kind = expected_kind(
        data_kind, reads_labels=labels, needs_value_head=objective.needs_value_head
    )
    _metrics(cfg, kind)
    kind.require_mask(cfg.data.get("mask") or "answers")
    if cfg.optimizer.get("layer_decay", 1.0) != 1 and not able.layered:
        raise ConfigError(
            f"optimizer.layer_decay sets rates by layer, and update={name} belongs to no layer: "
            f"{able.reasons['layered']}.",
            "Add optimizer.layer_decay=1.",
        )
    check_controls(cfg, values, About(update, name, kind.is_text))
    check_rewards(cfg, values, objective(**words), kind)
    return kind
