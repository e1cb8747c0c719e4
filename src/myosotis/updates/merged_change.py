"""Δθ of a PEFT method that has no formula of it: layer by layer, what merging makes of a weight.

OFT turns weights, OSF moves their singular vectors, DoRA their norms, and an adapter from elsewhere
may have saved whole modules or begun by rewriting the base. One layer at a time is copied, in fp32,
and merged by PEFT: no second model is in memory, and nothing is rounded to the base's precision.
Biases, which are no matrices, are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from myosotis.updates.change import Change, Merged, Moved

INSIDE = (".base_layer", ".token_adapter")
"""What PEFT puts into the names of the layers it wraps."""


def merged_changes(
    model: nn.Module, theta0: Mapping[str, Tensor], formula: Callable[[str, Any], Change] | None
) -> list[Change]:
    """Every matrix that an adapter moves, in the model's order.

    Args:
        model: the base model with the adapter's layers in it.
        theta0: tensors of the base that were rewritten, by their names in the base.
        formula: how a plain layer of this method moves its weight, where that is known.
    """
    found: list[Change] = []
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            found += _of_layer(_plain(name), module, theta0, formula)
        elif isinstance(module, ModulesToSaveWrapper):
            found += _of_module(_plain(name), module)
    return found


def _plain(name: str) -> str:
    for part in INSIDE:
        name = name.replace(part, "")
    return name


def _of_layer(
    name: str,
    layer: Any,
    theta0: Mapping[str, Tensor],
    formula: Callable[[str, Any], Change] | None,
) -> Iterator[Change]:
    attribute = getattr(layer, "parameter_name", "weight")
    weight = getattr(layer.get_base_layer(), attribute, None)
    whole = f"{name}.{attribute}"
    if not isinstance(weight, nn.Parameter) or not hasattr(layer, "merge"):
        return
    if formula is not None and whole not in theta0 and _is_plain(layer):
        yield formula(whole, layer)
        return
    base = theta0.get(whole, weight.detach())
    yield Merged(
        whole, weight, lambda: base.to(weight.device), partial(_after_merging, layer, attribute)
    )


def _is_plain(layer: Any) -> bool:
    """Whether a layer moves one matrix by its method's formula, and by nothing else."""
    variants = getattr(layer, "lora_variant", {}) or {}
    other = isinstance(layer, TrainableTokensLayer) or hasattr(layer, "parameter_name")
    return not other and not variants and not any(getattr(layer, "use_dora", {}).values())


@torch.no_grad()
def _after_merging(layer: Any, attribute: str) -> Tensor:
    alone = copy.deepcopy(layer).float()
    alone.merge()
    merged: Tensor = getattr(alone.get_base_layer(), attribute).detach()
    return merged


def _of_module(name: str, module: Any) -> Iterator[Change]:
    """A module that was saved as a whole: its matrices and vectors as they are, against the
    base's."""
    before = dict(module.original_module.named_parameters())
    for part, saved in module.modules_to_save["default"].named_parameters():
        if part in before and not part.endswith("bias"):
            yield Moved(f"{name}.{part}", saved, partial(Tensor.detach, before[part]))
