"""The output head: log-probabilities of chosen words, without the logits of all words at once.

A log-probability is one number a scored token, so its gradient with respect to the hidden state is
one vector times one number that only the backward pass knows:

    d logp(t | h) / dh = s·(W[t] - sum_v p(v | h) W[v])

Where the head's weights are frozen the vector is therefore made in the forward pass, block by block
of the vocabulary, while the block's logits are in the cache; nothing of the logits' size is kept or
computed twice. The same sums give the mean log-probability over the vocabulary.

Shape suffixes as in `scorer.py`; K words of a block.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from myosotis.trees.attention import text_config
from myosotis.trees.tree import Target

CACHED_BYTES, GPU_BYTES = 2**22, 2**28
"""Logits of one block: small enough for a CPU's cache, large enough to keep a GPU busy."""


class Head:
    """The output head of a model with what its architecture does to the logits afterwards.

    Called as a module, so that an adapter on the head is used too. Accepted for a model only
    where the probe finds it equal to the model's own logits.
    """

    def __init__(self, model: nn.Module, products: torch.dtype | None = None) -> None:
        config = text_config(model)
        self.products = products
        self.linear: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)
        divide: float = getattr(config, "logits_scaling", None) or 1.0  # Granite
        times: float = getattr(config, "logit_scale", None) or 1.0  # Cohere
        self.scale = times / divide
        # Under autocast a product is rounded to bf16, and logits are .03 to .06 nats off: so a
        # plain head multiplies by itself. Its weights are made narrower once, for all chunks.
        narrow = products is not None and self.plain
        self.narrow_VD: Tensor | None = self.linear.weight.to(products) if narrow else None  # type: ignore[operator]

    def __call__(self, hidden_CD: Tensor) -> Tensor:
        if self.narrow_VD is not None:
            logits_CV = _WideProduct.apply(hidden_CD.to(self.narrow_VD.dtype), self.narrow_VD)
        else:
            with arithmetic(hidden_CD.device, self.products):
                logits_CV = self.linear(hidden_CD)
        if self.scale != 1.0:
            logits_CV = logits_CV * self.scale
        if self.cap is not None:
            logits_CV = torch.tanh(logits_CV / self.cap) * self.cap
        return logits_CV

    def copied(self) -> Head:
        """The same with weights of its own, as they are now."""
        twin = copy.copy(self)
        twin.linear = copy.deepcopy(self.linear)
        twin.narrow_VD = None if self.narrow_VD is None else self.narrow_VD.detach().clone()
        return twin

    @property
    def plain(self) -> bool:
        """Whether this is a product with a matrix, and nothing else."""
        linear = self.linear
        return (
            type(linear) is nn.Linear
            and "bias" not in dict(linear.named_parameters())
            and not linear._forward_hooks
            and not linear._forward_pre_hooks
        )

    @property
    def trains(self) -> bool:
        """Whether the head, or what is added to it, is part of what is tuned."""
        return any(p.requires_grad for p in self.linear.parameters())

    def frozen(self, hidden_ND: Tensor) -> bool:
        """Whether this is a plain product with weights that do not train: `log_probs` serves it."""
        if not self.plain or self.cap is not None or self.products is not None:
            return False
        weight: Tensor = self.linear.weight  # type: ignore[assignment]
        trains = weight.requires_grad and torch.is_grad_enabled()
        return not trains and weight.dtype == hidden_ND.dtype

    def log_probs(
        self, hidden_ND: Tensor, predictor_S: Tensor, target_S: Tensor, uniform: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-prob of each scored token, the likeliest word in its place, and (asked for) the mean
        over the vocabulary.

        For a head that is `frozen`. Differentiable in `hidden_ND`.
        """
        weight = self.linear.weight
        logp_S, word_S, uniform_S = _LogProbs.apply(
            hidden_ND, weight, predictor_S, target_S, self.scale, uniform
        )
        return logp_S, word_S, uniform_S if uniform else None


def arithmetic(
    device: torch.device, products: torch.dtype | None
) -> AbstractContextManager[object]:
    """Matrix products in that dtype, whatever the weights are kept in; None: as they are."""
    return nullcontext() if products is None else torch.autocast(device.type, products)


VALUE_HEAD, LABEL_HEAD = "value_head", "label_head"
"""The names under which a model carries the head that is trained beside its own."""

ADDED = {Target.LABEL: LABEL_HEAD, Target.VALUE: VALUE_HEAD}
"""Which of them predicts what, where that is not tokens."""


class AddedHead(nn.Linear):
    """A trained head beside the language model's own, on the same hidden states: numbers that are
    0 everywhere at the start. In fp32 at least."""

    off = False

    @classmethod
    def beside(cls, model: nn.Module, outputs: int, bias: bool) -> Self:
        """A head of that many outputs which fits `model`; it is not added to it yet."""
        like = next(p for p in model.parameters() if p.is_floating_point())
        wide = torch.promote_types(like.dtype, torch.float32)
        width = int(text_config(model).hidden_size)
        head = cls(width, outputs, bias=bias, device=like.device, dtype=wide)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        return head

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            outputs = super().forward(input.to(self.weight.dtype))
        return outputs * 0.0 if self.off else outputs

    @contextmanager
    def at(self, alpha: float) -> Iterator[None]:
        """Off where `alpha` is 0, for a while: then all outputs are 0, as at the start."""
        self.off = alpha == 0
        try:
            yield
        finally:
            self.off = False


class ValueHead(AddedHead):
    """One number instead of logits. Without a bias, which the difference of two would not see."""


class _LogProbs(torch.autograd.Function):
    """See the top of the file; sums over the vocabulary are rescaled as their maximum rises
    (Milakov & Gimelshein 2018)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        predictor_S: Tensor,
        target_S: Tensor,
        scale: float,
        uniform: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        rows, words = len(hidden_ND), len(weight_VD)
        learns = ctx.needs_input_grad[0]
        top_N = hidden_ND.new_full((rows,), -torch.inf, dtype=wide)
        target_logit_S = hidden_ND.new_zeros(len(target_S), dtype=wide)
        word_N = torch.zeros(rows, dtype=torch.int64, device=hidden_ND.device)
        sum_N = torch.zeros_like(top_N)
        logit_sum_N = torch.zeros_like(top_N)
        mean_ND = hidden_ND.new_zeros((rows if learns else 0, hidden_ND.shape[1]), dtype=wide)
        room = CACHED_BYTES if hidden_ND.device.type == "cpu" else GPU_BYTES
        block = max(256, room // (wide.itemsize * max(1, rows)))
        for start in range(0, words, block):
            weight_KD = weight_VD[start : start + block]
            logits_NK = _logits(hidden_ND, weight_KD, wide)
            if scale != 1.0:
                logits_NK *= scale
            if uniform:
                logit_sum_N += logits_NK.sum(-1)
            # The target's logit is one of those that the sum is made of: no log-prob is above 0.
            at_S = target_S - start
            inside_S = (at_S >= 0) & (at_S < len(weight_KD))
            found_S = logits_NK[predictor_S, at_S.clamp(0, len(weight_KD) - 1)]
            target_logit_S = torch.where(inside_S, found_S, target_logit_S)
            here_N, at_N = logits_NK.max(-1)
            word_N = torch.where(here_N > top_N, at_N + start, word_N)
            new_N = torch.maximum(top_N, here_N)
            shrink_N = (top_N - new_N).exp_()
            top_N = new_N
            exp_NK = logits_NK.sub_(top_N[:, None]).exp_()
            sum_N.mul_(shrink_N).add_(exp_NK.sum(-1))
            if learns:
                mean_ND.mul_(shrink_N[:, None]).add_(exp_NK.to(weight_VD.dtype) @ weight_KD)
        norm_N = top_N + sum_N.log()
        if learns:
            mean_ND /= sum_N[:, None]
            ctx.save_for_backward(mean_ND, weight_VD, predictor_S, target_S)
            ctx.scale, ctx.uniform, ctx.dtype = scale, uniform, hidden_ND.dtype
        word_S = word_N[predictor_S]
        ctx.mark_non_differentiable(word_S)
        uniform_N = logit_sum_N / words - norm_N
        return target_logit_S - norm_N[predictor_S], word_S, uniform_N[predictor_S]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_S, _, uniform_S = grads
        mean_ND, weight_VD, predictor_S, target_S = ctx.saved_tensors
        grad_ND = torch.zeros_like(mean_ND)
        wide_SD = weight_VD[target_S].to(mean_ND.dtype)
        grad_ND.index_add_(0, predictor_S, wide_SD * grad_S[:, None])
        total_S = grad_S
        if ctx.uniform:
            total_S = grad_S + uniform_S
            even_D = weight_VD.mean(0, dtype=mean_ND.dtype)
            per_N = torch.zeros_like(mean_ND[:, 0]).index_add_(0, predictor_S, uniform_S)
            grad_ND += per_N[:, None] * even_D
        total_N = torch.zeros_like(mean_ND[:, 0]).index_add_(0, predictor_S, total_S)
        grad_ND -= mean_ND * total_N[:, None]
        return (grad_ND * ctx.scale).to(ctx.dtype), None, None, None, None, None


class _WideProduct(torch.autograd.Function):
    """The product of two narrow matrices as it was summed, in fp32; backward as autocast has it."""

    @staticmethod
    def forward(ctx: Any, hidden_CD: Tensor, weight_VD: Tensor) -> Tensor:
        ctx.save_for_backward(hidden_CD, weight_VD)
        with torch.autocast(hidden_CD.device.type, enabled=False):
            return _logits(hidden_CD, weight_VD, torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        hidden_CD, weight_VD = ctx.saved_tensors
        grad_CV = grads[0].to(hidden_CD.dtype)
        learns, trains = ctx.needs_input_grad
        return (
            grad_CV @ weight_VD if learns else None,
            grad_CV.t() @ hidden_CD if trains else None,
        )


def _logits(hidden_ND: Tensor, weight_KD: Tensor, wide: torch.dtype) -> Tensor:
    """The products summed and kept in `wide`: rounded to bf16, logits are .03 to .06 nats off."""
    if hidden_ND.dtype == wide:
        return F.linear(hidden_ND, weight_KD)
    if hidden_ND.is_cuda:
        return torch.mm(hidden_ND, weight_KD.t(), out_dtype=wide)
    return F.linear(hidden_ND.to(wide), weight_KD.to(wide))
