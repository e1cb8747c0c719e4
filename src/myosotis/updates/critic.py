"""A critic beside any update: the value head of PPO, one number a token.

It is a tool of the training and no part of the policy: what is merged or exported is the update
without it, and with the update switched off nothing reads it. It is kept in checkpoints and in the
run's folder (`value_head.safetensors`), from where a policy goes on.
"""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedModel

from myosotis.trees.lm_head import VALUE_HEAD
from myosotis.updates.base import Update
from myosotis.updates.value_head import ValuedUpdate


class CriticUpdate(ValuedUpdate):
    """`inner` and a value head that reads the hidden state before each token. The head is zero at
    the start: every value is 0. Its learning rate is `lr_ratio` times that of the update.

    Raises `ConfigError` for an update whose hidden states lie behind virtual tokens, or that learns
    labels.
    """

    def __init__(self, inner: Update, lr_ratio: float) -> None:
        super().__init__(inner, lr_ratio)
        self.capabilities = replace(inner.capabilities)
        self.in_place = inner.in_place
        del self.settings["value_head"]
        self.settings["critic"] = lr_ratio

    def alone(self) -> Update:
        self.inner.model._modules.pop(VALUE_HEAD, None)
        return self.inner

    def _merged(self, alpha: float) -> PreTrainedModel:
        head = self.inner.model._modules.pop(VALUE_HEAD)
        try:
            return self.inner._merged(alpha)
        finally:
            self.inner.model.add_module(VALUE_HEAD, head)  # type: ignore[arg-type]
