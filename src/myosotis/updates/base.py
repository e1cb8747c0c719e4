"""The protocol every update follows, and the checks that are the same for all of them.

An update wraps the base model θ0 and adds a Δθ that can be measured, switched off, scaled, merged
and saved. Rules that hold for every family live here: no gradients while the weights are not the
tuned ones, nothing saved then, exactly the intended tensors train, and the base stays where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from myosotis.updates.change import Change
from myosotis.updates.quantised import four_bit, require_trainable
from myosotis.updates.tensors import (
    copy_exactly,
    fingerprint,
    no_backward,
    sample_logits,
    whole,
)
from myosotis.utils import distributed
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import ConfigError, RunError


@dataclass(frozen=True)
class Capabilities:
    """What an update can do; asked when the config is checked, before weights load.

    `reasons` says why not, for each that is false.
    """

    mergeable: bool = True  # Δθ can be added into the base weights
    scalable: bool = True  # θ0 + αΔθ means something
    packs: bool = True  # works with tree masks and restarted positions
    gradient_checkpointing: bool = True
    identity_at_init: bool = True  # before the first step, no logit differs from the base
    quantized: bool = True  # works on a base that is kept in four bits
    explicit: bool = False  # Δθ of each weight is a formula of what trains (change.py)
    layered: bool = True  # what trains belongs to layers, so that they can be told apart by depth
    reasons: Mapping[str, str] = field(default_factory=dict)


WEIGHTS, ABOUT = "update.safetensors", "update.json"
MERGE_TOLERANCE = {
    torch.float64: 1e-6,
    torch.float32: 1e-4,
    torch.bfloat16: 0.1,
    torch.float16: 0.05,
}
"""By the merged weights' dtype: how far a logit may be off, as a share of the largest."""


