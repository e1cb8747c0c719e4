"""How often a run looks at its benchmarks: costs counted by hand, and the share they may take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig

from myosotis.commands import parts
from myosotis.config import instantiate
from myosotis.training.eval_schedule import ACTING, MOST, SHARE, EvalSchedule
from tests.commands.test_plan import config

ITEMS, TEXTS, FLOOR = 40, 4, 10
STEP = 8 * 5  # examples a step, tokens of each: see test_plan


def paced(cfg: DictConfig, trained: float = 1.0) -> EvalSchedule:
    data = parts.data_of(cfg)
    source = instantiate.model_source(cfg)
    context = parts.context_of(source)
    return parts.eval_schedule_of(
        cfg,
        data,
        parts.benchmarks(cfg, None, source, data.template.tokenizer),
        parts.kl_texts(cfg, data, context),
        total_steps=parts.total_steps(cfg, data.steps_per_epoch),
        trained=trained,
        packs=True,
    )


def settings(folder: Path, *overrides: str) -> DictConfig:
    """Forty questions of one's own, and as many passages of prose."""
    rows = [{"question": f"{k}?", "choices": ["yes", "no"], "answer": k % 2} for k in range(ITEMS)]
    own = folder / "questions.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = [f"retention.suite=[{own},prose]", f"retention.items={ITEMS}"]
    few = [f"retention.kl_items={TEXTS}", f"retention.sequential_floor={FLOOR}"]
    return config(folder, *suite, *few, *overrides)


def tokens(cfg: DictConfig) -> tuple[int, int]:
    """Read for all items, and for the texts of the shift."""
    data = parts.data_of(cfg)
    source = instantiate.model_source(cfg)
    context = parts.context_of(source)
    suite = parts.benchmarks(cfg, None, source, data.template.tokenizer)
    texts = parts.kl_texts(cfg, data, context).trees
    read = [int(tree.read.sum()) for tree in suite.request_trees.trees]
    return sum(read), sum(int(tree.read.sum()) for trees in texts.values() for tree in trees)


def test_a_look_is_a_share_of_the_training(tiny_model: Path) -> None:
    """Full tuning reads a token forward and is worth two more backward; behind a frozen base one,
    and two for what trains. The shift reads its texts once: the base's are kept."""
    cfg = settings(tiny_model, "trainer.max_steps=500")
    suite, texts = tokens(cfg)
    full = paced(cfg)
    near = 0.02  # what questions begin with together is read once a row
    assert full.whole == pytest.approx((suite + texts) / (500 * STEP * 3), rel=near)
    few = suite * FLOOR / ITEMS + texts
    assert full.first == pytest.approx(few / (500 * STEP * 3), rel=near)
    assert paced(cfg, trained=0.01).whole == pytest.approx(full.whole * 3 / 2.03)


@pytest.mark.parametrize("steps", [20, 1000, 2000, 10_000, 100_000])
def test_as_many_looks_as_the_share_pays_for(tiny_model: Path, steps: int) -> None:
    found = paced(settings(tiny_model, f"trainer.max_steps={steps}"))
    looks = len(found.steps)
    assert found.cheap and (not looks or found.expected + found.whole <= SHARE)
    assert looks == MOST or (looks + 1) * found.first + found.whole > SHARE
    assert {20: 0, 100_000: MOST}.get(steps, looks) == looks
    assert found.steps == {round(k * steps / (looks + 1)) for k in range(1, looks + 1)}


def test_what_acts_on_looks_has_some(tiny_model: Path) -> None:
    cfg = settings(tiny_model, "trainer.max_steps=20", "retention.on_breach=stop")
    assert sorted(paced(cfg).steps) == [5, 10, 15]
    assert len(paced(settings(tiny_model, "trainer.max_steps=3", "retention.patience=1")).steps) < 3
    assert ACTING == 3


def test_a_choice_and_budgets_of_tasks_ask_everything(tiny_model: Path) -> None:
    for acting in ("retention.on_breach=rollback", "retention.budget={prose: 0.1}"):
        found = paced(settings(tiny_model, "trainer.max_steps=10000", acting))
        assert not found.cheap and found.first == found.whole


def test_a_cadence_is_obeyed_whatever_it_takes(tiny_model: Path) -> None:
    found = paced(settings(tiny_model, "trainer.max_steps=20", "retention.every=25%"))
    assert sorted(found.steps) == [5, 10, 15] and not found.cheap
    assert found.expected == 3 * found.whole > SHARE
    assert f"at most {found.expected:.2g} times the training" in found.text
    never = paced(settings(tiny_model, "trainer.max_steps=10", "retention.every=null"))
    assert not never.steps and "No benchmark evaluations" in never.text
