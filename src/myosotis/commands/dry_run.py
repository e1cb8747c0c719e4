"""What a run needs of its model beyond its configuration, tried without its weights.

`plan` and `train` both ask here, so what one accepts the other does; and both before weights load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from transformers import PreTrainedModel

from myosotis import updates
from myosotis.models import quantised
from myosotis.models.load import ModelSource, load_config, meta_model
from myosotis.training.activation_checkpointing import require_level
from myosotis.training.memory_estimate import Sizes
from myosotis.updates.base import Update
from myosotis.updates.quantised import four_bit, method
from myosotis.updates.tensors import num_parameters
from myosotis.utils.errors import ConfigError


@dataclass(frozen=True)
class DryRun:
    """A model without weights and its update, attached."""

    model: PreTrainedModel  # the base, on the meta device
    update: Update
    sizes: Sizes
    note: str  # what a reader of results must know of the weights; may be ""


def dry_run(cfg: DictConfig, source: ModelSource, settings: dict[str, Any]) -> DryRun:
    """The update of these settings on the model without weights; no random number is used up.

    Raises what attaching it to the model itself would raise.
    """
    quantization = cfg["update"].get("quantization")
    model = meta_model(source, quantization=quantization)
    if cfg.model.start is not None and quantised.stays(model.config):
        raise ConfigError(
            f"model.start is merged into weights, but those of {source.name} are quantised "
            f"({method(model.config)}).",
            "Use the model with plain weights.",
        )
    parameters = num_parameters(model)
    bases = {id(p) for p in model.parameters()}
    update = updates.build(settings)
    with torch.random.fork_rng(devices=[]):
        update.attach(model)
    require_level(update.model, cfg.trainer.gradient_checkpointing)
    sizes = Sizes(
        base=parameters,
        trainable=update.count(),
        own=sum(p.numel() for _, p in update.parameters() if id(p) in bases),
        four_bit=_packed(model) if quantization is not None or four_bit(model.config) else 0,
    )
    note = quantised.note(load_config(source), quantization)
    return DryRun(model, update, sizes, note)


def _packed(model: PreTrainedModel) -> int:
    """Numbers of the base that are kept in four bits: the weights of its linear layers."""
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if type(m) is torch.nn.Linear and m is not head]
    return sum(m.weight.numel() for m in linear if not m.weight.requires_grad)
