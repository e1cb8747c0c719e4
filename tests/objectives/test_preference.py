"""Preference losses against published vectors, and pairs on the one road."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from myosotis import updates
from myosotis.data.preference import pair, read_pairs
from myosotis.data.records import RecordError
from myosotis.data.sft import Example
from myosotis.objectives import preference as p
from myosotis.objectives import with_reference
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import BranchLogProbs, Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError, DataError
from tests.tiny import tiny
from tests.world import call, settings

# docs/science.md, section 2.
PI_CHOSEN, PI_REJECTED = [-0.5, -10.0, -1.0], [-0.1, -30.0, -21.0]
REF_CHOSEN, REF_REJECTED = [-0.5, -10.1, -0.1], [-0.1, -20.1, -0.1]


def vectors(size: float = 1.0) -> p.Pairs:
    columns = (PI_CHOSEN, PI_REJECTED, REF_CHOSEN, REF_REJECTED)
    return p.Pairs(*map(torch.tensor, columns), torch.full((3,), size), torch.full((3,), size))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (p.dpo_loss(vectors(), 0.1), [0.6931, 0.3133, 0.1269]),
        (p.dpo_loss(vectors(), 0.1, 0.1), [0.6931, 0.4133, 0.3269]),
        (p.hinge_loss(vectors(), 0.1), [1.0, 0.0, 0.0]),
        (p.simpo_loss(vectors(), 2.0, 0.5), [1.5410, 0.0, 0.0]),
    ],
)
def test_published_vectors(loss: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(loss, torch.tensor(expected), rtol=0, atol=1e-4)


def test_orpo_term_of_two_probabilities() -> None:
    """Averages .4 and .2: odds 2/3 and 1/4, −log σ(log(8/3)) = log(1 + 3/8) = .3185."""
    term = p.orpo_term(torch.tensor([math.log(0.4)]), torch.tensor([math.log(0.2)]))
    assert term.item() == pytest.approx(0.3185, abs=1e-4)


def test_ipo_by_hand() -> None:
    """Lengths 2 and 4, gains 1 and −2: averages .5 and −.5, (1 − 1/(2·.1))² = 16."""
    t = torch.tensor
    pairs = p.Pairs(t([-1.0]), t([-6.0]), t([-2.0]), t([-4.0]), t([2.0]), t([4.0]))
    assert p.ipo_loss(pairs, 0.1).item() == pytest.approx(16.0)


def test_dpop_holds_the_chosen_answer_up() -> None:
    """h = 2; the chosen answer fell by 1, so λ=5 takes 5 off: −log σ(.1·(2 − 5)) = .8544."""
    t = torch.tensor
    pairs = p.Pairs(t([-3.0]), t([-9.0]), t([-2.0]), t([-6.0]), t([1.0]), t([1.0]))
    assert pairs.gain_P.item() == 2
    assert p.dpop_loss(pairs, 0.1, 5.0).item() == pytest.approx(0.8544, abs=1e-4)
    raised = pairs._replace(chosen_P=t([-1.0]))
    torch.testing.assert_close(p.dpop_loss(raised, 0.1, 5.0), p.dpo_loss(raised, 0.1))


def test_sft_term() -> None:
    """ln 2 and half of the chosen answer's 6 nats over 3 tokens: .6931 + 1."""
    branches = BranchLogProbs(
        torch.tensor([-6.0, -5.0]), torch.tensor([3.0, 3.0]), torch.tensor([True, True]), None,
        torch.tensor([0, 0]), torch.tensor([0, 1]), reference_B=torch.tensor([-6.0, -5.0]),
    )  # fmt: skip
    assert p.DPO(sft_weight=0.5).loss(branches).item() == pytest.approx(math.log(2) + 1)


def test_branches_find_their_partners_in_any_order() -> None:
    branches = BranchLogProbs(
        torch.tensor([-1.0, -4.0, -2.0, -3.0]), torch.ones(4), torch.ones(4, dtype=torch.bool),
        None, torch.tensor([1, 0, 0, 1]), torch.tensor([0, 1, 0, 1]),
    )  # fmt: skip
    pairs = p.Pairs.of(branches)
    assert pairs.chosen_P.tolist() == [-2.0, -1.0]
    assert pairs.rejected_P.tolist() == [-4.0, -3.0]


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"beta": -1.0}, {"label_smoothing": 0.5}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        p.DPO(**wrong)


TREES = [
    Tree.fork(list(range(3, 3 + n)), [[40 + n, 50, 51, 2], [40 + n, 60 + n, 2]]) for n in (4, 6, 9)
]


