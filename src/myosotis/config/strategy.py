"""Whether the devices that a run asks for are there, and whether it can be spread over them as
`trainer.strategy` says, before weights load."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from myosotis.utils.errors import ConfigError

MOST_PROCESSES = 10_000
STRATEGIES = ("auto", "ddp", "fsdp2")
ELEMENTWISE = ("torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD")
ELEMENTWISE += ("myosotis.training.optim.Lion",)
"""Optimisers that step each number by itself, and so a share of a tensor as the whole of it."""

SHARDING = ("fsdp", "deepspeed", "ddp_", "model_parallel", "tp", "hpu", "xla", "single_device")


def require_devices(cfg: DictConfig, *, here: bool) -> None:
    """Raise `ConfigError` for `trainer.devices` that is no number of devices, and for devices that
    are not there. A CPU takes any number of processes. Not `here`: nothing is computed on this
    machine, and what it has does not matter.
    """
    from myosotis.utils import device

    asked = str(cfg.trainer.devices)
    number = int(asked) if asked.isdecimal() and len(asked) <= len(str(MOST_PROCESSES)) else 0
    if asked not in device.ALL and not 0 < number <= MOST_PROCESSES:
        shown = asked if len(asked) <= 40 else f"{asked[:20]}… ({len(asked)} characters)"
        raise ConfigError(
            f"trainer.devices={shown} is no number of devices.",
            "As in trainer.devices=2; auto takes all there are, CUDA_VISIBLE_DEVICES=0,3 chooses.",
        )
    if here:
        _require_present(str(cfg.trainer.accelerator), cfg.trainer.devices)


def _require_present(accelerator: str, devices: int | str) -> None:
    from myosotis.utils import device

    on_gpu, on_mps = device.on_gpu(accelerator), device.on_mps(accelerator)
    if accelerator in ("gpu", "cuda", "mps") and not (on_gpu or on_mps):
        kinds = {"gpu": "GPU", "cuda": "CUDA device", "mps": "Apple GPU"}
        raise ConfigError(
            f"trainer.accelerator={accelerator}, but torch finds no {kinds[accelerator]} here.",
            "trainer.accelerator=auto takes what there is, cpu always goes.",
        )
    there = device.num_devices(accelerator, "auto")
    if (on_gpu or on_mps) and device.num_devices(accelerator, devices) > there:
        are = "1 GPU is" if there == 1 else f"{there} GPUs are"
        raise ConfigError(
            f"trainer.devices={devices}, but {are} here.",
            f"Write trainer.devices={there}, or auto for all there are.",
        )


def require_strategy(cfg: DictConfig, *, here: bool) -> None:
    """Raise `ConfigError` for a strategy that is none, and for what it cannot be combined with."""
    from myosotis.utils import device

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
    if name != "auto" and here and device.on_mps(str(cfg.trainer.accelerator)):
        raise ConfigError(
            f"trainer.strategy={name} is not for an Apple GPU, of which there is one.",
            "Leave out trainer.strategy, or add trainer.accelerator=cpu.",
        )
    if name == "fsdp2":
        _require_spreadable(cfg, here)


def _require_spreadable(cfg: DictConfig, here: bool) -> None:
    from myosotis.utils import device

    def refuse(what: str, hint: str) -> None:
        raise ConfigError(f"trainer.strategy=fsdp2 does not go with {what}.", hint)

    update: Any = cfg["update"]
    devices = str(cfg.trainer.devices)
    if devices in device.ALL and not here:
        refuse(f"devices={devices} of another machine", "Say how many, as in trainer.devices=4.")
    if device.num_devices(str(cfg.trainer.accelerator), devices) == 1:
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
