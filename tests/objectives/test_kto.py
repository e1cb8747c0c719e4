"""Graded answers and KTO; and the reference, cached or live."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from myosotis import updates
from myosotis.data.chat_template import Rendered
from myosotis.data.convert import viewed
from myosotis.data.example import Dataset
from myosotis.data.sft import Example, Message
from myosotis.data.tokenize import encode
from myosotis.data.unpaired import read_grades
from myosotis.objectives import Objective, gained, others, with_reference
from myosotis.objectives.kto import KTO, kto_loss
from myosotis.objectives.preference import DPO
from myosotis.objectives.reference_logprobs import live
from myosotis.training.module import FineTuning
from myosotis.training.optim import Schedule
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError, DataError
from tests.tiny import tiny
from tests.world import call, settings

DENSE = PackingMode("dense", "test")


def test_kto_by_hand() -> None:
    """z = .5, β = .1. To give, gain 1: 1 − σ(.05) = .4875. Not to give, gain −2: 1 − σ(.25)."""
    found = kto_loss(torch.tensor([1.0, -2.0]), torch.tensor([1.0, -1.0]), 0.5, 0.1)
    torch.testing.assert_close(found, torch.tensor([0.4875, 0.4378]), rtol=0, atol=1e-4)


def test_kto_drift_below_zero_counts_as_zero() -> None:
    found = kto_loss(torch.tensor([0.0]), torch.tensor([1.0]), -3.0, 0.1)
    assert found.item() == pytest.approx(0.5)


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"reference": "often"}])
def test_kto_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        KTO(**wrong)


# The step.


def graded_trees() -> list[Tree]:
    """Four prompts with an answer each, graded in turn, and the next one's answer beside it."""
    answers = [[40 + k, 50, 2] + [60 + k] * k for k in range(4)]
    trees = []
    for k in range(4):
        prompt = list(range(3, 8 + k))
        own, other = (Tree.fork(prompt, [answers[i % 4]]) for i in (k, k + 1))
        trees.append(Tree(*(getattr(own, n) for n in FIELDS), grade=(-1) ** k, other=other))
    return trees


FIELDS = ("ids", "weights", "parent", "end", "depth", "leaves")


def moved_lora() -> updates.Update:
    """A LoRA that is not zero, so that the base and the tuned model differ."""
    torch.manual_seed(1)
    update = updates.build({"name": "lora", "r": 4})
    update.attach(tiny("llama", torch.float64))
    with torch.no_grad():
        for _, parameter in update.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return update


def test_a_kto_step_against_one_written_out() -> None:
    """Loss and gradient of the module's rows equal those of one plain pass over every sequence."""
    update, objective = moved_lora(), KTO(beta=0.3, undesirable_weight=1.3)
    scorer = Scorer(update.model, DENSE, row_tokens=24)
    with update.disabled():
        trees = live(graded_trees(), scorer)
    kl_estimate = gained(others(trees), scorer.evaluate(others(trees))) / 4
    total = sum(
        objective.loss(with_reference(scorer.score(batch), batch, trees, objective, kl_estimate))
        for batch in scorer.batches(trees)
    )
    total.backward()
    found = torch.cat([p.grad.flatten().clone() for _, p in update.parameters()])
    update.model.zero_grad()

    def logp(tree: Tree) -> torch.Tensor:
        ids = torch.tensor(tree.ids)[None]
        logits = update.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        each = logits.gather(1, ids[0, 1:, None])[:, 0]
        return (each * torch.tensor(tree.weights)[1:]).sum()

    with torch.no_grad(), update.disabled():
        before = [logp(t) for t in trees]
        z = -sum(logp(t) for t in others(trees)) / 4
    with torch.no_grad():
        z = max(z + sum(logp(t) for t in others(trees)) / 4, torch.zeros(()))
    expected = torch.zeros(())
    for tree, ref in zip(trees, before, strict=True):
        gain = logp(tree) - ref
        if tree.grade > 0:
            expected = expected + 1 - torch.sigmoid(0.3 * (gain - z))
        else:
            expected = expected + 1.3 * (1 - torch.sigmoid(0.3 * (z - gain)))
    expected.backward()
    gradient = torch.cat([p.grad.flatten() for _, p in update.parameters()])
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (found - gradient).norm() / gradient.norm() <= 1e-6


