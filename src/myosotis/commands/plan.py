"""`myosotis plan`: what a run would do, worked out without loading weights.

Parameter counts are exact (the update is attached to the model on the meta device). Memory follows
docs/science.md, section 1 and what this implementation keeps; it is an estimate and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from myosotis.commands import parts
from myosotis.commands.dry_run import dry_run
from myosotis.commands.fits import Device, Fit, fit
from myosotis.commands.settling import outlook_of
from myosotis.config import LearningRate, check, config_hash, instantiate, learning_rate
from myosotis.controls import Extra
from myosotis.data.datamodule import ExampleModule
from myosotis.models.init_from import InitialUpdate
from myosotis.objectives import SampledObjective, samples
from myosotis.records.schema import GENERAL_TEXTS
from myosotis.records.verdict import DetectableEffect, Outlook
from myosotis.report import beforehand
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.budget import detectable_effect
from myosotis.training.eval_schedule import EvalSchedule
from myosotis.training.memory_estimate import Memory
from myosotis.training.work_estimate import UNSURE, Speed, flops_per_token, measured_speed
from myosotis.utils.console import console, results
from myosotis.utils.duration import duration

BUSY = 0.8  # of a core: with less of it for this process, the machine does other work
ASSUMED_SCORE = 0.5  # of a benchmark not measured yet: what a budget is a fraction of


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
    note: str  # what a reader of results must know of the weights
    update: str
    parameters: int
    trainable: int
    steps: Steps
    learning_rate: LearningRate
    precision: str
    memory: Memory
    fit: Fit
    teraflops: float
    speed: Speed | None  # of the device at hand, where it is the one that is meant
    answers: str  # what is sampled for a step; may be ""
    controls: list[str]
    suite: list[str]
    reach: list[DetectableEffect]
    outlook: Outlook | None
    looks: EvalSchedule
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """Of the training on the device at hand, with nothing else running."""
        return self.speed.seconds(self.teraflops * 1e12) if self.speed else None


def plan(cfg: DictConfig) -> dict[str, Any]:
    """Check `cfg`, print what would run, and return it as plain data. Loads no weights."""
    made = make(cfg)
    show(made)
    document = asdict(made)
    document["memory"]["total"] = made.memory.total
    document["seconds"] = made.seconds
    document["steps"]["epochs"] = made.steps.epochs
    document["looks"]["steps"] = sorted(made.looks.steps)
    document["looks"]["share"] = made.looks.expected
    document["reach"] = [{**asdict(r), "verdicts": list(r.verdicts)} for r in made.reach]
    return document


def make(cfg: DictConfig) -> Plan:
    """The plan of a config. Raises what a run of it would raise before it loads weights."""
    warnings = check(cfg, here=cfg.plan.device_gb is None)
    source = instantiate.model_source(cfg)
    if cfg.model.start is not None:
        InitialUpdate.named(cfg.model.start)
    data = parts.data_of(cfg)
    parts.require_held_out(cfg, data)
    settings = parts.update_settings(cfg, data)
    tried = dry_run(cfg, source, settings)
    update, parameters = tried.update, tried.sizes.base
    steps = count_steps(cfg, data)
    context = parts.context_of(source)
    suite = parts.benchmarks(cfg, source, source, data.template.tokenizer)
    device = Device.of(cfg)
    load, fits = fit(cfg, tried, data, device)
    work = teraflops(parameters, update.count(), steps)
    objective = instantiate.objective(cfg)
    learned = steps
    if samples(objective):
        work = policy_teraflops(parameters, update.count(), steps, objective)
        learned = of_groups(steps, objective)
    protecting = [one for one in instantiate.controls(cfg).values() if one.active]
    sizes = parameters, update.count()
    work += sum(extra_teraflops(*sizes, learned, one.extra) for one in protecting)
    return Plan(
        config_hash=config_hash(cfg),
        model=str(source.id or source.path),
        note=tried.note,
        update=described(settings),
        parameters=parameters,
        trainable=update.count(),
        steps=steps,
        learning_rate=learning_rate(cfg),
        precision=load.precision.name,
        memory=load.memory(),
        fit=fits,
        teraflops=work,
        speed=_speed(cfg) if device.here else None,
        answers=_sampled(objective, data.batch_size) if samples(objective) else "",
        controls=[one.extra.said for one in protecting],
        suite=list(cfg.retention.suite),
        reach=reachable(cfg),
        outlook=settling(cfg, suite),
        looks=parts.eval_schedule_of(
            cfg,
            data,
            suite,
            parts.kl_texts(cfg, data, context),
            total_steps=steps.total,
            trained=update.count() / parameters,
            packs=update.capabilities.packs,
        ),
        warnings=[*warnings, *steps.warnings, *update.remarks()],
    )


def _speed(cfg: DictConfig) -> Speed:
    return measured_speed(cfg.trainer.accelerator, cfg.trainer.num_threads)


def described(settings: dict[str, Any]) -> str:
    rest = ", ".join(f"{k}={v}" for k, v in settings.items() if k != "name")
    return f"{settings['name']} ({rest})" if rest else str(settings["name"])


def count_steps(cfg: DictConfig, data: ExampleModule) -> Steps:
    """The data as a run would read them, counted."""
    read = data.encoded["train"]
    total = parts.total_steps(cfg, data.steps_per_epoch)
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


def teraflops(parameters: int, trainable: int, steps: Steps) -> float:
    """Work of the training."""
    tokens = steps.total * steps.batch_size * steps.tokens_per_example
    return tokens * flops_per_token(parameters, trainable) / 1e12


def _sampled(objective: SampledObjective, batch_size: int) -> str:
    steps = objective.iterations
    return (
        f"{batch_size * objective.group_size} are sampled of at most {objective.max_new_tokens} "
        f"tokens, {objective.group_size} to each of {batch_size} prompts, for "
        + ("every step" if steps == 1 else f"every {steps} steps")
    )


def of_groups(steps: Steps, objective: SampledObjective) -> Steps:
    """The same steps, each example a prompt with a group of answers as long as they may be."""
    prompt = steps.tokens_per_example - steps.scored_per_example
    answers = float(objective.group_size * objective.max_new_tokens)
    return replace(steps, tokens_per_example=prompt + answers, scored_per_example=answers)


def policy_teraflops(
    parameters: int, trainable: int, steps: Steps, objective: SampledObjective
) -> float:
    """Work of a training that samples: answers as long as they may be. A round reads each prompt
    and writes a group of answers (2N per token), scores them with the policy and with the reference
    (2N each), and each of its steps learns from them."""
    tokens = of_groups(steps, objective).tokens_per_example
    round_ = 3 * 2 * parameters * tokens / objective.iterations
    per_example = round_ + tokens * flops_per_token(parameters, trainable)
    return steps.total * steps.batch_size * per_example / 1e12


def extra_teraflops(parameters: int, trainable: int, steps: Steps, extra: Extra) -> float:
    """Work that a control adds: its tokens go forward and backward as the task's do, and where the
    base reads them too, 2N more for each."""
    per_example = extra.per_supervised * steps.scored_per_example
    per_example += extra.per_read * steps.tokens_per_example
    per_token = flops_per_token(parameters, trainable) + 2 * parameters * extra.base_reads
    return steps.total * steps.batch_size * per_example * per_token / 1e12


def reachable(cfg: DictConfig) -> list[DetectableEffect]:
    """Which verdicts a fixed set can reach; a base score of `ASSUMED_SCORE` is assumed."""
    if cfg.retention["items"] is None or parts.most_items(cfg) is not None:
        return []
    suite = [name for name in cfg.retention.suite if name not in GENERAL_TEXTS]
    items, epsilon = int(cfg.retention["items"]), _epsilon(cfg)
    found = []
    if suite:
        found.append(detectable_effect("each benchmark", items, epsilon, tasks=len(suite)))
    if len(suite) > 1:
        count = len(suite)
        found.append(detectable_effect("their mean", items * count, epsilon, pooled=count))
    return found


def settling(cfg: DictConfig, suite: Suite) -> Outlook | None:
    """How likely the rounds of the final measurement settle the verdict; None for a fixed set."""
    asked = {task.name: task for task in suite if task.accuracy_like}
    return outlook_of(cfg, asked, _epsilon(cfg))


def _epsilon(cfg: DictConfig) -> float:
    budget = instantiate.budget(cfg)
    return min([budget.fraction, *budget.tasks.values()]) * ASSUMED_SCORE


def show(plan: Plan) -> None:
    """The plan as a table on the console."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in rows(plan):
        table.add_row(name, Text(text))
    results.print(table)
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", "yellow"))


