"""Full fine-tuning: the weights themselves move, all or some, and θ0 is kept aside.

Memory: one fp32 copy of the trained weights for θ0, from `attach` on, and a second one inside
`scaled(α)` for 0 < α < 1. Going to the base and back swaps pointers and copies nothing; where θ0 is
kept on the host, or weights are spread over ranks, the two change places instead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.updates.base import Capabilities, Update
from myosotis.updates.change import Change, Moved
from myosotis.updates.settings import check_names
from myosotis.updates.target_modules import layer_stack
from myosotis.updates.tensors import exchange, own, share_of
from myosotis.utils.errors import ConfigError, RunError

CHOICE: dict[str, Any] = {"layers": None, "train_embeddings": True, "only": None}
DEFAULTS: dict[str, Any] = {**CHOICE, "base_on": "device"}


class FullUpdate(Update):
    """The weights train; Δθ = θ − θ0 is never formed.

    Settings: `layers` (numbers of the layers that train, negative ones from the end; with it
    nothing outside the layers trains but the embeddings), `train_embeddings` (also the output
    head), `only` (`bias`: Ben Zaken et al. 2022, or `norm`), and `base_on` (where θ0 is kept:
    `device`, or the `host`'s memory, from which going to the base takes its time).

    θ0 + 1·(θ − θ0) differs from θ in a fifth of the elements, so both sides are stored and α
    interpolates by `torch.lerp`, which is exact at both ends.

    A base in bf16 or fp16 is cast to fp32 when attached: at fine-tuning learning rates half
    precision swallows small updates. The forward pass then runs in half precision by autocast
    (`trainer.precision=bf16-mixed`), and the base to compare with is the cast one.
    """

    name = "full"
    in_place = True
    capabilities = Capabilities(
        explicit=True,
        quantized=False,
        reasons={"quantized": "weights of a few bits do not train themselves"},
    )

    def __init__(self, settings: Mapping[str, Any]) -> None:
        words = {k: v for k, v in settings.items() if k != "name"}
        check_names(self.name, words, DEFAULTS)
        super().__init__({**DEFAULTS, **words})
        if self.settings["only"] not in (None, "bias", "norm"):
            raise ConfigError(f"update.only={self.settings['only']}", "it is null, bias or norm")
        if self.settings["base_on"] not in ("device", "host"):
            raise ConfigError(f"update.base_on={self.settings['base_on']}", "it is device or host")
        _check_layers(self.settings["layers"])
        self._theta0: dict[str, Tensor] = {}
        self._base_dtypes: dict[str, torch.dtype] = {}

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        self._base_dtypes = {n: p.dtype for n, p in model.named_parameters()}
        for parameter in model.parameters():  # not the buffers: rotary ones are fp32 in any model
            if parameter.dtype.itemsize < 4:
                parameter.data = parameter.data.float()
        chosen = set(selected(model, **{k: self.settings[k] for k in CHOICE}))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        trained = [(n, p) for n, p in model.named_parameters() if n in chosen]
        self._theta0 = {n: self._aside(p.detach().clone()) for n, p in trained}
        return [p for _, p in trained]

    @property
    def _on_host(self) -> bool:
        return bool(self.settings["base_on"] == "host")

    def _aside(self, tensor: Tensor) -> Tensor:
        """A tensor of θ0 where it is kept: on the host in memory that a device copies fast from."""
        if not (self._on_host and tensor.is_cuda):
            return tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)

    def _frozen(self) -> Iterable[tuple[str, Tensor]]:
        return {**dict(super()._frozen()), **self._theta0}.items()

    def spread(self, mesh: Any, products: torch.dtype | None = None) -> None:
        super().spread(mesh, products)
        for name, parameter in self._trainable.items():
            share = share_of(self._theta0[name], parameter)
            self._theta0[name] = self._aside(share.to(parameter.device, copy=True))

    def gather(self) -> None:
        if self._spread:
            from myosotis.updates.sharded import joined

            for name, parameter in self._trainable.items():
                share = self._theta0[name].to(parameter.device)
                self._theta0[name] = self._aside(joined(share, parameter))
        super().gather()

    @contextmanager
    def _weights_at(self, alpha: float) -> Iterator[None]:
        if self._spread or (self._on_host and alpha in (0, 1)):
            with self._in_place(alpha):
                yield
            return
        tuned = {n: p.data for n, p in self._trainable.items()}
        try:
            # The optimizer holds the Parameters, which stay; only what they point at changes.
            for name, parameter in self._trainable.items():
                parameter.data = self._mix(name, tuned[name], alpha)
            yield
        finally:
            for name, parameter in self._trainable.items():
                parameter.data = tuned[name]

    @contextmanager
    def _in_place(self, alpha: float) -> Iterator[None]:
        """The same where θ0 changes places with θ: kept on the host it has no room beside it, and
        what gathers weights that are spread over ranks reads their shares where they lie."""
        if alpha not in (0, 1):
            raise RuntimeError(
                "weights that are spread over ranks are θ0's or θ's, nothing between"
            )
        if alpha == 0:
            self._change_places()
        try:
            yield
        finally:
            if alpha == 0:
                self._change_places()

    def _change_places(self) -> None:
        if self._spread:
            from myosotis.updates.sharded import let_go

            let_go(self.model)
        for name, parameter in self._trainable.items():
            exchange(own(parameter.detach()), self._theta0[name])

    def _mix(self, name: str, tuned: Tensor, alpha: float) -> Tensor:
        if alpha == 1:
            return tuned
        base = self._base_of(name, tuned)
        return base if alpha == 0 else torch.lerp(base, tuned, alpha)

    def _base_of(self, name: str, tuned: Tensor) -> Tensor:
        """θ0 of a tensor, where `tuned` is."""
        base = self._theta0[name]
        if base.dtype != tuned.dtype:
            raise RunError(
                f"{name} was cast from {base.dtype} to {tuned.dtype} after the update was attached",
                "use trainer.precision=bf16-mixed instead of bf16-true",
            )
        if base.device != tuned.device:
            base = base.to(tuned.device)
            if not self._on_host:  # the model moved after attach; θ0 follows once
                self._theta0[name] = base
        return base

    def _changes(self) -> list[Change]:
        return [
            Moved(name, parameter, partial(self._base_of, name, parameter))
            for name, parameter in self._trainable.items()
        ]

    def delta(self) -> Iterator[tuple[str, Tensor]]:
        """Δθ, a tensor at a time."""
        self._must_be_tuned("delta()")
        for name, parameter in self._trainable.items():
            yield name, parameter.detach() - self._theta0[name].to(parameter.device)

    def _merged(self, alpha: float) -> PreTrainedModel:
        with self._weights_at(alpha):
            model = copy.deepcopy(self.model)
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(self._base_dtypes[name])
        return model


def _check_layers(layers: Any) -> None:
    numbers = isinstance(layers, Sequence) and all(type(i) is int for i in layers)
    if layers is not None and not (layers and numbers):
        raise ConfigError(
            f"update.layers={layers} names no layers",
            "null: all; or their numbers, as in [-2,-1]; update=probe trains nothing of the model",
        )


def selected(
    model: PreTrainedModel,
    *,
    layers: Sequence[int] | None,
    train_embeddings: bool,
    only: str | None,
) -> list[str]:
    """Names of the parameters that train; tied ones once.

    Raises `ConfigError` for a layer that is not there, and when nothing is left.
    """
    prefix, count = layer_stack(model)
    wanted = None
    if layers is not None:
        if outside := [i for i in layers if not -count <= i < count]:
            raise ConfigError(
                f"update.layers: there is no layer {outside[0]}", f"this model has {count}, from 0"
            )
        wanted = {i % count for i in layers}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = {id(p) for end in ends if end is not None for p in end.parameters()}
    norms = {
        id(p) for m in model.modules() if "norm" in type(m).__name__.lower() for p in m.parameters()
    }
    names = []
    for name, parameter in model.named_parameters():
        if id(parameter) in tables:
            trains = train_embeddings
        elif name.startswith(f"{prefix}."):
            trains = wanted is None or int(name[len(prefix) + 1 :].split(".")[0]) in wanted
        else:
            trains = wanted is None
        if only == "bias":
            trains = trains and name.endswith("bias")
        elif only == "norm":
            trains = trains and id(parameter) in norms
        if trains:
            names.append(name)
    if not names:
        raise ConfigError(
            f"update=full is left with nothing to train (layers={layers}, only={only})",
            "a model without biases has none to train" if only == "bias" else "choose more",
        )
    return names
