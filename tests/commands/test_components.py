"""The check that nothing but the update made a difference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from myosotis.commands import components
from myosotis.commands.components import TunedComponents, attach, check_base, load_components
from myosotis.config import compose
from myosotis.trees.scorer import Scorer
from myosotis.utils.errors import RunError
from tests.world import settings


def tuned(world: Path, tmp_path: Path, *overrides: str) -> TunedComponents:
    """Ten held-out examples, several of which share a row."""
    changes = {"task.items": 10, "retention.suite": "[]", "retention.kl_items": 0}
    changes |= {"data.row_tokens": 128, "trainer.rows_at_once": 4}
    cfg = compose([*settings(world, tmp_path, **changes), *overrides])
    parts = load_components(cfg, print)
    assert len(parts.evaluator.trees) > 4
    return attach(parts, cfg)


@pytest.mark.parametrize(
    ("method", "precision"),
    [("lora", "32-true"), ("lora", "bf16-true"), ("full", "bf16-mixed"), ("prefix", "bf16-true")],
)
def test_off_it_is_the_base_to_the_last_bit(
    method: str, precision: str, world: Path, tmp_path: Path
) -> None:
    """In bf16, too, where the same examples score otherwise beside others; and whatever the memory
    that ran out meanwhile has left of the rows at once."""
    parts = tuned(world, tmp_path, f"method={method}", f"trainer.precision={precision}")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in parts.update.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    parts.scorer.evaluated_at_once = 1
    assert check_base(parts) == 0.0


def test_a_small_change_of_the_base_is_found_in_bf16(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of less than the .02 nats that bf16 is apart from itself in other rows."""
    parts = tuned(world, tmp_path, "method=lora", "trainer.precision=bf16-true")
    monkeypatch.setattr(parts.update, "fingerprint_base", lambda: "")  # which finds it, too
    norm = parts.base.model.get_submodule("model").norm
    with torch.no_grad():
        norm.weight[:4] *= 1.02
    with parts.update.disabled():
        off = components.first_scores(parts, parts.scorer)
    assert 1e-6 < abs(off - parts.untouched).max() < 0.02
    with pytest.raises(RunError, match="scores differently from the base"):
        check_base(parts)


def test_another_model_is_asked_as_many_rows_as_had_room(world: Path, tmp_path: Path) -> None:
    parts = tuned(world, tmp_path)
    parts.scorer.evaluated_at_once = 2
    other: Scorer = parts.scorer.with_model(parts.base.model, parts.scorer.backend)
    assert (other.rows_at_once, other.evaluated_at_once) == (4, 2)
