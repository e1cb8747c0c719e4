"""Whether a training fits into the memory of a device, and what would make it fit.

Every proposal is a configuration like another: it is checked as a run would be, tried on the model
without weights, and its memory is worked out by the function that works out the plan's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from myosotis.commands import parts
from myosotis.commands.dry_run import DryRun, dry_run
from myosotis.config import check, instantiate
from myosotis.config.compose import compose
from myosotis.data.datamodule import ExampleModule
from myosotis.models.dtype import by_default, resolve
from myosotis.training.activation_checkpointing import mlps
from myosotis.training.memory_estimate import Memory, StepLoad, optimizer_bytes
from myosotis.trees.attention import text_config
from myosotis.trees.stored_trees import longest_path
from myosotis.utils import device, memory
from myosotis.utils.errors import MyosotisError

TIGHT = 0.9
"""Of a device's memory: an estimate above this share may turn out not to fit."""

SHORTEST_ROW = 128  # tokens: shorter rows compute slower than they save


@dataclass(frozen=True)
class Device:
    """Where a training is to run: the device at hand, or one that `plan.device_gb` speaks of."""

    gb: float
    on_gpu: bool
    here: bool
    name: str

    @classmethod
    def of(cls, cfg: DictConfig) -> Device:
        """A given size is a GPU's, which computes in bf16, unless the run asks for the CPU."""
        if (given := cfg.plan.device_gb) is not None:
            on_gpu = cfg.trainer.accelerator != "cpu"
            kind = "a GPU of" if on_gpu else "a machine of"
            return cls(float(given), on_gpu, here=False, name=f"{kind} {given:g} GB")
        on_gpu = device.on_gpu(cfg.trainer.accelerator)
        gb = memory.room_gb(on_gpu=on_gpu)
        name = device.hardware(parts.device_of(cfg)) if on_gpu else "this machine"
        return cls(gb, on_gpu, here=True, name=f"{name} ({gb:.0f} GB)")


@dataclass(frozen=True)
class Proposal:
    """Settings under which it would fit, and the gigabytes that it would take then."""

    overrides: list[str]
    gb: float


@dataclass(frozen=True)
class Fit:
    """Whether it fits; where it does not, what would make it fit, the least change first."""

    device: Device
    fits: bool
    rows: int  # at a time
    rows_wanted: int  # that a run begins with; it halves them where memory runs out
    proposals: list[Proposal] = field(default_factory=list)

    def tight(self, gb: float) -> bool:
        return self.fits and gb > TIGHT * self.device.gb


def fit(cfg: DictConfig, tried: DryRun, data: ExampleModule, where: Device) -> tuple[StepLoad, Fit]:
    """What a step of `cfg` holds there, with as many rows at a time as fit, and whether it fits."""
    cfg = cfg.copy()  # with all that there are as a number: proposals may name more
    cfg.trainer.devices = device.num_devices(cfg.trainer.accelerator, cfg.trainer.devices)
    case = _Case(cfg, data, where, tried)
    found = Fit(where, case.fits, case.rows, case.load.rows)
    if not found.fits:
        found = replace(found, proposals=list(_proposals(case)))
    return replace(case.load, rows=case.rows), found


@dataclass(frozen=True)
class _Case:
    """A configuration, and the memory it takes."""

    cfg: DictConfig
    data: ExampleModule
    device: Device
    tried: DryRun

    @cached_property
    def load(self) -> StepLoad:
        cfg, name = self.cfg, self.cfg.trainer.precision
        kind, trainer = cfg["update"].name, cfg.trainer
        if name == "auto" and not self.device.here and self.device.on_gpu:
            name = by_default(kind, bf16=True)
        trees = self.data.encoded["train"].trees
        return StepLoad(
            sizes=self.tried.sizes,
            text=text_config(self.tried.model),
            precision=resolve(name, update=kind, accelerator=trainer.accelerator),
            optimizer_bytes=optimizer_bytes(instantiate.optimizer(cfg)),
            rows=trainer.rows_at_once or parts.rows_on(self.device.on_gpu),
            row_tokens=max(cfg.data.row_tokens, longest_path(trees)),
            checkpointing=trainer.gradient_checkpointing,
            on_gpu=self.device.on_gpu,
            spread=trainer.devices if trainer.strategy == "fsdp2" else 1,
            base_on_host=cfg["update"].get("base_on") == "host",
        )

    @property
    def rows(self) -> int:
        """Rows at a time that fit: where a run may choose them, it halves them until they do."""
        rows = self.load.rows
        if self.cfg.trainer.rows_at_once is None:
            while rows > 1 and replace(self.load, rows=rows).memory().total > self.device.gb:
                rows //= 2
        return rows

    @property
    def held(self) -> Memory:
        return replace(self.load, rows=self.rows).memory()

    @property
    def fits(self) -> bool:
        return self.held.total <= self.device.gb

    def changed(self, override: str) -> _Case | None:
        """The same with another setting; None where that cannot be."""
        key, _, value = override.partition("=")
        cfg = self.cfg.copy()
        if key in ("update", "optimizer"):
            lr = cfg.optimizer.lr
            cfg[key] = compose([override])[key]
            cfg.optimizer.lr = lr
        else:
            OmegaConf.update(cfg, key, OmegaConf.create({"v": _typed(value)}).v)
        with suppress(MyosotisError):
            check(cfg, here=False)
            tried = self.tried
            if key == "update":
                settings = parts.update_settings(cfg, self.data)
                tried = dry_run(cfg, instantiate.model_source(cfg), settings)
            return replace(self, cfg=cfg, tried=tried)
        return None


