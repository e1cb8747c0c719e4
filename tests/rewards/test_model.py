"""A reward model as a reward: its scale, and the numbers of its head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from myosotis import updates
from myosotis.data.label_template import RewardRenderer
from myosotis.data.sft import Example, Message
from myosotis.rewards.model import FILE, RewardModel, RewardRun, Scale
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.utils.errors import AssetError, ConfigError
from tests.data.conftest import byte_level
from tests.world import build


def test_the_scale_by_hand() -> None:
    """1, 3 and 5 have a mean of 3 and a standard deviation of 2 (n − 1): they become −1, 0, 1."""
    scale = Scale.of(np.array([1.0, 3.0, 5.0]))
    assert (scale.shift, scale.scale, scale.answers) == (3.0, 2.0, 3)
    assert scale(np.array([1.0, 3.0, 5.0])).tolist() == [-1, 0, 1]


def test_numbers_that_are_all_alike_keep_their_unit() -> None:
    assert Scale.of(np.array([2.0, 2.0])) == Scale(2.0, 1.0, 2)
    assert Scale.of(np.array([2.0])) == Scale(2.0, 1.0, 1)


def test_a_scale_is_read_back(tmp_path: Path) -> None:
    Scale(0.5, 2.0, 64).save(tmp_path)
    assert Scale.load(tmp_path) == Scale(0.5, 2.0, 64)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"shift": 0, "scale": 0, "answers": 1}',
        '{"shift": "a", "scale": 1, "answers": 1}',
    ],
)
def test_a_scale_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(AssetError, match="scale"):
        Scale.load(tmp_path)


def test_a_run_without_a_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="method=reward"):
        Scale.load(tmp_path)


def test_a_reward_model_needs_a_run() -> None:
    with pytest.raises(ConfigError, match=r"reward\.model\.run"):
        RewardRun()


def test_the_numbers_are_those_of_the_head_after_the_last_token(tmp_path: Path) -> None:
    """By hand: the hidden state of the last token of prompt and answer, times the head's weights;
    then less the shift, over the scale. An answer too long is cut, and has the number of its start.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(build(tmp_path) / "model").eval()
    update = updates.build({"name": "lora", "r": 2, "value_head": 1.0})
    update.attach(model)
    torch.manual_seed(0)
    for _, parameter in update.parameters():
        parameter.data.normal_(0, 0.3)
    scorer = Scorer(update.model, PackingMode("dense", "test"))
    renderer = RewardRenderer(byte_level(), "none")
    examples = [Example((Message("user", p), Message("assistant", "-")), p) for p in ("ab", "c")]
    texts = ["one", "another"]
    found = RewardModel(scorer, renderer, Scale(0.5, 2.0, 2), 64)(examples, texts)
    with torch.no_grad():
        for example, text, number in zip(examples, texts, found, strict=True):
            ids = torch.tensor([list(renderer.render(example.answered(text)).ids)])
            hidden = update.model.base_model(input_ids=ids).last_hidden_state[0, -1]
            raw = (hidden @ update.head.weight[0]).item()  # type: ignore[attr-defined]
            assert number == pytest.approx((raw - 0.5) / 2, abs=1e-5)
    short = RewardModel(scorer, renderer, Scale(0.0, 1.0, 2), 6)(examples[:1], ["onion"])
    cut = RewardModel(scorer, renderer, Scale(0.0, 1.0, 2), 6)(examples[:1], ["onions"])
    assert short == pytest.approx(cut)
