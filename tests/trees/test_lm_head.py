"""The short way through a frozen head against plain logits, `log_softmax` and autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from myosotis.trees import lm_head as heads
from myosotis.trees.lm_head import Head
from tests.tiny import tiny

WORDS, SIZE = 1000, 12


def plain_head(scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Head:
    head = Head(tiny("llama"))
    torch.manual_seed(0)
    head.linear = nn.Linear(SIZE, WORDS, bias=False, dtype=dtype).requires_grad_(False)
    head.linear.weight.mul_(8)  # far from uniform
    head.scale = scale
    return head


@pytest.mark.parametrize("cached", [2**12, 2**17, 2**25])  # many blocks, the last smaller; one
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_scores_and_gradients_are_those_of_plain_logits(
    cached: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "CACHED_BYTES", cached)
    head = plain_head(scale)
    hidden = torch.randn(5, SIZE, dtype=torch.float64, requires_grad=True)
    predictor = torch.tensor([0, 1, 1, 2, 4])  # two siblings, and a position that predicts nothing
    best = head(hidden).argmax(-1)
    target = torch.tensor([3, int(best[1]), 999, 0, 500])
    factor = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)

    logits = head(hidden)
    logp = logits.log_softmax(-1)
    want = logp[predictor, target]
    want_uniform = logp.mean(-1)[predictor]
    ((want * factor).sum() + (want_uniform * factor.flip(0)).sum()).backward()
    expected, hidden.grad = hidden.grad, None

    got, word, uniform = head.log_probs(hidden, predictor, target, uniform=True)
    ((got * factor).sum() + (uniform * factor.flip(0)).sum()).backward()
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    torch.testing.assert_close(uniform, want_uniform, rtol=0, atol=1e-12)
    torch.testing.assert_close(hidden.grad, expected, rtol=0, atol=1e-12)
    assert word.tolist() == best[predictor].tolist()
    assert head.log_probs(hidden, predictor, target, uniform=False)[2] is None


def test_nothing_scored_keeps_the_graph_whole() -> None:
    """An empty row on a data-parallel rank must have a backward pass too."""
    hidden = torch.randn(0, SIZE, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    logp, said, _ = plain_head().log_probs(hidden, none, none, uniform=False)
    assert logp.shape == said.shape == (0,)
    logp.sum().backward()
    assert hidden.grad is not None


def test_half_precision_sums_in_fp32() -> None:
    head = plain_head(dtype=torch.bfloat16)
    hidden = torch.randn(3, SIZE).bfloat16().requires_grad_()
    index = torch.arange(3)
    logp, _, _ = head.log_probs(hidden, index, index, uniform=False)
    assert logp.dtype == torch.float32
    exact = head.linear.weight.double() @ hidden.double().T
    torch.testing.assert_close(
        logp.double(), exact.T.log_softmax(-1)[index, index], rtol=0, atol=1e-5
    )
    logp.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_no_log_prob_is_above_zero(dtype: torch.dtype, scale: float) -> None:
    """Of words that are all but certain, too: the target's logit is one of those that the
    normaliser sums."""
    torch.manual_seed(0)
    head = plain_head(dtype=dtype)
    word = torch.arange(len(head.linear.weight))
    hidden = (scale * head.linear.weight.detach()).to(dtype)  # each predicts itself
    logp, said, _ = head.log_probs(hidden, word, word, uniform=False)
    assert logp.max() <= 0
    logits = hidden.double() @ head.linear.weight.double().T
    rounding = 1e-6 * float(logits.abs().max())
    exact = logits.log_softmax(-1)[word, word]
    torch.testing.assert_close(logp.double(), exact, rtol=0, atol=rounding)
    assert (said == word).float().mean() > 0.5


def test_what_is_not_a_plain_frozen_product_goes_the_long_way() -> None:
    hidden = torch.randn(2, SIZE, dtype=torch.float64)
    assert plain_head().frozen(hidden)
    trains = plain_head()
    trains.linear.requires_grad_(True)
    assert not trains.frozen(hidden)
    capped = plain_head()
    capped.cap = 30.0
    assert not capped.frozen(hidden)
    biased = plain_head()
    biased.linear = nn.Linear(SIZE, WORDS, dtype=torch.float64).requires_grad_(False)
    assert not biased.frozen(hidden)
    hooked = plain_head()
    hooked.linear.register_forward_hook(lambda *_: None)
    assert not hooked.frozen(hidden)
    assert not plain_head().frozen(hidden.float())


def test_a_head_that_trains_under_narrow_products_keeps_its_sums() -> None:
    """Logits are those of the narrow numbers in fp32, to the last digits of a sum: rounded to bf16
    they are a hundredth off, as autocast's are. The gradients are autocast's."""
    torch.manual_seed(0)
    model = tiny("llama")
    model.lm_head = nn.Linear(SIZE, WORDS, bias=False)
    model.lm_head.weight.data.mul_(8)
    weight = model.lm_head.weight
    hidden = torch.randn(5, SIZE).to(torch.bfloat16).requires_grad_()
    exact = hidden.double() @ weight.to(torch.bfloat16).double().T
    grad = torch.randn(exact.shape)
    found = []
    for wide in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            logits = Head(model, torch.bfloat16)(hidden) if wide else model.lm_head(hidden)
        logits.float().backward(grad)
        found.append((logits.detach(), hidden.grad, weight.grad))
        hidden.grad = weight.grad = None
    (ours, *mine), (theirs, *autocast) = found
    assert ours.dtype == torch.float32 and theirs.dtype == torch.bfloat16
    assert (ours - exact).abs().max() <= 1e-5 < 1e-3 < (theirs - exact).abs().max()
    for a, b in zip(mine, autocast, strict=True):
        assert torch.equal(a, b)
