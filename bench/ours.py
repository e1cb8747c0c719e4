"""Our side of a training benchmark: the step of `myosotis train`, without its measurements."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import common

RANK, ALPHA = 16, 32


def options(parser: argparse.ArgumentParser, *, lr: float, batch_size: int, unit: str) -> None:
    """What every training benchmark asks; a step is `batch_size` of `unit`."""
    parser.add_argument("--update", default="lora", choices=("lora", "full"))
    parser.add_argument("--lr", type=float, default=lr)
    parser.add_argument("--batch-size", type=int, default=batch_size, help=f"{unit} a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="wheel", choices=("wheel", "local", "hub"))
    parser.add_argument("--id", default="smollm2-135m")
    parser.add_argument("--path")


def settings(job: common.Job) -> dict[str, Any]:
    """The `update` group of a job."""
    lora = {"r": RANK, "lora_alpha": ALPHA} if job["update"] == "lora" else {}
    return {"name": job["update"], **lora}


def wrapped(model: Any, job: common.Job) -> Any:
    """The same, for a peer: the model, with PEFT's LoRA where the job asks for it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(job["seed"])
    if job["update"] != "lora":
        return model
    words = {"r": RANK, "lora_alpha": ALPHA, "target_modules": "all-linear"}
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **words))


def attached(base: Any, job: common.Job) -> Any:
    """The update of a job on a base, from the job's seed."""
    import torch

    from myosotis import updates

    torch.manual_seed(job["seed"])
    update = updates.build(settings(job))
    update.attach(base.model)
    return update


def train(
    update: Any,
    objective: Any,
    scorer: Any,
    steps: Sequence[Any],
    job: common.Job,
    folder: str | Path,
    watch: Callable[[int, Any], None] = lambda step, update: None,
    rollouts: Any = None,
) -> tuple[list[dict[str, float]], list[float]]:
    """Train on the given steps; what each of them logged, and its seconds.

    `watch(step, update)` is called before each optimiser step, when the gradients are there.
    """
    import lightning
    import torch

    from myosotis.training.module import FineTuning
    from myosotis.training.optim import Schedule

    logged: list[dict[str, float]] = []
    seconds: list[float] = []
    module = FineTuning(
        update,
        objective,
        scorer,
        optimizer=partial(torch.optim.AdamW, lr=job["lr"]),
        schedule=Schedule("constant", 0, len(steps)),
        gradient_clip_val=1.0,
        rollouts=rollouts,
    )

    class Clock(lightning.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            self.began = time.perf_counter()

        def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
            watch(trainer.global_step, update)

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            seconds.append(time.perf_counter() - self.began)
            logged.append({name: float(value) for name, value in outputs.items()})

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=len(steps),
        precision="32-true",  # the weights have their dtype, the scorer owns the arithmetic
        callbacks=[Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, torch.utils.data.DataLoader(list(steps), batch_size=None))
    return logged, seconds
