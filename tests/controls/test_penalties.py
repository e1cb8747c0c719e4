"""Terms on the weights: closed forms in float64, and nothing where training begins."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from myosotis.controls.ewc import weighted_distance
from myosotis.controls.fisher import fisher
from myosotis.controls.l2sp import half_squared_distance
from myosotis.controls.orthogonal import inside, top_directions
from myosotis.controls.penalty import Penalty
from myosotis.updates.change import LowRank, Moved
from tests.controls.small import SETTINGS, attached, gradient, moved, scorer_of, step, trees

EXPLICIT = ["lora", "full", "ia3", "vera"]


@pytest.mark.parametrize("method", EXPLICIT)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_change_is_what_merging_adds(method: str, name: str) -> None:
    """GPT-2 stores its weights as (in, out)."""
    if (method, name) in (("ia3", "gpt2"), ("vera", "gpt2")):
        pytest.skip("PEFT's own targets there are another matter")
    update = moved(attached(method, name), 0.05)
    before = {n: t.clone() for n, t in update._frozen()}
    after = dict(update.merged().named_parameters())
    changes = update.changes()
    assert len(changes) > 3
    for change in changes:
        base = change.origin()
        assert any(torch.equal(base, t) for t in before.values())
        assert torch.allclose(after[change.name] - base, change.delta(), atol=1e-7)
        wanted = change.delta().square().sum()
        assert change.squared_norm().item() == pytest.approx(wanted.item(), rel=1e-9)


def low_rank(transposed: bool = False) -> LowRank:
    """ΔW = 3·B·A = 3·[[1, 2], [2, 4]] = [[3, 6], [6, 12]], of squared norm 9+36+36+144 = 225."""
    a = torch.nn.Parameter(torch.tensor([[1.0, 2.0]], dtype=torch.float64))
    b = torch.nn.Parameter(torch.tensor([[1.0], [2.0]], dtype=torch.float64))
    weight = torch.nn.Parameter(torch.eye(2, dtype=torch.float64), requires_grad=False)
    return LowRank("w", weight, a, b, 3.0, transposed)


def test_the_distance_of_lora_without_forming_it() -> None:
    """½·225 = 112.5; d/dA = s²(BᵀB)A = 9·5·[1, 2] = [45, 90]; d/dB = s²B(AAᵀ) = 9·5·[1, 2]ᵀ."""
    change = low_rank()
    half = half_squared_distance(change)
    half.backward()
    assert half.item() == 112.5
    assert change.a.grad is not None and change.a.grad.tolist() == [[45.0, 90.0]]
    assert change.b.grad is not None and change.b.grad.tolist() == [[45.0], [90.0]]


def test_the_weighted_distance_by_hand() -> None:
    """½(1·9 + 0·36 + 2·36 + ½·144) = ½(9 + 72 + 72) = 76.5."""
    weights = torch.tensor([[1.0, 0.0], [2.0, 0.5]])
    assert weighted_distance(low_rank(), weights).item() == 76.5


def quadratic(value: Any, weights: torch.Tensor) -> torch.Tensor:
    """Where gradient descent on ½·2·(θ − b)² + ½·3·F·(θ − θ0)² ends, θ0 = 1, b = (5, 5)."""
    theta = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    begun = torch.ones(2, dtype=torch.float64)
    change = Moved("w", theta, lambda: begun)
    for _ in range(300):
        theta.grad = None
        loss = (theta - 5.0).square().sum() + 3.0 * value(change, weights)
        loss.backward()
        with torch.no_grad():
            theta -= 0.1 * theta.grad
    return theta.detach()


def test_the_minimum_on_a_quadratic() -> None:
    """(2·5 + 3F·1)/(2 + 3F): for F = 1 it is 13/5; for F = (0, 4) it is 5 and 22/14."""
    even = quadratic(lambda change, _: half_squared_distance(change), torch.ones(2))
    assert torch.allclose(even, torch.full((2,), 13 / 5, dtype=torch.float64), atol=1e-9)
    uneven = quadratic(weighted_distance, torch.tensor([0.0, 4.0]))
    assert torch.allclose(uneven, torch.tensor([5.0, 22 / 14], dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("method", EXPLICIT)
def test_nothing_where_training_begins(method: str) -> None:
    update = attached(method)
    changes = update.changes()
    ones = {id(c): torch.ones_like(c.weight) for c in changes}
    for value in (half_squared_distance, lambda c: weighted_distance(c, ones[id(c)])):
        term = Penalty(5.0, changes, value)
        assert term.accumulate(step(update, trees(2))) == 0
        assert gradient(update).abs().max() == 0


def test_ranks_count_a_penalty_once() -> None:
    update = moved(attached())
    term = Penalty(0.7, update.changes(), half_squared_distance)
    alone = term.accumulate(step(update, trees(2)))
    whole = gradient(update)
    halves = [term.accumulate(step(update, trees(2), rank=r, ranks=2)) for r in range(2)]
    assert sum(halves) == pytest.approx(alone)
    assert torch.allclose(gradient(update), whole)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_fisher_squares_the_gradient_of_each_text(method: str) -> None:
    """Against autograd, a text at a time; the square of the batch's gradient is something else."""
    update, given = attached(method), trees(3)
    scorer, changes = scorer_of(update), update.changes()
    flags = [p.requires_grad for p in update.model.parameters()]
    found = fisher(scorer, changes, given)
    assert [p.requires_grad for p in update.model.parameters()] == flags
    assert all(p.grad is None for p in update.model.parameters())
    change, number = next((c, i) for i, c in enumerate(changes) if "q_proj" in c.name)
    change.weight.requires_grad_(True)
    each = []
    for tree in given:
        ids = torch.tensor(tree.ids)[None]
        logp = update.model(input_ids=ids).logits[0].log_softmax(-1)
        scored = torch.tensor(tree.weights[1:]).nonzero()[:, 0]
        total = logp[scored, ids[0, 1:][scored]].sum()
        each.append(torch.autograd.grad(total, change.weight)[0])
    wanted = sum(g.square() for g in each) / (3 * 4)
    assert torch.allclose(found[number], wanted, rtol=1e-7, atol=1e-12)
    together = torch.stack(each).sum(0).square() / (3 * 4)
    assert (found[number] - together).abs().max() > 0.1 * wanted.max()


