"""What is true of a method of PEFT and PEFT does not say: what it can do, how it scales, and how it
moves a weight. A line a method; one that is not here trains, and is neither dialled nor measured by
its weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from myosotis.updates.base import Capabilities
from myosotis.updates.change import Change, Computed, LowRank


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is true of a PEFT method; `scale(name, tensor, α)` is its trained tensor at α."""

    capabilities: Capabilities
    scale: Callable[[str, Tensor, float], Tensor] | None = None
    change: Callable[[str, Any], Change] | None = None  # of a layer of this name: how it moves


def _rescaling(name: str, tensor: Tensor, alpha: float) -> Tensor:
    """IA3 multiplies by l, so that Δθ = θ0·(l − 1): at α it multiplies by 1 + α(l − 1)."""
    return torch.lerp(torch.ones_like(tensor), tensor, alpha)


def _one_factor(name: str, tensor: Tensor, alpha: float) -> Tensor:
    """VeRA's Δθ = Λb·B·Λd·A is linear in Λb (Kopiczko et al. 2024, equation 2)."""
    return tensor * alpha if "vera_lambda_b" in name else tensor


def _low_rank(name: str, tensor: Tensor, alpha: float) -> Tensor:
    """LoRA's Δθ = s·B·A is linear in B."""
    return tensor * alpha if "lora_B" in name or "lora_embedding_B" in name else tensor


def _weight(layer: Any) -> Parameter:
    weight: Parameter = layer.get_base_layer().weight
    return weight


def _product(name: str, layer: Any) -> Change:
    """LoRA's s·B·A; a table of embeddings is stored the other way round."""
    if "default" in layer.lora_embedding_A:
        a, b = layer.lora_embedding_A["default"], layer.lora_embedding_B["default"]
        return LowRank(name, _weight(layer), a, b, float(layer.scaling["default"]), True)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    turned = bool(layer.fan_in_fan_out)
    return LowRank(name, _weight(layer), a, b, float(layer.scaling["default"]), turned)


def _rescaled(name: str, layer: Any) -> Change:
    """IA3's θ0·(l − 1)."""
    factors: Parameter = layer.ia3_l["default"]

    def delta() -> Tensor:
        scale = factors.T if layer.fan_in_fan_out else factors
        return _weight(layer).detach() * (scale - 1)

    return Computed(name, _weight(layer), (factors,), delta)


def _shared_factors(name: str, layer: Any) -> Change:
    """VeRA's Λb·B·Λd·A."""
    trained = (layer.vera_lambda_b["default"], layer.vera_lambda_d["default"])

    def delta() -> Tensor:
        formed: Tensor = layer.get_delta_weight("default")
        return formed

    return Computed(name, _weight(layer), trained, delta)


FORMULA = "its change of a weight is not at hand as a formula"

NOT_QUANTIZED = "of the methods that merge into the base only LoRA is at home there"
_PLAIN = Capabilities(explicit=True, quantized=False, reasons={"quantized": NOT_QUANTIZED})

KINDS = {
    "LORA": Kind(Capabilities(explicit=True), _low_rank, _product),
    "IA3": Kind(_PLAIN, _rescaling, _rescaled),
    "VERA": Kind(_PLAIN, _one_factor, _shared_factors),
    "OSF": Kind(
        Capabilities(
            scalable=False,
            quantized=False,
            reasons={
                "quantized": NOT_QUANTIZED,
                "scalable": "it moves singular directions, which have no strength between 0 and 1",
                "explicit": FORMULA,
            },
        )
    ),
    "OFT": Kind(
        Capabilities(
            scalable=False,
            quantized=False,
            reasons={
                "quantized": NOT_QUANTIZED,
                "scalable": "a rotation has no strength between 0 and 1",
                "explicit": FORMULA,
            },
        )
    ),
}
UNKNOWN = Kind(
    Capabilities(
        scalable=False,
        identity_at_init=False,
        quantized=False,
        reasons={
            "quantized": NOT_QUANTIZED,
            "scalable": "it is not known how this PEFT method scales",
            "identity_at_init": "it is not known how this PEFT method begins",
            "explicit": FORMULA,
        },
    )
)