def _typed(value: str) -> Any:
    return {"true": True}.get(value, int(value) if value.isdigit() else value)


def _proposals(case: _Case) -> Iterator[Proposal]:
    """Of the same method, and of methods that keep less."""
    if (found := _first_that_fits(case, _levers(case))) is not None:
        yield found
    yield from _over_devices(case)
    for name in ("lora", "qlora"):
        begun = _named(case) != name and case.changed(f"update={name}")
        if begun and (found := _first_that_fits(begun, _levers(begun))) is not None:
            yield replace(found, overrides=[f"update={name}", *found.overrides])


def _over_devices(case: _Case) -> Iterator[Proposal]:
    """The same, spread over as few devices of this size as it takes, up to a machine's eight."""
    if case.load.spread > 1 or not case.device.on_gpu:
        return
    for count in (2, 4, 8):
        begun: _Case | None = case
        spread = [f"trainer.devices={count}", "trainer.strategy=fsdp2"]
        for override in spread:
            begun = begun and begun.changed(override)
        if begun and (found := _first_that_fits(begun, _levers(begun))) is not None:
            yield replace(found, overrides=[*spread, *found.overrides])
            return


def _named(case: _Case) -> str:
    update = case.cfg["update"]
    return "qlora" if update.get("quantization") else str(update.name)


def _levers(case: _Case) -> Iterator[str]:
    """What takes less memory, in the order of what it costs: time first, then rounding."""
    cfg, longest = case.cfg, longest_path(case.data.encoded["train"].trees)
    if (cfg.trainer.rows_at_once or 1) > 1:
        yield "trainer.rows_at_once=1"
    if (row := max(longest, SHORTEST_ROW)) < cfg.data.row_tokens:
        yield f"data.row_tokens={row}"
    if not cfg.trainer.gradient_checkpointing and mlps(case.tried.model):
        yield "trainer.gradient_checkpointing=mlp"
    if cfg.trainer.gradient_checkpointing is not True:
        yield "trainer.gradient_checkpointing=true"
    if case.device.on_gpu and case.load.precision.compute.itemsize == 4:
        full = cfg["update"].name == "full"
        yield f"trainer.precision={by_default('full' if full else 'lora', bf16=True)}"
    if case.device.on_gpu and cfg["update"].get("base_on") == "device":
        yield "update.base_on=host"
    if case.load.optimizer_bytes > 4:
        yield "optimizer=adamw8bit"


def _first_that_fits(case: _Case, levers: Iterable[str]) -> Proposal | None:
    """The levers one after the other until it fits, without those that turn out not to be needed;
    None where all of them are not enough."""
    pulled: list[str] = []
    at = case
    for lever in levers:
        if at.fits:
            break
        if (now := at.changed(lever)) is not None and now.held.total < at.held.total:
            at, pulled = now, [*pulled, lever]
    if not at.fits:
        return None
    for lever in list(pulled):
        rest = [other for other in pulled if other != lever]
        if (without := _all(case, rest)) is not None and without.fits:
            at, pulled = without, rest
    return Proposal(pulled, at.held.total)


def _all(case: _Case, overrides: Iterable[str]) -> _Case | None:
    now: _Case | None = case
    for override in overrides:
        now = now and now.changed(override)
    return now
