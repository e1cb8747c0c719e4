"""Whether a run can be spread over devices as `trainer.strategy` says, before weights load."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from myosotis.utils.errors import ConfigError

STRATEGIES = ("auto", "ddp", "fsdp2")
ELEMENTWISE = ("torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD")
ELEMENTWISE += ("myosotis.training.optim.Lion",)
"""Optimisers that step each number by itself, and so a share of a tensor as the whole of it."""

SHARDING = ("fsdp", "deepspeed", "ddp_", "model_parallel", "tp", "hpu", "xla", "single_device")


def require_strategy(cfg: DictConfig) -> None:
    """Raise `ConfigError` for a strategy that is none, and for what it cannot be combined with."""
    name = str(cfg.trainer.strategy)
    if name not in STRATEGIES:
        hint = f"Known: {', '.join(STRATEGIES)}."
        if name.startswith(SHARDING):
            hint += (
                " Where a training does not fit: fsdp2 spreads it over devices; update=lora, "
                "update=qlora, trainer.gradient_checkpointing=true and optimizer=adamw8bit need "
                "less."
            )
        raise ConfigError(f"trainer.strategy={name} is not supported.", hint)
    if name == "fsdp2":
        _require_spreadable(cfg)


def _require_spreadable(cfg: DictConfig) -> None:
    def refuse(what: str, hint: str) -> None:
        raise ConfigError(f"trainer.strategy=fsdp2 does not go with {what}.", hint)

    update: Any = cfg["update"]
    if str(cfg.trainer.devices) == "1":
        refuse("one device, over which nothing can be spread", "As in trainer.devices=4.")
    if update.name not in ("full", "lora") or update.get("peft_type"):
        refuse(f"update={update.name}", "It spreads update=full and update=lora.")
    if update.get("quantization"):
        refuse(f"update.quantization={update.quantization}", "Use trainer.strategy=ddp.")
    if (target := str(cfg.optimizer.get("_target_"))) not in ELEMENTWISE:
        refuse(f"{target}, which needs whole tensors", "Use optimizer=adamw, lion or sgd.")
    if cfg.control:
        refuse(f"control={'+'.join(map(str, cfg.control))}", "control=none, or strategy=ddp.")
    if str(cfg.objective.name) == "reward":
        refuse("objective=reward, whose head stands beside the model", "Use strategy=ddp.")
    if _torch() < (2, 13):
        refuse(f"torch {_torch()[0]}.{_torch()[1]}", "It was made for torch 2.13 and later.")


def _torch() -> tuple[int, ...]:
    from importlib.metadata import version

    return tuple(int(part) for part in version("torch").split(".")[:2])
