"""Bottleneck adapters: small residual modules behind the sublayers of every layer.

PEFT has none, so these are ours (Houlsby et al. 2019; Pfeiffer et al. 2021). They read and change
what a sublayer puts out, before it is added to the residual stream:

    h <- h + up(act(down(h)))

`up` is zero at the start, so the first forward pass is the base's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from myosotis.updates.base import Capabilities, Update
from myosotis.updates.settings import check_names
from myosotis.updates.target_modules import layer_stack
from myosotis.utils.errors import ConfigError

SUBLAYERS = {
    "attention": re.compile(r"(self_|linear_)?(attn|attention)|conv|mixer|mamba"),  # or its kin
    "mlp": re.compile(r"(block_sparse_)?(mlp|ffn|feed_forward|moe)|fc2"),  # OPT has no module
}
DESIGNS = {"houlsby": ("attention", "mlp"), "pfeiffer": ("mlp",)}
DEFAULTS: dict[str, Any] = {
    "design": "houlsby",
    "bottleneck": None,
    "reduction_factor": 16,
    "activation": "gelu",
}


NO_WEIGHTS = "a bottleneck is no change of existing weights"


class Bottleneck(nn.Module):
    """h + up(act(down(h))): width d through a bottleneck of m, 2dm + d + m numbers."""

    def __init__(self, width: int, bottleneck: int, activation: str, like: Tensor) -> None:
        super().__init__()
        dtype = torch.promote_types(like.dtype, torch.float32)
        place: dict[str, Any] = {"device": like.device, "dtype": dtype}
        self.down = nn.Linear(width, bottleneck, **place)
        self.act = ACT2FN[activation]
        self.up = nn.Linear(bottleneck, width, **place)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.on = True

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.on:
            return hidden
        change = self.up(self.act(self.down(hidden.to(self.down.weight.dtype))))
        return hidden + change.to(hidden.dtype)


class AdapterUpdate(Update):
    """Bottleneck adapters: `design` houlsby (behind attention and MLP) or pfeiffer (MLP only).

    The bottleneck is `bottleneck` wide, or the model's width over `reduction_factor`;
    `activation` is any of transformers' names. What an adapter adds is linear in `up`: at α that is
    α times as large.
    """

    name = "adapter"
    capabilities = Capabilities(
        mergeable=False, reasons={"mergeable": NO_WEIGHTS, "explicit": NO_WEIGHTS}
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        words = {k: v for k, v in settings.items() if k != "name"}
        check_names(self.name, words, DEFAULTS)
        super().__init__({**DEFAULTS, **words})
        got = self.settings
        if got["design"] not in DESIGNS:
            raise ConfigError(f"update.design={got['design']}", f"one of {', '.join(DESIGNS)}")
        for key in ("bottleneck", "reduction_factor"):
            value = got[key]
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"update.{key}={value}", "it is a whole number, 1 or more")
        if got["bottleneck"] is None and got["reduction_factor"] is None:
            raise ConfigError("update.bottleneck and update.reduction_factor are both null")
        if got["activation"] not in ACT2FN:
            raise ConfigError(
                f"update.activation={got['activation']}", f"one of {', '.join(sorted(ACT2FN))}"
            )

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        model.requires_grad_(False)
        width = int(model.config.get_text_config().hidden_size)
        size = self.settings["bottleneck"] or max(1, width // self.settings["reduction_factor"])
        self.adapters: list[Bottleneck] = []
        for sublayer in sublayers(model, DESIGNS[self.settings["design"]]):
            like = next(p for p in sublayer.parameters() if p.is_floating_point())
            adapter = Bottleneck(width, size, self.settings["activation"], like)
            sublayer.add_module("adapter", adapter)
            sublayer.register_forward_hook(_behind)
            self.adapters.append(adapter)
        return [p for adapter in self.adapters for p in adapter.parameters()]

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        ups = [(p, p.data) for adapter in self.adapters for p in adapter.up.parameters()]
        try:
            for adapter in self.adapters:
                adapter.on = alpha != 0
            for parameter, data in ups:
                parameter.data = data if alpha in (0, 1) else data * alpha
            yield
        finally:
            for adapter in self.adapters:
                adapter.on = True
            for parameter, data in ups:
                parameter.data = data


def _behind(sublayer: nn.Module, args: Any, output: Any) -> Any:
    """Forward hook: attention layers put out a tuple, MLPs a tensor."""
    if isinstance(output, tuple):
        return (sublayer.adapter(output[0]), *output[1:])  # type: ignore[operator]
    return sublayer.adapter(output)  # type: ignore[operator]


def sublayers(model: PreTrainedModel, kinds: tuple[str, ...]) -> list[nn.Module]:
    """The attention and MLP modules of every layer, in order; of a Mamba, which has nothing but a
    mixer in a layer, that.

    Raises `ConfigError` where a layer has no module that is named like one.
    """
    modules = []
    for layer in model.get_submodule(layer_stack(model)[0]).children():
        parts = {n: m for n, m in layer.named_children() if "norm" not in n}
        found = {k: [m for n, m in parts.items() if SUBLAYERS[k].fullmatch(n)] for k in kinds}
        one_alone = len(parts) == 1 and any(found.values())
        for kind, named in found.items():
            if not named and not one_alone:
                raise ConfigError(
                    f"update=adapter finds no {kind} in {type(layer).__name__} (it has "
                    f"{', '.join(parts)})",
                    "update.design=pfeiffer needs only an MLP"
                    if kind == "attention"
                    else "update.design=houlsby needs one of the two, if a layer has nothing else"
                    if len(parts) == 1
                    else "this architecture is not supported by update=adapter",
                )
            modules += named[:1]
    return modules
