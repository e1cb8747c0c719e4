"""Scripts of `bench/` that use the platform's parts by hand, on a tiny model: they still fit."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from myosotis.models.load import ModelSource, load_base_model
from myosotis.training.rollout import Asked, Rollouts
from myosotis.trees.tree import Tree
from tests.world import build

BENCH = Path(__file__).parents[1] / "bench"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with a chat template."""
    folder = build(tmp_path_factory.mktemp("bench")) / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def test_our_side_of_grpo_speed_answers_each_prompt(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of two prompts, each with the example that it stands for."""
    monkeypatch.syspath_prepend(str(BENCH))
    speed: Any = importlib.import_module("grpo_speed")
    job = {
        "side": "ours",
        "clock": "cpu",
        "update": "lora",
        "lr": 1e-3,
        "seed": 0,
        "row_tokens": 256,
        "batch_size": 2,
        "steps": 2,
        "group_size": 4,
        "max_new_tokens": 3,
    }
    asked: list[str] = []
    of = Rollouts._asked

    def told(self: Rollouts, tree: Tree) -> Asked:
        one = of(self, tree)
        asked.append(one.example.prompt[0].content)
        return one

    monkeypatch.setattr(Rollouts, "_asked", told)
    base = load_base_model(ModelSource("local", None, str(model)))
    found = speed._ours(base, job)
    assert asked == speed.prompts(job) and len(set(asked)) == 4
    assert found["seconds"] > 0 and 1 <= found["length"] <= 3


def test_our_side_of_check_trl_learns_from_what_was_sampled(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers, rewards and log-probs that both sides are given; the same advantages make a
    gradient in every matrix that was moved."""
    monkeypatch.syspath_prepend(str(BENCH))
    policies: Any = importlib.import_module("policies")
    job = {
        "model": {"kind": "local", "id": None, "path": str(model)},
        "update": "lora",
        "dtype": "float32",
        "seed": 0,
        "row_tokens": 256,
        "data": str(tmp_path / "sampled.json"),
        "gradients": str(tmp_path / "ours.pt"),
    }
    policies.work({**job, "side": "sampled"})
    assert 0 < abs(policies.work({**job, "side": "ours", "loss": "rloo"})["loss"]) < 1
    gradients = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert gradients and all(one.any() for one in gradients.values())
