"""How fast the parameters move: parameter groups and the learning-rate schedule.

The schedule is a pure function of the step, so that there is no state to save and resume.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from myosotis.updates.base import Update
from myosotis.updates.depth import depths
from myosotis.utils.errors import ConfigError, RunError

SCHEDULES = ("cosine", "linear", "constant", "triangular")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the peak, then `constant`, or down to zero `linear`ly or as a `cosine`.

    `triangular` is the slanted triangle of Howard & Ruder 2018, equation 3: from a `LOWEST`th of
    the peak up to it in the warm-up (their `cut`), and down to it again. `warmup` counts optimiser
    steps when it is 1 or more, else it is a share of `total_steps`.
    """

    name: str
    warmup: float
    total_steps: int

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ConfigError(
                f"schedule.name={self.name} is unknown", f"one of: {', '.join(SCHEDULES)}"
            )
        if self.warmup < 0:
            raise ConfigError(f"schedule.warmup={self.warmup} is negative")

    def factor(self, step: int) -> float:
        """Share of the peak learning rate at `step` (from 0): in (0, 1]."""
        warmup = self.warmup if self.warmup >= 1 else self.warmup * self.total_steps
        warmup = math.floor(warmup)
        if self.name == "triangular":
            return _slanted(step, warmup, self.total_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.name == "constant":
            return 1.0
        done = (step - warmup) / max(1, self.total_steps - warmup)
        done = min(done, 1.0)
        if self.name == "linear":
            return 1.0 - done
        return 0.5 * (1.0 + math.cos(math.pi * done))


LOWEST = 32
"""By how much the lowest rate of `triangular` is below the peak (ULMFiT's `ratio`)."""


def _slanted(step: int, cut: int, total: int) -> float:
    """Equation 3, with cut_frac = cut/total: the share of the peak at `step`."""
    if step < cut:
        height = step / cut
    else:
        height = 1 - min(1.0, (step - cut) / max(1, total - cut))
    return (1 + height * (LOWEST - 1)) / LOWEST


def lr_multiplier(update: Update, layer_decay: float) -> Callable[[str], float]:
    """From a trained tensor's name to its share of the learning rate: the update's own, times
    d^(L − 1 − l) for layer l of L with d = `layer_decay` (Howard & Ruder 2018; Clark et al. 2020).

    The embeddings, below layer 0, get d^L; what stands behind the layers the whole rate. Raises
    `ConfigError` for an update that belongs to no layers.
    """
    if layer_decay == 1:
        return update.lr_multiplier
    depth, layers = depths(update)

    def rate(name: str) -> float:
        below_the_top = max(0, layers - 1 - depth(name))
        return update.lr_multiplier(name) * layer_decay**below_the_top

    return rate


def parameter_groups(
    parameters: Iterable[tuple[str, Parameter]],
    weight_decay: float,
    lr: float | None = None,
    lr_multiplier: Callable[[str], float] = lambda _: 1.0,
) -> list[dict[str, Any]]:
    """Optimiser groups: weight decay on matrices only (not on biases, norms and vectors), and the
    learning rate `lr` times `rate(name)` where that is not 1."""
    groups: dict[tuple[bool, float], list[Parameter]] = {}
    for name, parameter in parameters:
        groups.setdefault((parameter.ndim >= 2, lr_multiplier(name)), []).append(parameter)
    return [
        {"params": members, "weight_decay": weight_decay if decays else 0.0}
        | ({"lr": lr * factor} if lr is not None and factor != 1.0 else {})
        for (decays, factor), members in sorted(groups.items(), key=lambda g: g[0], reverse=True)
    ]


def require_finite(loss: float, norm: float, step: int) -> None:
    """Raise `RunError` when the loss or the gradient's norm at `step` (from 0) is no number."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise RunError(
            f"the loss became {loss} and the gradient norm {norm} at step {step + 1}; "
            "training stopped before the weights were touched",
            "a lower optimizer.lr, a longer schedule.warmup or trainer.precision=32-true helps",
        )


def clip(gradients: list[Tensor], norm: float, limit: float | None) -> None:
    """Scale gradients whose common norm is `norm` down to a norm of `limit`; None: never."""
    if limit and (scale := limit / (norm + 1e-6)) < 1.0:
        torch._foreach_mul_(gradients, scale)


OptimizerFactory = partial[torch.optim.Optimizer]
"""From parameter groups to an optimiser, e.g. `functools.partial(torch.optim.AdamW, lr=1e-4)`."""


def for_device(make: OptimizerFactory, device: torch.device) -> OptimizerFactory:
    """The same with one kernel for all tensors on a GPU, where the optimiser has one and nothing
    else was asked for: without it a step makes copies as large as what trains."""
    takes = "fused" in inspect.signature(make.func).parameters
    asked = {"fused", "foreach"} & make.keywords.keys()
    if device.type != "cuda" or not takes or asked:
        return make
    return partial(make, fused=True)


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2: steps by the sign of an interpolated momentum."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if not lr > 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lr={lr} must be above 0, betas={tuple(betas)} in [0, 1)")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            near, far = group["betas"]
            for parameter in group["params"]:
                if (grad := parameter.grad) is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                momentum = state["exp_avg"]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(torch.lerp(grad, momentum, near).sign_(), alpha=-group["lr"])
                momentum.lerp_(grad, 1 - far)
        return loss