def rows(plan: Plan) -> list[tuple[str, str]]:
    """What the screen says, line by line."""
    steps, memory_ = plan.steps, plan.memory
    share = plan.trainable / plan.parameters
    parts = [(name, value) for name, value in asdict(memory_).items() if value >= 0.005]
    return [
        ("model", f"{plan.model}: {plan.parameters:,} parameters"),
        *([("", plan.note)] if plan.note else []),
        ("update", f"{plan.update}"),
        ("trainable", f"{plan.trainable:,} parameters, {share:.2%} of the model"),
        (
            "data",
            f"{steps.train_examples:,} examples; on average {steps.tokens_per_example:.0f} tokens, "
            f"{steps.scored_per_example:.0f} of them scored",
        ),
        (
            "steps",
            f"{steps.total:,}, each on {steps.batch_size} examples (epochs: {steps.epochs:.2g}, of "
            f"{steps.per_epoch:,} steps each); the first {steps.warmup} warm up",
        ),
        *([("answers", plan.answers)] if plan.answers else []),
        ("learning rate", f"{plan.learning_rate.value:g} ({plan.learning_rate.origin})"),
        ("precision", plan.precision),
        (
            "memory",
            f"about {memory_.total:.1f} GB: "
            + ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in parts),
        ),
        *[("", said) for said in room(plan)],
        ("time", time_of(plan)),
        *[("" if i else "controls", said) for i, said in enumerate(plan.controls)],
        ("benchmarks", ", ".join(plan.suite) or "none"),
        *(
            [("", f"if the base scores {ASSUMED_SCORE:g} (not measured yet):")]
            if plan.reach or plan.outlook is not None
            else []
        ),
        *[("", beforehand.detectable(r)) for r in plan.reach],
        *([("", beforehand.outlook(plan.outlook))] if plan.outlook is not None else []),
        *([("", plan.looks.text)] if plan.suite else []),
    ]


