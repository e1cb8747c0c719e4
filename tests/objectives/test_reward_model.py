"""Reward models: the loss by hand, a value head beside updates, and whole runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from myosotis import updates
from myosotis.objectives.reward_model import Reward, reward_loss
from myosotis.records.schema import RunRecord
from myosotis.training.optim import parameter_groups
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path as Tokens
from myosotis.trees.tree import Target, Tree
from myosotis.utils.errors import ConfigError
from tests.tiny import tiny
from tests.world import call, settings

DENSE, PADDED = PackingMode("dense", "test"), PackingMode("padded", "test", fast_head=False)


def pairs() -> list[Tree]:
    """Three prompts with two answers each; after the last token a number is asked for."""
    answers = [([5, 6], [7]), ([8], [9, 10, 11]), ([12, 13], [12, 14])]
    prompts = [[3, 4, 20], [3, 4, 21], [3, 4, 22, 23]]
    return [
        Tree.of(Tokens([*prompt, *a], [0.0] * (len(prompt) + len(a)), Target.VALUE) for a in both)
        for prompt, both in zip(prompts, answers, strict=True)
    ]


def test_the_loss_by_hand() -> None:
    """−log σ(1 − 0.5) = 0.4741; with a margin of 0.5: ln 2; centred: + 0.01 · 2.5²."""
    chosen, rejected = torch.tensor([1.5]), torch.tensor([1.0])
    assert reward_loss(chosen, rejected, 0.0, 0.0).item() == pytest.approx(0.474077, abs=1e-6)
    assert reward_loss(chosen, rejected, 0.5, 0.0).item() == pytest.approx(math.log(2), abs=1e-6)
    centred = reward_loss(chosen, rejected, 0.0, 0.01).item()
    assert centred == pytest.approx(0.474077 + 0.0625, abs=1e-6)


def valued(dtype: torch.dtype = torch.float32, **inner: Any) -> updates.Update:
    update = updates.build({"name": "lora", "r": 4, **inner, "value_head": 1.0})
    update.attach(tiny("llama", dtype))
    return update


def test_every_reward_is_zero_at_the_start_and_with_the_update_off() -> None:
    update = valued()
    scorer = Scorer(update.model, DENSE)
    assert all((s.logp == 0).all() for s in scorer.evaluate(pairs()))
    torch.nn.init.normal_(update.head.weight)  # type: ignore[attr-defined]
    assert all((s.logp != 0).all() for s in scorer.evaluate(pairs()))
    with update.disabled():
        assert all((s.logp == 0).all() for s in scorer.evaluate(pairs()))


def test_the_reward_is_read_after_the_last_token() -> None:
    """Against the model itself: the head on the hidden state of each answer's last token."""
    update = valued(torch.float64)
    torch.nn.init.normal_(update.head.weight)  # type: ignore[attr-defined]
    for backend in (DENSE, PADDED):
        found = Scorer(update.model, backend, row_tokens=64).evaluate(pairs())
        for tree, scores in zip(pairs(), found, strict=True):
            for path, value in zip(tree.paths(), scores.logp, strict=True):
                ids = torch.tensor([path.ids])
                hidden = update.model.model(input_ids=ids).last_hidden_state[0, -1]
                wanted = (hidden @ update.head.weight[0]).item()  # type: ignore[attr-defined]
                assert value == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    "inner", [{}, {"name": "full", "r": None}, {"name": "adapter", "r": None}], ids=str
)
def test_update_and_head_train_save_and_load(inner: dict[str, Any], tmp_path: Path) -> None:
    words = {k: v for k, v in {"name": "lora", "r": 4, **inner}.items() if v is not None}
    update = updates.build({**words, "value_head": 1.0})
    update.attach(tiny("llama"))
    optimizer = torch.optim.AdamW([p for _, p in update.parameters()], lr=1e-2)
    update.verify(optimizer)
    scorer, objective = Scorer(update.model, DENSE), Reward()
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        (batch,) = scorer.batches(pairs())
        loss = objective.loss(scorer.score(batch)) / 3
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6) and losses[-1] < 0.5 * losses[0]
    update.fingerprint_base()
    update.save(tmp_path)
    again = updates.from_folder(tmp_path)
    again.attach(tiny("llama"))
    again.load(tmp_path)
    wanted = scorer.evaluate(pairs())
    found = Scorer(again.model, DENSE).evaluate(pairs())
    for a, b in zip(wanted, found, strict=True):
        assert abs(a.logp - b.logp).max() <= 1e-6


def test_the_head_has_a_learning_rate_of_its_own() -> None:
    update = updates.build({"name": "lora", "r": 4, "value_head": 5.0})
    update.attach(tiny("llama"))
    groups = parameter_groups(update.parameters(), 0.0, 1e-3, update.lr_multiplier)
    rates = {id(p): g.get("lr", 1e-3) for g in groups for p in g["params"]}
    assert rates.pop(id(update.head.weight)) == pytest.approx(5e-3)  # type: ignore[attr-defined]
    assert set(rates.values()) == {1e-3}


@pytest.mark.parametrize("name", ["probe", "prompt", "prefix"])
def test_what_cannot_carry_a_value_head_is_refused_by_name(name: str) -> None:
    words = {"probe": {}, "prompt": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4},
             "prefix": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}}[name]  # fmt: skip
    with pytest.raises(ConfigError, match=f"update={name} cannot carry a value head"):
        updates.build({"name": name, **words, "value_head": 1.0})


@pytest.mark.slow
def test_a_reward_model_through_the_command_line(world: Path, tmp_path: Path) -> None:
    """Chosen answers end in 'good': the model learns it, and resumes with its head."""
    lines = [
        {"prompt": f"question {n}", "chosen": f"{n * 7} good", "rejected": f"{n * 7} poor"}
        for n in range(60)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "run"
    words = settings(world, out, **{"data": "pairs", "data.path": data, "data.row_tokens": 128})
    words = [w for w in words if not w.startswith("task.")]
    printed, _ = call(["train", "--json", "method=reward", *words], tmp_path)
    result = json.loads(printed)
    assert result["status"] == "FINISHED"
    record = RunRecord.load(out)
    assert record.task is not None and record.task.metric == "accuracy"
    assert record.task.base == pytest.approx(0.5) and record.task.tuned == 1.0
    assert record.update.off_difference == 0
    first = next(p.value for p in record.curves if p.name == "train/loss")
    assert first == pytest.approx(math.log(2), abs=1e-6)
    assert (out / "update" / "value_head.safetensors").exists()
    assert [row.task for row in record.retention] == ["prose"]
    page = (out / "scorecard.html").read_text()
    assert "accuracy" in page
    _, err = call(["train", "method=reward", "task.metric=loglik", *words], tmp_path, 2)
    assert "task.metric=loglik" in err
    _, err = call(["train", "method=reward", "update=prefix", *words], tmp_path, 2)
    assert "cannot carry a value head" in err
    _, err = call(["train", "method=reward", "retention.dial=[0.5]", *words], tmp_path, 2)
    assert "cannot be scaled to a strength: a value head is no part of" in err
    _, err = call(["dial", str(out)], tmp_path, 2)
    assert "a value head is no part of" in err
    _, err = call(["export", str(out), "--to", "merged"], tmp_path, 2)
    assert "a value head is no part of" in " ".join(err.split()), err
