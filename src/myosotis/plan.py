"""`myosotis plan`: what a run would do, worked out without loading weights.

Parameter counts are exact (the update is attached to the model on the meta device). Memory follows
SCIENCE.md section 1 and what this implementation keeps; it is an estimate and says so.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import torch
from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from myosotis import models, updates, workbench
from myosotis.config import LearningRate, build, check, config_hash, learning_rate
from myosotis.console import console
from myosotis.precision import Precision, resolve
from myosotis.retention.budget import Reach, reach

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EFFICIENCY = 0.6  # of training against matrix products alone: SmolLM2-135M, fp32, one CPU thread
ASSUMED_SCORE = 0.5  # of a benchmark not measured yet: what a budget is a fraction of


@dataclass(frozen=True)
class Memory:
    """Gigabytes (1e9 bytes) at the peak of a training step, by what they hold.

    `program` is Python, its libraries and the data, where they share memory with the model (CPU).
    """

    program: float
    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Steps:
    """One optimiser step is `batch_size` examples; `epochs` passes make `total` steps."""

    train_examples: int
    tokens_per_example: float
    scored_per_example: float
    batch_size: int
    per_epoch: int
    total: int
    warmup: int
    warnings: list[str]

    @property
    def epochs(self) -> float:
        return self.total / self.per_epoch


@dataclass
class Plan:
    """Everything the screen shows; `trainable` and `parameters` are numbers of parameters."""

    config_hash: str
    model: str
    update: str
    parameters: int
    trainable: int
    steps: Steps
    learning_rate: LearningRate
    precision: str
    memory: Memory
    teraflops: float
    seconds: float
    suite: list[str]
    reach: list[Reach]
    warnings: list[str] = field(default_factory=list)


def plan(cfg: DictConfig) -> dict[str, Any]:
    """Check `cfg`, print what would run, and return it as plain data. Loads no weights."""
    made = make(cfg)
    show(made)
    document = asdict(made)
    document["memory"]["total"] = made.memory.total
    document["steps"]["epochs"] = made.steps.epochs
    document["reach"] = [{**asdict(r), "verdicts": list(r.verdicts)} for r in made.reach]
    return document


def make(cfg: DictConfig) -> Plan:
    """The plan of a config. Raises what a run of it would raise before it loads weights."""
    warnings = check(cfg)
    source = build.model_source(cfg)
    model = models.meta_model(source)
    parameters = count(model)
    settings = build.plain(cfg["update"])
    update = updates.build(settings)
    update.attach(model)
    steps = count_steps(cfg)
    precision = resolve(
        cfg.trainer.precision, update=cfg["update"]["name"], accelerator=cfg.trainer.accelerator
    )
    work = teraflops(parameters, update.count(), steps)
    return Plan(
        config_hash=config_hash(cfg),
        model=str(source.id or source.path),
        update=described(settings),
        parameters=parameters,
        trainable=update.count(),
        steps=steps,
        learning_rate=learning_rate(cfg),
        precision=f"{precision.trainer}, base weights in {precision.name}",
        memory=memory(cfg, model, parameters, update.count(), precision),
        teraflops=work,
        seconds=work * 1e12 / (EFFICIENCY * flops_a_second(cfg)),
        suite=list(cfg.retention.suite),
        reach=reachable(cfg),
        warnings=[*warnings, *steps.warnings],
    )


def count(model: PreTrainedModel) -> int:
    """Parameters, tied ones once."""
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


def described(settings: dict[str, Any]) -> str:
    rest = ", ".join(f"{k}={v}" for k, v in settings.items() if k != "name")
    return f"{settings['name']} ({rest})" if rest else str(settings["name"])


def count_steps(cfg: DictConfig) -> Steps:
    """The data as a run would read them, counted."""
    data = workbench.data_of(cfg)
    read = data.encoded["train"]
    total = workbench.total_steps(cfg, data.steps_per_epoch)
    warmup = cfg.schedule.warmup
    return Steps(
        train_examples=len(read.trees),
        tokens_per_example=read.tokens / len(read.trees),
        scored_per_example=read.scored / len(read.trees),
        batch_size=data.batch_size,
        per_epoch=data.steps_per_epoch,
        total=total,
        warmup=math.floor(warmup if warmup >= 1 else warmup * total),
        warnings=data.warnings(),
    )


def memory(
    cfg: DictConfig, model: PreTrainedModel, parameters: int, trainable: int, precision: Precision
) -> Memory:
    """Estimated peak of a step in gigabytes. Fp32 full tuning with Adam: 16 bytes a parameter."""
    base = precision.weights.itemsize
    compute = 4 if precision.trainer == "32-true" else 2
    # Full tuning trains in fp32 and keeps the base beside what it becomes.
    full = trainable >= parameters
    weights = parameters * (8 if full else base) + (0 if full else 4 * trainable)
    moments = moments_per_parameter(cfg)
    rows = int(cfg.trainer.rows_at_once or workbench.rows_at_once(cfg.trainer.accelerator))
    tokens = rows * int(cfg.data.row_tokens)
    text = model.config.get_text_config()
    from myosotis.trees.score import CHUNK

    shared = cfg.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    return Memory(
        program=psutil.Process().memory_info().rss / 1e9 if shared else 0.0,
        weights=weights / 1e9,
        gradients=4 * trainable / 1e9,
        optimizer=4 * moments * trainable / 1e9,
        activations=activations(text, tokens, rows, compute, cfg.trainer.gradient_checkpointing),
        # A chunk's logits, their log-softmax and the gradient, in fp32.
        logits=3 * 4 * CHUNK * int(text.vocab_size) / 1e9,
    )


def activations(
    text_config: Any, tokens: int, rows: int, itemsize: int, checkpointing: bool
) -> float:
    """Gigabytes kept for the backward pass of `tokens` tokens in `rows` rows.

    A layer keeps what its norms, projections and gate read: about 8 vectors of the hidden size, the
    keys and values, 4 of the MLP's, and the mask (after Korthikanti et al. 2022, equation 1,
    without its dropouts and with fused attention). With checkpointing only each layer's input, and
    one layer whole.
    """
    hidden = int(text_config.hidden_size)
    heads = int(text_config.num_attention_heads)
    kv_heads = int(getattr(text_config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(text_config, "head_dim", None) or hidden // heads)
    inner = int(getattr(text_config, "intermediate_size", None) or 4 * hidden)
    layers = int(text_config.num_hidden_layers)
    layer = tokens * (8 * hidden + 2 * kv_heads * head_dim + 4 * inner)
    kept = layers * tokens * hidden + layer if checkpointing else layers * layer
    mask = tokens * tokens / max(1, rows)
    return (kept + mask) * itemsize / 1e9


def moments_per_parameter(cfg: DictConfig) -> float:
    """Numbers the optimiser keeps for each trained one (Adam: 2), found by one step of it."""
    parameter = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = build.optimizer(cfg)([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state[parameter].values()
    held = sum(v.numel() for v in state if isinstance(v, torch.Tensor) and v.numel() > 1)
    return held / parameter.numel()


def teraflops(parameters: int, trainable: int, steps: Steps) -> float:
    """Work of the training: 6N a token for full tuning, 4N + 6 N_trained for what is added."""
    tokens = steps.total * steps.batch_size * steps.tokens_per_example
    if trainable >= parameters:
        return 6 * parameters * tokens / 1e12
    return (4 * parameters + 6 * trainable) * tokens / 1e12


def flops_a_second(cfg: DictConfig) -> float:
    """What this machine does now, in matrix products of a layer's shape; takes a quarter second."""
    on_gpu = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device, size = ("cuda", 4096) if on_gpu else ("cpu", 512)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    a = torch.ones(size, size, device=device, dtype=dtype)
    products, began = 0, time.perf_counter()
    while time.perf_counter() - began < 0.25:
        float((a @ a)[0, 0])
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - began)