def room(plan: Plan) -> Iterator[str]:
    """Whether the memory is enough, and what would make it so, a line each."""
    fits, total = plan.fit, plan.memory.total
    if fits.fits:
        close = ", with little to spare" if fits.tight(total) else ""
        rows = ""
        if fits.rows < fits.rows_wanted:
            rows = f", {fits.rows} rows at a time (a run finds that out by itself)"
        yield f"fits {fits.device.name}{close}{rows}"
        return
    yield f"does not fit {fits.device.name}"
    for one in fits.proposals:
        yield f"fits with {' '.join(one.overrides)} (about {one.gb:.1f} GB)"
    if not fits.proposals:
        yield "nothing that this platform has makes it fit: a smaller model is needed"
    if fits.device.on_gpu:
        yield "with strategy=ddp more devices do not help: each holds the whole model"


def time_of(plan: Plan) -> str:
    """How long the training takes, and how sure that is."""
    work = f"{plan.teraflops:,.3g} TFLOP"
    if plan.speed is None or plan.seconds is None:
        return f"{work} of training; how long they take there is not known here"
    low, high = duration(plan.seconds / UNSURE), duration(plan.seconds * UNSURE)
    said = f"about {duration(plan.seconds)} of training on this machine ({low} to {high}; {work})"
    if plan.speed.share < BUSY:
        said += f", {1 / plan.speed.share:.1f} times as long while it is as busy as now"
    return f"{said}; plus the benchmarks"
