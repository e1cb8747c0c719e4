"""Virtual tokens: prefix tuning and prompt tuning, with PEFT's own model around the base.

The tuned model is PEFT's wrapper, called like any causal language model; what it adds in front is
nobody else's business (`logits_to_keep` is moved along here). Such a model cannot read packed
rows: every path would need virtual tokens of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import PreTrainedModel

from myosotis.updates.base import Capabilities
from myosotis.updates.peft import PeftUpdate
from myosotis.utils.errors import ConfigError

NOT_WEIGHTS = "virtual tokens are no change of the weights"
NO_STRENGTH = "virtual tokens are there or not; they have no strength between"
NOT_PACKED = "every path needs its own virtual tokens in front"
NOT_THE_BASE = "the model reads virtual tokens from the start"


class PromptUpdate(PeftUpdate):
    """`PREFIX_TUNING` (Li & Liang 2021): keys and values in front of every layer's own, or
    `PROMPT_TUNING` (Lester et al. 2021): embeddings in front of the prompt.

    Trains 2 · layers · virtual tokens · kv_heads · head_dim numbers, or virtual tokens · width.
    `init_text` begins with what the model makes of a text, repeated or cut to length: its
    embeddings, or its keys and values (the activations of real words of Li & Liang, section 7.4).
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._text = settings.get("init_text")
        super().__init__({k: v for k, v in settings.items() if k != "init_text"})
        if not self._given().get("num_virtual_tokens"):
            raise ConfigError("update.num_virtual_tokens is needed", "20 is usual")
        if self._given().get("prefix_projection"):
            raise ConfigError("update.prefix_projection is not supported", "leave it out")
        prefix = self.kind == "PREFIX_TUNING"
        reasons = {
            "mergeable": NOT_WEIGHTS,
            "scalable": NO_STRENGTH,
            "packs": NOT_PACKED,
            "identity_at_init": NOT_THE_BASE,
            "explicit": NOT_WEIGHTS,
            "layered": "virtual tokens stand before the whole model",
        }
        if prefix:
            reasons["gradient_checkpointing"] = "transformers drops the prefix when it recomputes"
        self.capabilities = Capabilities(
            mergeable=False,
            scalable=False,
            packs=False,
            gradient_checkpointing=not prefix,
            identity_at_init=False,
            layered=False,
            reasons=reasons,
        )

    def _prepare(self, config: PeftConfig, model: PreTrainedModel) -> None:
        text = model.config.get_text_config()
        if self.kind == "PREFIX_TUNING" and (other := layers_without_keys(model)):
            raise ConfigError(
                f"update={self.name} puts keys and values in front of every layer's own, and a "
                f"{type(model).__name__} has layers without any ({other}).",
                "update=prompt puts its tokens in front of the text instead.",
            )
        if not getattr(text, "num_attention_heads", None):
            config.num_attention_heads = 1  # type: ignore[attr-defined]  # PEFT asks, needs it not

    def _attach(self, model: PreTrainedModel) -> list[Parameter]:
        trained = super()._attach(model)
        if self._text is not None and not self._table().weight.is_meta:  # plan has no weights
            self._begin_with(model, str(self._text))
        self.peft_model.register_forward_pre_hook(self._make_room, with_kwargs=True)
        return trained

    def _called(self, model: PreTrainedModel) -> PreTrainedModel:
        return self.peft_model  # type: ignore[return-value]

    def _begin_with(self, model: PreTrainedModel, text: str) -> None:
        if self._tokenizer is None:
            raise ConfigError("update.init_text needs the model's tokenizer", "attach with it")
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids  # type: ignore
        rows = self._table().weight
        if not ids:
            raise ConfigError("update.init_text is empty", "a few words, or leave it out")
        chosen = torch.tensor([ids[i % len(ids)] for i in range(len(rows))], device=rows.device)
        with torch.no_grad():
            if self.kind == "PROMPT_TUNING":
                rows.copy_(model.get_input_embeddings()(chosen))  # type: ignore[operator]
                return
            training = model.training
            cache = model.eval()(input_ids=chosen[None], use_cache=True).past_key_values
            model.train(training)
            sides_VHE = [t[0].transpose(0, 1) for x in cache.layers for t in (x.keys, x.values)]
            rows.copy_(torch.stack(sides_VHE, 1).flatten(1))

    def _make_room(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Logits are wanted of what was given, not of embeddings that were put in front."""
        keep = kwargs.get("logits_to_keep")
        if self._alpha != 0 and self.kind == "PROMPT_TUNING" and isinstance(keep, Tensor):
            front = keep.new_zeros((len(keep), self._given()["num_virtual_tokens"]))
            kwargs = {**kwargs, "logits_to_keep": torch.cat([front, keep], dim=1)}
        return args, kwargs

    def _table(self) -> nn.Embedding:
        encoder = self.peft_model.prompt_encoder["default"]  # type: ignore[index]
        return encoder.embedding  # type: ignore[return-value]

    def _tensors(self) -> dict[str, Tensor]:
        return {"prompt_embeddings": self._table().weight}


def layers_without_keys(model: PreTrainedModel) -> str:
    """What the layers are that have no attention with keys and values; empty where all have."""
    recurrent = {type(m).__name__ for m in model.modules() if hasattr(m, "A_log")}
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    other = {kind for kind in kinds if kind == "linear_attention" or "attention" not in kind}
    return ", ".join(sorted(recurrent or other))