def test_at_the_start_the_loss_is_ln_2_and_packing_changes_no_gradient() -> None:
    """float64: packed pairs against separate padded rows, ≤1e-6 relative."""
    update = updates.build({"name": "lora", "r": 4})
    update.attach(tiny("llama", torch.float64))
    dense, padded = (
        Scorer(update.model, PackingMode(name, "test", fast_head=name == "dense"), row_tokens=24)
        for name in ("dense", "padded")
    )
    trees = [
        replace(t, reference=s.logp) for t, s in zip(TREES, dense.evaluate(TREES), strict=True)
    ]
    objective = p.DPO(beta=0.3)
    losses, gradients = [], []
    for scorer in (dense, padded):
        update.model.zero_grad()
        total = 0.0
        for batch in scorer.batches(trees):
            branches = with_reference(scorer.score(batch), batch, trees, objective)
            loss = objective.loss(branches) / len(trees)
            loss.backward()
            total += loss.item()
        losses.append(total)
        gradients.append(torch.cat([q.grad.flatten() for _, q in update.parameters()]))
    assert losses == pytest.approx([math.log(2)] * 2, abs=1e-6)
    apart = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert apart <= 1e-6


# Data.


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"instruction": "q", "input": "", "chosen": "a", "rejected": "b", "output": "a"},
        {"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"},
        {"conversations": [{"from": "human", "value": "q"}],
         "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
        {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
         "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]},
        {"input": {"messages": [{"role": "user", "content": "q"}]},
         "preferred_output": [{"role": "assistant", "content": "a"}],
         "non_preferred_output": [{"role": "assistant", "content": "b"}]},
    ],
)  # fmt: skip
def test_forms_of_a_pair(record: dict[str, Any]) -> None:
    example, unread = pair(record, "f:1")
    assert [m.content for m in example.messages] == ["q", "a"]
    assert example.rejected == "b"
    assert unread <= {"output"}


def test_prompts_that_differ_are_a_fault() -> None:
    def turns(question: str, answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    with pytest.raises(RecordError, match="different prompts"):
        pair({"chosen": turns("q", "a"), "rejected": turns("p", "b")}, "f:1")


def test_pairs_that_say_nothing_are_counted_and_faults_have_lines(tmp_path: Path) -> None:
    rows = [("q", "a", "b"), ("q", "same", "same"), ("q", "a", " "), ("r", "c", "d")]
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"prompt": q, "chosen": a, "rejected": b}) for q, a, b in rows]
    path.write_text("\n".join(lines))
    found = read_pairs(path)
    assert len(found.examples) == 2
    assert found.identical == ["pairs.jsonl:2"]
    assert found.empty_answers == ["pairs.jsonl:3"]
    path.write_text("\n".join([*lines, json.dumps({"prompt": "q", "chosen": "a"})]))
    with pytest.raises(DataError, match=r"pairs.jsonl:5: no field 'rejected'"):
        read_pairs(path)


def test_the_nearest_function_gives_the_wrong_answer() -> None:
    from myosotis.data.sft import Message
    from myosotis.data.sources import _with_neighbours

    texts = ["def add one two", "def add one three", "class red green", "class red blue"]
    examples = [
        Example((Message("user", text), Message("assistant", f"says {i}")), str(i))
        for i, text in enumerate(texts)
    ]
    found = _with_neighbours(examples, rivals=False)
    assert [e.rejected for e in found] == ["says 1", "says 0", "says 3", "says 2"]
    assert {e.rivals for e in found} == {()}
    found = _with_neighbours(examples, rivals=True)
    assert [e.rivals[0] for e in found] == ["says 1", "says 0", "says 3", "says 2"]
    assert all(len(e.rivals) == 3 and e.completion not in e.rivals for e in found)


@pytest.mark.slow
def test_dpo_through_the_command_line(world: Path, tmp_path: Path) -> None:
    """The reference is computed once and cached; held-out pairs are ranked better afterwards."""
    lines = [
        {"prompt": f"the answer of {n}", "chosen": f"is {n * 7}", "rejected": f"not {n}"}
        for n in range(48)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    changes = {
        "method": "dpo", "data": "pairs", "data.path": tmp_path / "pairs.jsonl",
        "trainer.max_steps": 12, "task.generate": 0, "optimizer.lr": 0.01,
    }  # fmt: skip
    words = settings(world, tmp_path / "runs" / "a", **changes)
    words = ["method=dpo", *(w for w in words if w != "method=dpo"), "tracking=none"]
    call(["train", *words], tmp_path)
    record = json.loads((tmp_path / "runs" / "a" / "record.json").read_text())
    assert record["task"]["metric"] == "accuracy"
    assert record["task"]["tuned"] > record["task"]["base"]
    extra = {row["metric"]: row for row in record["task"]["extra"]}
    assert list(extra) == ["margin", "loglik", "separation", "reward_accuracy"]
    assert extra["reward_accuracy"]["tuned"] > extra["reward_accuracy"]["base"] == 0.5
    assert record["baselines"][0]["name"].startswith("a rule that picks the")
    curves = {}
    for point in record["curves"]:
        curves.setdefault(point["name"], []).append(point["value"])
    assert curves["train/loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert curves["val/loss"][-1] < curves["val/loss"][0]
    assert curves["train/reward_margin"][-1] > 0
    kept = list((tmp_path / "cache" / "references").glob("*.npy"))
    assert len(kept) == 2
    assert all(np.isfinite(np.load(path)).all() for path in kept)
    _, err = call(["train", *settings(world, tmp_path / "x", objective="dpo")], tmp_path, code=2)
    assert "learns from pairs" in err
