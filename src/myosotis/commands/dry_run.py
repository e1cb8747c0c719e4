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
from myosotis.updates.base import Update
from myosotis.updates.quantised import four_bit, method
from myosotis.updates.tensors import num_parameters
from myosotis.utils.errors import ConfigError


@dataclass(frozen=True)
class DryRun:
    """A model without weights and its update, attached."""

    model: PreTrainedModel  # the base, on the meta device
    update: Update
    parameters: int  # of the base
    in_four_bits: bool  # whether the linear layers of the base are kept so
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
    update = updates.build(settings)
    with torch.random.fork_rng(devices=[]):
        update.attach(model)
    return DryRun(
        model,
        update,
        parameters,
        in_four_bits=quantization is not None or four_bit(model.config),
        note=quantised.note(load_config(source), quantization),
    )