def reachable(cfg: DictConfig) -> list[Reach]:
    """Which verdicts the items can reach, were each benchmark's base score `ASSUMED_SCORE`."""
    if cfg.retention["items"] is None:
        return []
    epsilon = float(cfg.retention.budget) * ASSUMED_SCORE
    suite = [name for name in cfg.retention.suite if name != "prose"]
    items = int(cfg.retention["items"])
    found = [reach("each benchmark", items, epsilon, tasks=len(suite))] if suite else []
    if len(suite) > 1:
        found.append(reach("their mean", items * len(suite), epsilon))
    return found


def duration(seconds: float) -> str:
    """As a person says it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} seconds"


def show(plan: Plan) -> None:
    """The plan as a table on the console."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in rows(plan):
        table.add_row(name, Text(text))
    console.print(table)
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", "yellow"))


def rows(plan: Plan) -> list[tuple[str, str]]:
    """What the screen says, line by line."""
    steps, memory_ = plan.steps, plan.memory
    share = plan.trainable / plan.parameters
    parts = [(name, value) for name, value in asdict(memory_).items() if value >= 0.005]
    return [
        ("model", f"{plan.model}: {plan.parameters:,} parameters"),
        ("update", f"{plan.update}"),
        ("trained", f"{plan.trainable:,} parameters, {share:.2%} of the model"),
        (
            "data",
            f"{steps.train_examples:,} examples of about {steps.tokens_per_example:.0f} tokens, "
            f"{steps.scored_per_example:.0f} of them scored",
        ),
        (
            "steps",
            f"{steps.total:,} of {steps.batch_size} examples: {steps.epochs:.2g} of an epoch of "
            f"{steps.per_epoch:,}; {steps.warmup} to warm up",
        ),
        ("rate", f"{plan.learning_rate.value:g} ({plan.learning_rate.origin})"),
        ("precision", plan.precision),
        (
            "memory",
            f"about {memory_.total:.1f} GB: "
            + ", ".join(f"{name} {value:.2f}" for name, value in parts),
        ),
        (
            "time",
            f"about {duration(plan.seconds)} of training on this machine as busy as it is now "
            f"({plan.teraflops:,.3g} TFLOP); the benchmarks come on top",
        ),
        ("benchmarks", ", ".join(plan.suite) or "none"),
        *[("", r.text) for r in plan.reach],
    ]
