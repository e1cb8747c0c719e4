"""How the weights moved: lengths, ranks and directions by hand, and of updates as they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from myosotis import updates
from myosotis.controls.orthogonal import inside, top_directions
from myosotis.evaluation.weights import (
    DIRECTIONS,
    affordable,
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
from tests.updates.test_adapter_file import OPTIONS, loaded, written
from tests.updates.test_target_modules import mixture


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
    assert [spread(n, 3) for n in (1, 2, 3, 30)] == [{0}, {0, 1}, {0, 1, 2}, {0, 14, 29}]
    assert spread(30, 5) == {0, 7, 14, 22, 29}


def test_as_many_layers_are_decomposed_as_are_cheap() -> None:
    """Matrices of 2000 × 1000: 2e9 a matrix. Of two a layer 1.6e10 / 4e9 = 4 layers; of one 8; of
    ten (which would be .8) the fewest, and of a thousand small ones no more than the most. One of
    some fused experts counts once, a vector not at all."""
    large, small = (2000, 1000), (20, 10)
    assert affordable([large] * 2 * 30, 30) == 4
    assert affordable([(16, *large)] * 2 * 30 + [(1000,)] * 30, 30) == 4
    assert affordable([large] * 30, 30) == 8
    assert affordable([large] * 10 * 30, 30) == 3
    assert affordable([small] * 30, 30) == 8
    assert affordable([], 30) == 3


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


WITHOUT_A_FORMULA: dict[str, dict[str, object]] = {
    "oft": {"peft_type": "OFT", "oft_block_size": 4, "r": 0, "target_modules": "mlp"},
    "osf": {"peft_type": "OSF", "target_modules": ["q_proj", "down_proj"]},
    "loha": {"peft_type": "LOHA", "r": 2, "target_modules": ["q_proj"]},
    "lora": {"r": 2, "use_dora": True, "target_modules": "all-linear"},
}


def merging_changed(update: Update, base: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What differs between the merged model and the base, biases aside."""
    before = dict(base.named_parameters(remove_duplicate=False))
    after = dict(update.merged().named_parameters(remove_duplicate=False))
    return {
        name: (tensor - before[name]).detach()
        for name, tensor in after.items()
        if name in before and not torch.equal(tensor, before[name]) and not name.endswith("bias")
    }


@pytest.mark.parametrize("name", WITHOUT_A_FORMULA)
def test_what_has_no_formula_is_what_merging_makes_less_the_base(name: str) -> None:
    update = moved({"name": name, **WITHOUT_A_FORMULA[name]})
    wanted = merging_changed(update, tiny("llama"))
    assert not update.capabilities.explicit and wanted
    assert {change.name for change in update.differences()} == wanted.keys()
    for change in update.differences():
        torch.testing.assert_close(change.delta(), wanted[change.name], rtol=1e-4, atol=1e-5)
    for one in weight_changes(update):
        base = dict(tiny("llama").named_parameters())[one.name]
        assert one.relative_norm == pytest.approx(
            float(wanted[one.name].norm() / base.norm()), 1e-4
        )
        assert one.rank and one.spectrum[0] == 1 and one.top_share is not None
        assert one.intruders is not None


@pytest.mark.parametrize("targets", ["attention", None])
def test_fused_experts_are_measured_by_the_one_that_moved_most(targets: str | None) -> None:
    """Beside LoRA on attention, whose rank is exact, too. Of an expert's s·B·A the rank is r."""
    update = updates.build(
        {"name": "lora", "r": 2, "target_modules": targets, "target_parameters": "experts"}
    )
    torch.manual_seed(0)
    update.attach(mixture())
    with torch.no_grad():
        for _, parameter in update.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    wanted = merging_changed(update, mixture())
    found = {one.name: one for one in weight_changes(update)}
    assert found.keys() == wanted.keys()
    experts = [name for name, delta in wanted.items() if delta.dim() == 3]
    assert {name.rpartition(".")[2] for name in experts} == {"gate_up_proj", "down_proj"}
    for name, delta in wanted.items():
        one = found[name]
        base = dict(mixture().named_parameters())[name]
        assert one.relative_norm == pytest.approx(float(delta.norm() / base.norm()), rel=1e-4)
        most = delta[delta.flatten(1).norm(dim=1).argmax()] if name in experts else delta
        first, second, *_ = torch.linalg.svdvals(most.double()).tolist()
        assert one.rank == 2 and one.spectrum[1] == pytest.approx(second / first, abs=1e-3)


ELSEWHERE = ["plain", "rank_pattern", "modules_to_save", "norms saved", "tokens", "embeddings"]
ELSEWHERE += ["the head", "dora", "pissa", "parameters"]


@pytest.mark.parametrize("option", ELSEWHERE)
def test_an_adapter_from_elsewhere_is_measured(option: str, tmp_path: Path) -> None:
    """With modules saved as a whole, tokens, a start that rewrote the base: as merging has it."""
    update = loaded(written(tmp_path / "adapter", "llama", **OPTIONS[option]), "llama")
    wanted = merging_changed(update, tiny("llama"))
    found = {change.name: change.delta().detach() for change in update.differences()}
    for name, delta in found.items():
        torch.testing.assert_close(delta, wanted[name], rtol=1e-4, atol=1e-5)
    assert found.keys() == wanted.keys()
    ranked = [one for one in weight_changes(update) if one.kind == "q_proj" and one.rank]
    if option in ("plain", "modules_to_save", "tokens"):
        assert [one.rank for one in ranked] == [4, 4]


def test_what_has_no_difference_of_weights_has_no_entry() -> None:
    prefix = {"name": "prefix", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5}
    assert weight_changes(moved(prefix)) == []
    same = updates.build({"name": "lora", "r": 3})
    same.attach(tiny("llama"))
    assert {(one.relative_norm, one.rank) for one in weight_changes(same)} == {(0.0, None)}
