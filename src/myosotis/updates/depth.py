"""How deep in the model what trains lies: for rates and freezing by layer.

Layers count from 0. What stands before them (the embeddings, and with them an output head that
shares their table) has depth −1, what stands behind (the last norm, a head of its own, a value
head) the number of layers.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel

from myosotis.updates.base import Update
from myosotis.updates.target_modules import layer_stack


def depths(update: Update) -> tuple[Callable[[str], int], int]:
    """The depth of a trained tensor by its name, and the number of layers.

    Raises `ConfigError` for an update that belongs to no layers.
    """
    if not update.capabilities.layered:
        raise update._cannot("layered", "cannot be told apart by layers")
    return depth_by_name(update.model)


def depth_by_name(model: PreTrainedModel) -> tuple[Callable[[str], int], int]:
    """The depth of a tensor of `model` by its name, and the number of layers."""
    prefix, count = layer_stack(model)
    embeddings: nn.Module = model.get_input_embeddings()  # type: ignore[assignment]
    tables = {id(p) for p in embeddings.parameters()}
    before = {name for name, p in model.named_parameters() if id(p) in tables}

    def depth(name: str) -> int:
        if name.startswith(f"{prefix}."):
            return int(name[len(prefix) + 1 :].split(".")[0])
        return -1 if name in before else count

    return depth, count
