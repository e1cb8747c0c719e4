"""Weights spread over the ranks of a training (FSDP2; Zhao et al. 2023): each rank keeps a share of
every tensor, with its gradient and its optimiser's state, and a layer is whole only while it is
computed.

A model is spread when its training begins and made whole again when it ends: before and after it is
like any other. In between every rank must call it as often as every other.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.trees.scorer import SPREAD_BODY
from myosotis.updates.target_modules import layer_stack
from myosotis.updates.tensors import share_of, whole

MARKS = ("_is_fsdp_managed_module", "_fsdp_use_orig_params", "__composable_api_state_key")
"""What torch leaves in modules begins so: transformers' generation waits for ranks where it sees
one, and a model cannot be copied with them."""


def spread(model: PreTrainedModel, mesh: DeviceMesh, products: torch.dtype | None = None) -> None:
    """Spread `model` over the ranks of `mesh`: its layers one by one, and what stands around them.

    Gradients are summed over the ranks, as everywhere here, not averaged. A layer is gathered in
    the dtype that it multiplies in (`products`; None: as it is kept), which is half of what is
    sent, and no second copy of it is kept for the backward pass. What runs between products is in
    the dtype that it always is; only the scales of norms are rounded with the rest of their layer.
    """
    name, _ = layer_stack(model)
    narrow = MixedPrecisionPolicy(
        param_dtype=products, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    options: dict[str, Any] = {"mp_policy": narrow} if products is not None else {}
    for layer in cast(nn.ModuleList, model.get_submodule(name)):
        fully_shard(layer, mesh=mesh, **options)
    fully_shard(model, mesh=mesh)
    for module in parts_of(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no sum that divides
    # The head is asked by itself (trees/lm_head.py): what gathers its weights runs before the body.
    setattr(model, SPREAD_BODY, MethodType(_run_body, model))
    register_fsdp_forward_method(model, SPREAD_BODY)


def _run_body(model: PreTrainedModel, *args: Any, **words: Any) -> Any:
    return getattr(model, model.base_model_prefix)(*args, **words)


def parts_of(model: nn.Module) -> Iterator[FSDPModule]:
    """The modules whose tensors are gathered together."""
    return (module for module in model.modules() if isinstance(module, FSDPModule))


def let_go(model: nn.Module) -> None:
    """Every rank keeps nothing but its shares: what stands around the layers stays whole after a
    forward pass otherwise."""
    for module in parts_of(model):
        module.reshard()


def gather(model: nn.Module) -> None:
    """Make a model whole again that was `spread`, on every rank. Its parameters are new ones, by
    the old names."""
    let_go(model)
    for module in list(parts_of(model)):
        _forget(module)
    made: dict[int, Parameter] = {}
    for module in model.modules():
        for mark in [name for name in vars(module) if name.startswith(MARKS)]:
            del module.__dict__[mark]
        for name, shares in module._parameters.items():
            if not isinstance(shares, DTensor):
                continue
            if id(shares) not in made:  # tied tensors stay tied
                tensor = whole(shares.detach())
                made[id(shares)] = Parameter(tensor, requires_grad=shares.requires_grad)
            module._parameters[name] = made[id(shares)]
    delattr(model, SPREAD_BODY)


def _forget(module: Any) -> None:
    """Take back what `fully_shard` did to a module. torch has no function for it."""
    state = module._get_fsdp_state()
    state._pre_forward_hook_handle.remove()
    state._post_forward_hook_handle.remove()
    for group in state._fsdp_param_groups:
        for hooks in (
            group._module_to_pre_save_state_dict_hook_handle,
            group._module_to_pre_load_state_dict_hook_handle,
        ):
            for handle in hooks.values():
                handle.remove()
    module.__class__ = type(module).__mro__[FSDPModule._orig_cls_mro_index]


def spread_like(whole: Tensor, like: DTensor) -> DTensor:
    """A whole tensor spread as `like` is; nothing is sent."""
    return _of_share(share_of(whole, like).to(like.device, copy=True), like)


def joined(share: Tensor, like: Any) -> Tensor:
    """The whole of shares that each rank has, dealt out as those of `like`."""
    return whole(_of_share(share, like))


def _of_share(share: Tensor, like: DTensor) -> DTensor:
    """The tensor spread as `like` is, of which this rank has `share`."""
    return DTensor.from_local(
        share,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