def trained(objective: Objective, trees: Sequence[Tree], method: str) -> list[dict[str, float]]:
    """What three steps over these trees log."""
    torch.manual_seed(0)
    update = updates.build({"name": method, **({"r": 4} if method == "lora" else {})})
    update.attach(tiny("llama"))
    logged = []

    class Keep(lightning.Callback):
        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            logged.append(dict(outputs))

    module = FineTuning(
        update,
        objective,
        Scorer(update.model, DENSE, row_tokens=32),
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-2),
        schedule=Schedule("constant", 0, 3),
    )
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=3, logger=False, callbacks=[Keep()],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    steps = [list(trees)] * 3
    trainer.fit(module, torch.utils.data.DataLoader(steps, batch_size=None))
    return logged


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("objective", [DPO(beta=0.3), KTO(beta=0.3)], ids=["dpo", "kto"])
def test_the_reference_is_the_same_live_and_computed_before(
    objective: Objective, method: str
) -> None:
    if objective.data_kind == "pairs":
        trees = [Tree.fork([3, 4, 5, k], [[40 + k, 50, 2], [60 + k, 2]]) for k in range(6, 10)]
    else:
        trees = graded_trees()
    before = live(trees, Scorer(tiny("llama"), DENSE))
    at_once, now = (trained(objective, given, method) for given in (before, trees))
    for a, b in zip(at_once, now, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert at_once[-1]["train/reward_margin"] > at_once[0]["train/reward_margin"]


# The data.


def test_forms_of_a_grade(tmp_path: Path) -> None:
    path = tmp_path / "graded.jsonl"
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    lines = [
        {"prompt": "q", "completion": "a", "label": True},
        {"messages": chat, "kto_tag": 0},
        {"prompt": "q", "completion": " ", "label": True},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    found = read_grades(path)
    assert [e.desirable for e in found.examples] == [True, False]
    assert found.empty_answers == ["graded.jsonl:3"]
    path.write_text("\n".join(map(json.dumps, [*lines, {"prompt": "q", "completion": "a"}])))
    with pytest.raises(DataError, match=r"graded.jsonl:4: no field 'label'"):
        read_grades(path)
    path.write_text(json.dumps({"prompt": "q", "completion": "a", "label": "yes"}))
    with pytest.raises(DataError, match="expected true or false"):
        read_grades(path)


def example(question: str, answer: str, **more: Any) -> Example:
    return Example((Message("user", question), Message("assistant", answer)), question, **more)


def test_pairs_taken_apart_are_compared_with_answers_to_other_prompts() -> None:
    pairs = [example(q, f"good {q}", rejected=f"bad {q}") for q in ("p", "q")]
    found = viewed(Dataset("d", pairs, pairs, pairs), "grades", "kto")
    assert [(e.completion, e.desirable, e.other) for e in found.train] == [
        ("good p", True, "good q"),
        ("bad p", False, "good q"),
        ("good q", True, "good p"),
        ("bad q", False, "good p"),
    ]
    assert found.test == pairs


def test_grades_as_answers_and_what_cannot_be_had() -> None:
    graded = [example("p", "yes", desirable=True), example("q", "no", desirable=False)]
    dataset = Dataset("mine", graded, graded, graded)
    assert [e.completion for e in viewed(dataset, "answers", "sft").train] == ["yes"]
    with pytest.raises(DataError, match="learns from pairs, and mine has none"):
        viewed(dataset, "pairs", "dpo")
    plain = Dataset("mine", *([example("p", "a")],) * 3)
    with pytest.raises(DataError, match="learns from grades, and mine has none"):
        viewed(plain, "grades", "kto")
    alone = Dataset("mine", *([example("p", "a", desirable=True)] * 2,) * 3)
    with pytest.raises(DataError, match="one prompt"):
        viewed(alone, "grades", "kto")


def test_a_graded_tree_has_its_own_answer_and_the_other_beside_it() -> None:
    class Letters:
        """A token a character."""

        def rendered_all(self, examples: list[Example]) -> Any:
            return list(map(self.rendered, examples))

        def rendered(self, example: Example) -> Any:
            from myosotis.trees.tree import Path

            prompt, answer = example.prompt[-1].content, example.completion
            weights = [0.0] * len(prompt) + [1.0] * len(answer)
            return Rendered(Path([ord(c) for c in prompt + answer], weights), [])

    given = example("pq", "abc", desirable=False, other="xy")
    (tree,) = encode([given], Letters(), max_length=10).trees  # type: ignore[arg-type]
    assert tree.grade == -1
    assert len(tree.leaves) == 1
    assert tree.scored == 3
    assert tree.other is not None
    assert tree.other.ids.tolist() == [ord(c) for c in "pqxy"]


@pytest.mark.slow
def test_kto_through_the_command_line(world: Path, tmp_path: Path) -> None:
    """On graded answers, and on pairs taken apart."""
    lines = [
        {"prompt": f"the answer of {n}", "completion": c, "label": label}
        for n in range(30)
        for c, label in ((f"is {n * 7}", True), (f"not {n}", False))
    ]
    pairs = [
        {"prompt": f"the answer of {n}", "chosen": f"is {n * 7}", "rejected": f"not {n}"}
        for n in range(30)
    ]
    for name, records in (("graded", lines), ("pairs", pairs)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        changes = {
            "method": "kto", "data": name, "data.path": path, "trainer.max_steps": 10,
            "task.generate": 0, "optimizer.lr": 0.01,
        }  # fmt: skip
        words = settings(world, tmp_path / "runs" / name, **changes)
        words = ["method=kto", *(w for w in words if w != "method=kto"), "tracking=none"]
        call(["train", *words], tmp_path)
        record = json.loads((tmp_path / "runs" / name / "record.json").read_text())
        curves: dict[str, list[float]] = {}
        for point in record["curves"]:
            curves.setdefault(point["name"], []).append(point["value"])
        assert curves["train/loss"][0] == pytest.approx(0.5, abs=1e-4)
        assert curves["val/loss"][-1] < curves["val/loss"][0]
        assert record["task"]["metric"] == "separation"
        assert record["task"]["lo"] > 0
