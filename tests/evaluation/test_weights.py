"""How the weights moved: lengths, ranks and directions by hand, and of updates as they are."""

from __future__ import annotations

import math

import pytest
import torch

from myosotis import updates
from myosotis.controls.orthogonal import inside, top_directions
from myosotis.evaluation.weights import (
    DIRECTIONS,
    effective_rank,
    intruders,
    rank,
    rank_90,
    spread,
    weight_changes,
)
from myosotis.updates.base import Update
from myosotis.updates.change import LowRank, Moved
from tests.tiny import tiny


def values(*given: float) -> torch.Tensor:
    return torch.tensor(given, dtype=torch.float64)


def test_ranks_by_hand() -> None:
    """3 equal singular values: entropy ln 3, and two hold but 2/3. Of 3 and 1, 9 of 10 is held by
    the first. Shares 3/4 and 1/4: exp(.75 ln 4/3 + .25 ln 4) = 1.7548."""
    assert effective_rank(values(2, 2, 2)) == pytest.approx(3)
    assert effective_rank(values(5, 0, 0)) == pytest.approx(1)
    assert effective_rank(values(3, 1)) == pytest.approx(1.7548, abs=1e-4)
    assert [rank_90(values(2, 2, 2)), rank_90(values(3, 1)), rank_90(values(2, 1))] == [3, 1, 2]
    assert rank(values(1, 1e-3, 1e-12), 100) == 2


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert [spread(n) for n in (1, 2, 3, 30)] == [{0}, {0, 1}, {0, 1, 2}, {0, 14, 29}]


def test_an_intruder_is_like_none_of_the_bases_directions() -> None:
    """A large change along (1, …, 1)/3 in nine dimensions has a cosine of 1/3 with each of the
    base's axes; in four dimensions (cosine 1/2) it is none, nor is one along an axis."""
    for size, expected in ((9, 1), (4, 0)):
        base = torch.diag(torch.arange(size, 0, -1).double())
        even = torch.full((size, 1), 1 / math.sqrt(size), dtype=torch.float64)
        before, _ = top_directions(base, size)
        assert intruders(before, base + 100 * even @ even.T) == expected
    base = torch.diag(torch.arange(9, 0, -1).double())
    axis = torch.zeros(9, 9, dtype=torch.float64)
    axis[3, 3] = 100.0
    assert intruders(top_directions(base, 9)[0], base + axis) == 0


@pytest.mark.parametrize(("place", "share"), [(0, 1.0), (DIRECTIONS, 0.0)])
def test_the_share_inside_the_bases_first_directions(place: int, share: float) -> None:
    base = torch.diag(torch.arange(40, 0, -1).double())
    moved = base.clone()
    moved[place, place] += 1.0
    change = Moved("w", torch.nn.Parameter(moved), lambda: base)
    left, right = top_directions(base, DIRECTIONS)
    assert 2 * float(inside(change, left, right).detach()) == pytest.approx(share, abs=1e-9)


def test_low_rank_values_are_those_of_the_product() -> None:
    torch.manual_seed(0)
    a, b = torch.nn.Parameter(torch.randn(3, 7)), torch.nn.Parameter(torch.randn(5, 3))
    change = LowRank("w", torch.nn.Parameter(torch.zeros(5, 7)), a, b, 2.0)
    whole = torch.linalg.svdvals((2.0 * b @ a).double())[:3]
    torch.testing.assert_close(change.singular_values(), whole, rtol=1e-6, atol=0)


def moved(settings: dict[str, object]) -> Update:
    """An update of a tiny model, its numbers changed at random."""
    torch.manual_seed(0)
    update = updates.build(settings)
    update.attach(tiny("llama"))
    with torch.no_grad():
        for _, parameter in update.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return update


def test_loras_rank_is_r_and_its_length_that_of_the_product() -> None:
    update = moved({"name": "lora", "r": 3, "lora_alpha": 6, "target_modules": "attention"})
    found = weight_changes(update)
    assert [one.layer for one in found] == [0] * 4 + [1] * 4
    assert [one.kind for one in found[:4]] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    for one, change in zip(found, update.changes(), strict=True):
        delta, base = change.delta().detach().double(), change.origin().double()
        assert one.rank == 3 and len(one.spectrum) == 3 and one.spectrum[0] == 1
        assert one.relative_norm == pytest.approx(float(delta.norm() / base.norm()), rel=1e-5)
        assert one.effective_rank is not None and 1 <= one.effective_rank <= 3
        assert one.top_share is not None and 0 <= one.top_share <= 1
        assert one.intruders is not None and 0 <= one.intruders <= 10


def test_full_tuning_moves_at_full_rank() -> None:
    """Noise in every number: all 32 directions, and 90 % of its length in more than a fourth."""
    found = weight_changes(moved({"name": "full"}))
    matrices = [one for one in found if one.rank is not None]
    assert len(matrices) == 14
    assert {one.kind for one in found} >= {"embed_tokens", "norm", "q_proj", "input_layernorm"}
    q = next(one for one in matrices if one.kind == "q_proj")
    assert q.rank == 32 and q.rank_90 is not None and q.rank_90 > 8


def test_what_has_no_difference_of_weights_has_no_entry() -> None:
    prefix = {"name": "prefix", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5}
    assert weight_changes(moved(prefix)) == []
    same = updates.build({"name": "lora", "r": 3})
    same.attach(tiny("llama"))
    assert {(one.relative_norm, one.rank) for one in weight_changes(same)} == {(0.0, None)}
