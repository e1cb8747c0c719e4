"""Activations that are not kept for the backward pass but computed again (Chen et al. 2016): those
of whole layers, or of their MLPs alone.

How much memory that leaves is told by `memory_estimate.py`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from myosotis.updates.target_modules import layer_stack
from myosotis.utils.errors import ConfigError

MLP = "mlp"
"""Of `trainer.gradient_checkpointing`, beside `True` for whole layers."""

_NAMES = re.compile(r"\w*(mlp|ffn|feed_forward|experts?|moe)\w*")


def checkpoint_activations(model: PreTrainedModel, level: bool | str) -> None:
    """Let `model` keep less while it trains; what it computes stays the same.

    Of whole layers (`True`) only the input is kept. Of `"mlp"` the input, too, and what the
    attention keeps: for a Llama 8B two fifths of all, and the attention, whose work grows with the
    square of a row, is not done twice. Raises `ConfigError` as `require_level`.
    """
    if level == MLP:
        require_level(model, level)
        for module in mlps(model):
            module.__class__ = _recomputing(type(module))
    elif level:
        # Renamed in transformers 5.
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        enable = next(getattr(model, name) for name in names if hasattr(model, name))
        enable({"use_reentrant": False})


def require_level(model: PreTrainedModel, level: bool | str) -> None:
    """Raise `ConfigError` where a model has no such parts; it may be on the meta device."""
    if level == MLP and not mlps(model):
        raise ConfigError(
            "trainer.gradient_checkpointing=mlp: the layers of this model have no part that is "
            "called an MLP.",
            "trainer.gradient_checkpointing=true recomputes whole layers.",
        )


def mlps(model: PreTrainedModel) -> list[nn.Module]:
    """The MLP of each layer, mixtures of experts as a whole; empty where none is called so."""
    layers = model.get_submodule(layer_stack(model)[0]).children()
    named = (part for layer in layers for part in layer.named_children())
    return [
        module
        for name, module in named
        if _NAMES.fullmatch(name) and any(p.ndim > 1 for p in module.parameters())  # no norm
    ]


@cache
def _recomputing(kind: type[nn.Module]) -> type[nn.Module]:
    """The same module, run again in the backward pass. A class, since a copy of a module keeps its
    class: a changed `forward` of one instance would go on running the instance it came from."""

    def forward(self: nn.Module, *args: Any, **words: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return kind.forward(self, *args, **words)
        return checkpoint(kind.forward, self, *args, use_reentrant=False, **words)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
