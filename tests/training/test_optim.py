"""How fast the parameters move: schedules, groups and rates by layer, worked out by hand."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn import Parameter

from myosotis.training.optim import (
    Lion,
    Schedule,
    clip,
    for_device,
    lr_multiplier,
    parameter_groups,
)
from myosotis.updates import build
from myosotis.utils.errors import ConfigError
from tests.tiny import tiny


@pytest.mark.parametrize(
    ("name", "at", "wanted"),
    [
        # Warm-up of 4 of 20 steps: (k + 1)/5 at step k, the peak at step 4.
        ("constant", [0, 3, 4, 19], [0.2, 0.8, 1.0, 1.0]),
        ("linear", [0, 3, 4, 12, 19, 20], [0.2, 0.8, 1.0, 0.5, 1 / 16, 0.0]),
        ("cosine", [0, 4, 12, 8], [0.2, 1.0, 0.5, 0.5 * (1 + math.sqrt(0.5))]),
    ],
)
def test_schedules(name: str, at: list[int], wanted: list[float]) -> None:
    schedule = Schedule(name, 4, 20)
    assert [schedule.factor(step) for step in at] == pytest.approx(wanted)
    assert [Schedule(name, 0.2, 20).factor(step) for step in at] == pytest.approx(wanted)


def test_the_slanted_triangle() -> None:
    """Howard & Ruder 2018, equation 3: T = 20, cut = 4, ratio = 32. At t = 0 p = 0: 1/32. At t = 2
    p = ½: (1 + 31/2)/32. At the cut p = 1. At t = 12, p = 1 − 8/16 = ½. At t = 20, p = 0."""
    schedule = Schedule("triangular", 0.2, 20)
    half = (1 + 31 / 2) / 32
    wanted = [1 / 32, half, 1.0, half, 1 / 32, 1 / 32]
    assert [schedule.factor(t) for t in (0, 2, 4, 12, 20, 25)] == pytest.approx(wanted)
    assert Schedule("triangular", 0, 20).factor(0) == 1.0


def test_an_unknown_schedule_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match="cosine, linear, constant, triangular"):
        Schedule("cyclic", 0, 1)


def test_weight_decay_is_for_matrices() -> None:
    shapes = {"w": (2, 3), "experts": (2, 2, 2), "bias": (3,), "scale": ()}
    named = {name: Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    groups = parameter_groups(named.items(), 0.1)
    found = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    decays = {name: found[id(p)] for name, p in named.items()}
    assert decays == {"w": 0.1, "experts": 0.1, "bias": 0.0, "scale": 0.0}
    assert all("lr" not in group for group in groups)


def test_what_trains_beside_another_has_a_rate_of_its_own() -> None:
    """LoRA's B at 16 times A's (`update.lr_ratio`), a value head at 10 times the rest
    (`objective.head_lr_ratio`): 1e-4, 1.6e-3, 1e-3."""
    update = build({"name": "lora", "r": 2, "lr_ratio": 16.0, "value_head": 10.0})
    update.attach(tiny())
    groups = parameter_groups(update.parameters(), 0.0, 1e-4, lr_multiplier(update, 1.0))
    rates = {id(p): group.get("lr", 1e-4) for group in groups for p in group["params"]}
    for name, parameter in update.parameters():
        factor = 16.0 if "lora_B" in name else 10.0 if name.startswith("value_head") else 1.0
        assert rates[id(parameter)] == pytest.approx(1e-4 * factor)
    assert len({*rates.values()}) == 3


@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_rates_fall_by_layer_from_the_top(method: str) -> None:
    """Two layers, d = ½: layer 1 and what is behind it 1, layer 0 ½, the (tied) embeddings ¼."""
    update = build({"name": method})
    update.attach(tiny())
    rate = lr_multiplier(update, 0.5)
    for name, _ in update.parameters():
        below = 1 if "layers.0." in name else 2 if "embed_tokens" in name else 0
        assert rate(name) == 0.5**below, name
    assert {rate(n) for n, _ in update.parameters()} >= {1.0, 0.5}


def test_rates_by_layer_are_refused_where_there_are_no_layers() -> None:
    update = build({"name": "prompt", "peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2})
    with pytest.raises(ConfigError, match="virtual tokens stand before"):
        lr_multiplier(update, 0.9)


def test_clipping_scales_down_and_never_up() -> None:
    """A norm of 5 to one of 1: a fifth (less the 1e-6 that keeps from dividing by 0)."""
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    clip(gradients, 5.0, 1.0)
    assert torch.cat(gradients).tolist() == pytest.approx([0.6, 0.8], abs=1e-6)
    clip(gradients, 1.0, 2.0)
    clip(gradients, 1.0, None)
    assert torch.cat(gradients).tolist() == pytest.approx([0.6, 0.8], abs=1e-6)


def test_a_step_of_lion() -> None:
    """Momentum 0, gradient −2: sign of (1 − .9)·(−2) is −1, so θ = 1·(1 − .1·.5) + .1 = 1.05; the
    momentum becomes .01·(−2)."""
    theta = Parameter(torch.tensor([1.0]))
    theta.grad = torch.tensor([-2.0])
    optimizer = Lion([theta], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert theta.item() == pytest.approx(1.05)
    assert optimizer.state[theta]["exp_avg"].item() == pytest.approx(-0.02)


def test_one_kernel_steps_all_tensors_on_a_gpu_where_there_is_one() -> None:
    """torch's AdamW has it, Lion has not; who asks for another way gets it."""
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    adamw = partial(torch.optim.AdamW, lr=1e-3)
    assert for_device(adamw, cuda).keywords == {"lr": 1e-3, "fused": True}
    assert for_device(adamw, cpu) is adamw
    lion = partial(Lion, lr=1e-3)
    assert for_device(lion, cuda) is lion
    other = partial(torch.optim.AdamW, lr=1e-3, foreach=True)
    assert for_device(other, cuda) is other