class Update(ABC):
    """θ0 and a Δθ. Built from settings, then attached to one model."""

    name: str
    capabilities: Capabilities = Capabilities()
    files: tuple[str, ...] = (WEIGHTS,)  # of tensors, as `save` writes them
    in_place: bool = False  # what trains are the base's own weights, and nothing stands beside them
    reads_labels: bool = False  # answers as label numbers (data/label_template.py) instead of text

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings: dict[str, Any] = {"name": self.name, **settings}
        self._model: PreTrainedModel | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._trainable: dict[str, Parameter] = {}
        self._base_prints: dict[str, int] = {}
        self._alpha: float | None = None  # set while inside disabled() or scaled()
        self._spread = False  # over ranks, while training

    # What a family provides.

    @abstractmethod
    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        """Change `model` in place; returns the parameters that are to train."""

    @abstractmethod
    def _weights_at(self, alpha: float) -> AbstractContextManager[None]:
        """Put θ0 + αΔθ in place for a while; exact at α = 0 and 1.

        For any other α what trains holds αΔθ itself, so that it can be saved at that strength.
        """

    def _merged(self, alpha: float) -> PreTrainedModel:
        """A new model with weights θ0 + αΔθ in the base dtype; for families that are mergeable."""
        raise AssertionError("refused by merged()")

    def _save(self, folder: Path, base_id: str | None) -> None:
        """Our own format; families with a format of others write that."""
        tensors = {n: p.detach().contiguous().cpu() for n, p in self._trainable.items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    def _describe_in(self, folder: Path, base_id: str | None, facts: Mapping[str, Any]) -> None:
        about = {"settings": self.settings, "base_model": base_id, "parameters": self.count()}
        write_text(folder / ABOUT, json.dumps(about | dict(facts), indent=2) + "\n")

    def _load(self, folder: Path) -> None:
        copy_exactly(load_file(folder / WEIGHTS), self._trainable, str(folder / WEIGHTS))

    def _called(self, model: PreTrainedModel) -> PreTrainedModel:
        """The module to call, once attached: `model` itself, or what was put around it."""
        return model

    def lr_multiplier(self, name: str) -> float:
        """By how much the learning rate of a trained tensor is multiplied."""
        return 1.0

    def _changes(self) -> list[Change]:
        """Δθ weight by weight; for families that are `explicit`."""
        raise AssertionError("refused by changes()")

    def _merged_changes(self) -> list[Change]:
        """Δθ weight by weight, for families that are mergeable and not `explicit`."""
        return []

    def _frozen(self) -> Iterable[tuple[str, Tensor]]:
        """The tensors of θ0, by name; they must not move."""
        ours = {id(p) for p in self._trainable.values()}
        return ((n, p) for n, p in self.model.named_parameters() if id(p) not in ours)

    # What everybody uses.

    @property
    def model(self) -> PreTrainedModel:
        """The module to call: the tuned model, or the base inside `disabled()`."""
        if self._model is None:
            raise RuntimeError(f"update {self.name} is not attached to a model yet")
        return self._model

    def attach(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        """Wrap `model` as θ0: freeze what stays, add or free what trains. Changes it in place.

        New weights are drawn from torch's global generator: seed it before. The tokenizer is for
        what begins with a text. Raises `ConfigError` when the settings do not fit this model.
        """
        if self._model is not None:
            raise RuntimeError(f"update {self.name} is already attached")
        self._tokenizer = tokenizer
        require_trainable(model.config, self.name)
        if four_bit(model.config) and not self.capabilities.quantized:
            raise self._cannot("quantized", "cannot be put on weights that are quantised")
        chosen = {id(p) for p in self._attach(model)}
        self._model = self._called(model)
        self._trainable = {n: p for n, p in self._model.named_parameters() if id(p) in chosen}
        self._base_prints = {n: fingerprint(t) for n, t in self._frozen()}

    def remarks(self) -> list[str]:
        """What a person should know of how it was attached, a sentence each."""
        return []

    def alone(self) -> Update:
        """What is given away, for good: the update without what only its training needs."""
        return self

    @property
    def tuned(self) -> bool:
        """Whether the weights in place are the tuned ones: outside `disabled()` and `scaled()`."""
        return self._alpha is None

    @property
    def strength(self) -> float:
        """The α of the weights in place: 1 for the tuned ones, 0 inside `disabled()`."""
        return 1.0 if self._alpha is None else self._alpha

    def parameters(self) -> list[tuple[str, Parameter]]:
        """The tensors that train, by name; tied ones once."""
        return list(self._trainable.items())

    def count(self) -> int:
        """How many numbers train."""
        return sum(p.numel() for p in self._trainable.values())

    def changes(self) -> list[Change]:
        """Δθ weight by weight, as formulas of what trains; a tied weight once.

        Raises `ConfigError` when the update has no such formulas (`Capabilities.explicit`).
        """
        self._must_be_tuned("changes()")
        if not self.capabilities.explicit:
            raise self._cannot("explicit", "has no difference of weights that could be measured")
        return self._changes()

    def differences(self) -> list[Change]:
        """Δθ weight by weight, to look at: by the formulas of `changes()`, or as what merging makes
        of the weights. None of an update that cannot be merged."""
        self._must_be_tuned("differences()")
        if self.capabilities.explicit:
            return self._changes()
        return self._merged_changes() if self.capabilities.mergeable else []

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model, bit for bit. No gradients inside; see `scaled`."""
        with self._elsewhere(0.0):
            yield

    @contextmanager
    def scaled(self, alpha: float) -> Iterator[None]:
        """θ0 + αΔθ; α = 1 is the tuned model bit for bit, α = 0 the base.

        Runs without gradients, and a backward pass started inside raises `RuntimeError`: under
        gradient checkpointing it would recompute with these weights and be silently wrong. Raises
        `ConfigError` when the update cannot be scaled or α is not finite.
        """
        if not self.capabilities.scalable:
            raise self._cannot("scalable", "cannot be scaled")
        if not math.isfinite(alpha):
            raise ConfigError(f"α = {alpha} is not a number to scale an update by")
        with self._elsewhere(float(alpha)):
            yield

    @contextmanager
    def _elsewhere(self, alpha: float) -> Iterator[None]:
        if self._alpha is not None:
            raise RuntimeError("disabled() and scaled() do not nest: leave the first one before")
        self._alpha = alpha
        torch.clear_autocast_cache()  # of weights made narrower, which others take the place of
        try:
            with no_backward(self._trainable.values()), self._weights_at(alpha):
                yield
        finally:
            self._alpha = None
            torch.clear_autocast_cache()

    def _cannot(self, capability: str, what: str) -> ConfigError:
        reason = self.capabilities.reasons.get(capability, "")
        return ConfigError(f"update {self.name} {what}{': ' if reason else ''}{reason}")

    def _must_be_tuned(self, what: str) -> None:
        if self._alpha is not None:
            raise RuntimeError(f"{what} inside disabled() or scaled() would see the wrong weights")

    def merged(self, alpha: float = 1.0) -> PreTrainedModel:
        """A new, plain model with weights θ0 + αΔθ, in the base dtype and evaluation mode.

        This one is not touched, so for a moment both are in memory. Raises `ConfigError` when the
        update cannot be merged (or, for α ≠ 1, scaled).
        """
        self._must_be_tuned("merged()")
        if not self.capabilities.mergeable:
            raise self._cannot("mergeable", "cannot be merged into the base weights")
        if alpha != 1 and not self.capabilities.scalable:
            raise self._cannot("scalable", "cannot be scaled")
        with torch.no_grad():
            model = self._merged(float(alpha))
        model.requires_grad_(False)
        model.eval()
        self._check_merged(model, float(alpha))
        return model

    def to_sample(self) -> PreTrainedModel:
        """What to write long texts with: weights merged for a while, where that is the same model
        to rounding in fp32 and saves the work of what stands beside them; else the model itself.

        Which of them it is depends on the weights alone, so a run that is resumed writes the same.
        """
        exact = next(self.model.parameters()).dtype.itemsize >= 4
        if self.in_place or not exact or not self.capabilities.mergeable:
            return self.model
        if four_bit(self.model.config):
            return self.model
        try:
            return self.merged()
        except RunError:  # merged it would be another model
            return self.model

    def _check_merged(self, model: PreTrainedModel, alpha: float) -> None:
        """The merged logits are the unmerged ones; raises `RunError` when they are not."""
        with nullcontext() if alpha == 1 else self.scaled(alpha):
            wanted = sample_logits(self.model)
        logits = sample_logits(model)
        allowed = MERGE_TOLERANCE[next(model.parameters()).dtype]
        apart = ((logits - wanted).abs().max() / wanted.abs().max()).item()
        if not apart <= allowed:  # NaN fails too
            raise RunError(
                f"merged, the model's logits differ by {apart:.2g} of the largest from the "
                f"unmerged ones ({allowed:g} is allowed)",
                "keep the update beside the base instead (--to adapter)",
            )

    def save(
        self,
        folder: Path | str,
        *,
        base_id: str | None = None,
        alpha: float = 1.0,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write αΔθ (or the tensors at θ0 + αΔθ) as safetensors and its settings as JSON.

        `base_id` is the portable name of the base model. A path on this machine is not one and
        is left out, here and in what the model itself remembers. `facts` are kept beside the
        settings: what else must be known to load it on the right base. Raises `ConfigError` for an
        α ≠ 1 when the update cannot be scaled, and for α = 0, which leaves nothing to write.
        """
        self._must_be_tuned("save()")
        if alpha != 1 and not self.capabilities.scalable:
            raise self._cannot("scalable", "cannot be scaled")
        if alpha == 0:
            raise ConfigError("at α = 0 there is no update left to write")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with nullcontext() if alpha == 1 else self._weights_at(alpha):
            named = portable(base_id or self.model.config.name_or_path)
            self._save(folder, named)
        self._describe_in(folder, named, facts or {})

    def load(self, folder: Path | str) -> None:
        """Read what `save` wrote into the attached model.

        Raises `RunError` when tensors are missing, unknown or of another shape.
        """
        self._must_be_tuned("load()")
        self._load(Path(folder))

    def spread(self, mesh: Any, products: torch.dtype | None = None) -> None:
        """Spread the model over the ranks of `mesh`, for the training: see `sharded.py`. The
        parameters are other ones from here on, by the same names. All ranks do this together."""
        from myosotis.updates import sharded

        self._must_be_tuned("spread()")
        sharded.spread(self.model, mesh, products)
        self._spread = True
        self._named_anew()

    def gather(self) -> None:
        """Undo `spread`, on all ranks; nothing where nothing is spread."""
        if not self._spread:
            return
        from myosotis.updates import sharded

        self._must_be_tuned("gather()")
        sharded.gather(self.model)
        self._spread = False
        self._named_anew()

    def _named_anew(self) -> None:
        now = dict(self.model.named_parameters())
        self._trainable = {name: now[name] for name in self._trainable}

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that train, by stable names, for a checkpoint; they share memory. Where they
        are spread over ranks, all must ask, and the first has them."""
        self._must_be_tuned("state_dict()")
        if not self._spread:
            return {n: p.detach() for n, p in self._trainable.items()}
        gathered: dict[str, Tensor] = {}
        for name, parameter in self._trainable.items():
            tensor = whole(parameter.detach())
            if distributed.rank() == 0:
                gathered[name] = tensor.cpu()
        return gathered

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors of a checkpoint in. Raises `RunError` when they do not fit."""
        self._must_be_tuned("load_state_dict()")
        copy_exactly(state, self._trainable, f"the checkpoint of update {self.name}")

    def verify(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Check that exactly the intended tensors require gradients and are in `optimizer`.

        Raises `RunError` with every tensor that is wrongly trainable, wrongly frozen, gone from
        the model, missing in the optimizer, in it twice, or in it and not intended.
        """
        names = {id(p): n for n, p in self.model.named_parameters()}
        ours = {id(p): n for n, p in self._trainable.items()}
        trains = {id(p) for p in self.model.parameters() if p.requires_grad}
        faults = {
            "trainable, but should be frozen": [names[i] for i in trains - ours.keys()],
            "frozen, but should train": [names[i] for i in names.keys() & ours.keys() - trains],
            "no longer in the model": [ours[i] for i in ours.keys() - names.keys()],
        }
        if optimizer is not None:
            held = [id(p) for group in optimizer.param_groups for p in group["params"]]
            twice = {i for i in held if held.count(i) > 1} if len(held) > len(set(held)) else set()
            faults |= {
                "missing in the optimizer": [ours[i] for i in ours.keys() - set(held)],
                "in the optimizer twice": [names.get(i, "?") for i in twice],
                "in the optimizer, but should not be": [
                    names.get(i, "a tensor foreign to the model") for i in set(held) - ours.keys()
                ],
            }
        wrong = [f"{what}: {', '.join(sorted(which))}" for what, which in faults.items() if which]
        if wrong:
            raise RunError(f"update {self.name} does not train what it should", "\n".join(wrong))

    def fingerprint_base(self) -> str:
        """A short hash of θ0's tensors, after checking that none moved since `attach`.

        Takes one pass over the weights. Raises `RunError` naming the tensors that moved (or were
        cast to another dtype).
        """
        self._must_be_tuned("fingerprint_base()")
        now = {n: fingerprint(t) for n, t in self._frozen()}
        before = self._base_prints
        moved = sorted(n for n in now.keys() | before.keys() if now.get(n) != before.get(n))
        if moved:
            raise RunError(
                f"base weights moved while update {self.name} trained: {', '.join(moved)}"
            )
        return hashlib.sha256(repr(sorted(now.items())).encode()).hexdigest()[:16]


def portable(base_id: str | None) -> str | None:
    """`base_id` if it means the same on another machine, None for a path."""
    if not base_id or base_id.startswith((".", "~")):
        return None
    path = Path(base_id)
    local = path.is_absolute() or "\\" in base_id or len(path.parts) > 2 or path.exists()
    return None if local else base_id