def test_the_top_directions_of_a_matrix() -> None:
    """Of diag(1, 3, 2) beside a column of zeros: the axes of 3 and 2."""
    weight = torch.tensor([[1.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 2, 0]], dtype=torch.float64)
    left, right = top_directions(weight, 2)
    assert torch.allclose(left.abs(), torch.eye(3, dtype=torch.float64)[:, [1, 2]], atol=1e-9)
    assert torch.allclose(right.abs(), torch.eye(4, dtype=torch.float64)[:, [1, 2]], atol=1e-9)
    u, _, vt = torch.linalg.svd(weight.T)
    left, right = top_directions(weight.T, 2)
    assert torch.allclose((left.T @ u[:, :2]).abs(), torch.eye(2).double(), atol=1e-9)
    assert torch.allclose((right.T @ vt[:2].T).abs(), torch.eye(2).double(), atol=1e-9)


@pytest.mark.parametrize("transposed", [False, True])
def test_what_lies_inside_the_directions(transposed: bool) -> None:
    """ΔW = [[3, 6], [6, 12]] with the first axis on both sides: row 9+36, column 9+36, both 9;
    ½(45 + 45 − 9) = 40.5. It is symmetric, so its transpose has the same."""
    axis = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    assert inside(low_rank(transposed), axis, axis).item() == 40.5
    other = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # row 36+144, column 9+36, both 36
    assert inside(low_rank(transposed), other, axis).item() == pytest.approx(94.5)


def test_it_is_the_part_that_a_projection_takes_away() -> None:
    """‖ΔW‖² − ‖(I − UUᵀ)·ΔW·(I − VVᵀ)‖² for LoRA and for full tuning."""
    for method in ("lora", "full"):
        update = moved(attached(method))
        change = next(c for c in update.changes() if "down_proj" in c.name)
        left, right = top_directions(change.origin(), 3)
        delta = change.delta()
        rest = delta - left @ (left.T @ delta)
        rest = rest - (rest @ right) @ right.T
        wanted = 0.5 * (delta.square().sum() - rest.square().sum())
        assert inside(change, left, right).item() == pytest.approx(wanted.item(), rel=1e-7)


def test_the_methods_here_are_those_that_say_they_can() -> None:
    able = [m for m in SETTINGS if attached(m).capabilities.explicit]
    assert sorted(able) == sorted(EXPLICIT)
