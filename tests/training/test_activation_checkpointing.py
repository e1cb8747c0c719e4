"""Which parts of a model are recomputed, and that a copy of it is one of its own."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from myosotis.training.activation_checkpointing import checkpoint_activations, mlps
from myosotis.utils.errors import ConfigError
from tests.tiny import CONFIGS, tiny

IDS = torch.arange(3, 43)[None]


def kept(model: torch.nn.Module) -> int:
    """Bytes that a backward pass would find kept, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(keep(t)) or t, lambda t: t):
        assert model(IDS).logits.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_has_an_mlp_a_layer(family: str) -> None:
    """With it recomputed less is kept, and more than with whole layers recomputed."""
    model = tiny(family).train()
    assert len(mlps(model)) == model.config.num_hidden_layers
    sizes = []
    for level in (False, "mlp", True):
        model = tiny(family).train()
        checkpoint_activations(model, level)
        sizes.append(kept(model))
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_a_copy_runs_its_own_weights() -> None:
    model = tiny("llama").train()
    checkpoint_activations(model, "mlp")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for module in mlps(twin):
            for parameter in module.parameters():
                parameter.zero_()
    assert not torch.equal(twin(IDS).logits, model(IDS).logits)
    twin(IDS).logits.sum().backward()
    assert type(mlps(twin)[0]).__name__ == "LlamaMLP"


def test_a_model_without_mlps_is_refused_by_name() -> None:
    """OPT's two linear layers stand in the layer itself."""
    config = OPTConfig(
        vocab_size=97, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4
    )
    with torch.device("meta"):
        model = OPTForCausalLM(config)
    with pytest.raises(ConfigError, match="no part that is called an MLP"):
        checkpoint_activations(model, "mlp")
