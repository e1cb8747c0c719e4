"""KL to the base: value and gradient against whole logits, and the estimator of RLHF."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from myosotis.controls import Given
from myosotis.controls.kl import KL, KLTerm, kl_penalty
from myosotis.updates import build
from tests.controls.small import attached, gradient, moved, scorer_of, step, trees
from tests.tiny import tiny


def test_the_estimator_of_rlhf() -> None:
    """(−1 + 1.5) = (−2 + 2.5) = .5; .1 · .5 = .05 (SCIENCE, section 3b)."""
    logp, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -2.5])
    assert kl_penalty(logp, reference, 0.1).item() == pytest.approx(0.05)


def term(update: object, **changes: object) -> KLTerm:
    given = Given(update, scorer_of(update), None, 128, 0, 8, None, None, None)  # type: ignore[arg-type]
    words = {"coef": 2.0, "tokens": lambda at: at.supervised / 2, "reverse": False, **changes}
    return KLTerm(given, lambda at: at.trees, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["lora", "full", "prefix"])
@pytest.mark.parametrize("reverse", [False, True])
def test_value_and_gradient_are_those_of_whole_logits(method: str, reverse: bool) -> None:
    """Σ over scored tokens of Σ q·(log q − log p), times coef over half the task's tokens."""
    update, given = moved(attached(method)), trees(5)
    value = term(update, reverse=reverse).accumulate(step(update, given))
    found = gradient(update)
    total = torch.zeros((), dtype=torch.float64)
    for tree in given:
        ids = torch.tensor(tree.ids)[None]
        with update.disabled():
            base = F.log_softmax(update.model(input_ids=ids).logits[0], -1)
        tuned = F.log_softmax(update.model(input_ids=ids).logits[0], -1)
        q, p = (tuned, base) if reverse else (base, tuned)
        apart = (q.exp() * (q - p)).sum(-1)
        total = total + apart[torch.tensor(tree.weights[1:]).nonzero()[:, 0]].sum()
    total = 2.0 / (0.5 * 5 * 4) * total
    total.backward()
    wanted = gradient(update)
    assert value == pytest.approx(total.item(), rel=1e-9) and value > 1e-3
    assert (found - wanted).abs().max() <= 1e-9 * wanted.abs().max()


def test_in_mixed_precision_the_base_is_the_base() -> None:
    """Autocast keeps weights made narrower; those of the base are not taken for the tuned ones."""
    torch.manual_seed(0)
    update = build({"name": "full"})
    update.attach(tiny())
    moved(update, 0.05)
    values, gradients = [], []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            values.append(term(update).accumulate(step(update, trees(4))))
        gradients.append(gradient(update))
    assert values[1] == pytest.approx(values[0], rel=0.05)
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize(("share", "wanted"), [(0.1, 8), (0.25, 20), (1.0, 80)])
def test_a_share_of_the_task_is_counted_on_from_step_to_step(share: float, wanted: int) -> None:
    """Eight examples a step, ten steps."""
    update, given = attached(), trees(8)
    control = KL(coef=1.0, texts="task", share=share)
    picked = [control._of_the_task(step(update, given, number)) for number in range(10)]
    assert sum(map(len, picked)) == wanted
    assert max(map(len, picked)) - min(map(len, picked)) <= 1


@pytest.mark.parametrize("method", ["lora", "full"])
def test_where_training_begins_it_is_nothing(method: str) -> None:
    update = attached(method)
    value = term(update).accumulate(step(update, trees(4)))
    assert value == pytest.approx(0.0, abs=1e-12)
    assert gradient(update).abs().max() < 1e-12


def test_ranks_share_the_gradient_of_a_step() -> None:
    update, given = moved(attached()), trees(5)
    term(update).accumulate(step(update, given))
    alone = gradient(update)
    parts = []
    for rank in range(2):
        term(update).accumulate(step(update, given, rank=rank, ranks=2))
        parts.append(gradient(update))
    assert (sum(parts) - alone).norm() <= 1e-9 * alone.norm()
