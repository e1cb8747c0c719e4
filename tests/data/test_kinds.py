"""Kinds of data: each says how it is rendered, scored and asked for, and nobody else asks twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from myosotis.data import audit
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.convert import viewed
from myosotis.data.datamodule import ExampleModule
from myosotis.data.example import Dataset
from myosotis.data.kinds import (
    RANKED,
    WRITTEN,
    Answers,
    Grades,
    Labels,
    Pairs,
    Rewards,
    TaskKind,
    expected_kind,
    kind_of,
    text_kind,
)
from myosotis.data.sft import Example, Message
from myosotis.evaluation.task_metrics import METRICS
from myosotis.trees.scorer import TreeScore
from myosotis.trees.tree import Path as Tokens
from myosotis.trees.tree import Target, Tree
from myosotis.utils.errors import ConfigError, DataError
from tests.retention.small import byte_tokenizer

CONF = Path(__file__).parents[2] / "conf"
EVERY: list[TaskKind] = [Answers(), Labels(("no", "yes")), Pairs(), Grades(), Rewards()]


def example(n: int, **more: Any) -> Example:
    messages = Message("user", f"ask {n}"), Message("assistant", "yes" if n % 2 else "no")
    return Example(messages, f"line {n}", **more)


PAIRED = [example(n, rejected="maybe") for n in range(8)]


@dataclass
class Told:
    """In place of a scorer: what a model would say of each tree."""

    scores: list[tuple[list[float], list[float]]]  # log-probs and weights of the paths
    model: torch.nn.Module = field(default_factory=torch.nn.Module)
    said: int | None = None  # the label that is the likeliest for each

    def evaluate(self, trees: Sequence[Tree], advance: Any = None) -> list[TreeScore]:
        assert len(trees) == len(self.scores)
        return [
            TreeScore(
                np.array(p),
                np.array(w),
                np.array([x > -1 for x in p]),
                None if self.said is None else np.array([self.said]),
            )
            for p, w in self.scores
        ]


def scores(kind: TaskKind, told: Told, trees: Sequence[Tree]) -> dict[str, list[float]]:
    found = kind.scores(told, trees)  # type: ignore[arg-type]
    assert all(values.dtype == np.float64 for values in found.values())
    return {name: values.tolist() for name, values in found.items()}


def headed(name: str) -> torch.nn.Module:
    model = torch.nn.Module()
    model.add_module(name, torch.nn.Identity())
    return model


def test_scores_by_hand() -> None:
    """A chosen answer of 2 tokens with −2 nats, a rejected one of 4 with −12: −1 and −3 a token,
    half of 2 apart; a reward of −2 is 10 above one of −12."""
    two, one = Tree.fork([3], [[4], [5]]), Tree.fork([3], [[4]])
    both = Told([([-2.0, -12.0], [2.0, 4.0])])
    assert scores(Pairs(), both, [two]) == {
        "accuracy": [1.0], "margin": [10.0], "loglik": [-1.0], "separation": [1.0],
    }  # fmt: skip
    both.model = headed("value_head")
    assert scores(Rewards(), both, [two]) == {"accuracy": [1.0], "margin": [10.0]}
    assert scores(Answers(), Told([([-2.0], [4.0])]), [one]) == {"loglik": [-0.5]}


def test_graded_answers_by_hand() -> None:
    """−1 a token where it is to be given, −2 where it is not: what is lost there is gained."""
    graded = [Tree.fork([3], [[4]]) for _ in range(2)]
    object.__setattr__(graded[0], "grade", 1)
    object.__setattr__(graded[1], "grade", -1)
    told = Told([([-2.0], [2.0]), ([-6.0], [3.0])])
    assert scores(Grades(), told, graded) == {"separation": [-1.0, 2.0], "loglik": [-1.0]}
    names = [Grades().path_names(tree) for tree in graded]
    assert names == [[", desirable"], [", undesirable"]]


def test_without_its_head_a_model_is_at_chance() -> None:
    """Of two labels each has ½; two rewards of 0 are a tie, which a coin wins half of the time."""
    trees = [Tree.of([Tokens([3], [0.0], Target.LABEL, 1)])]
    labels = Labels(("no", "yes"))
    assert scores(labels, Told([]), trees) == {"loglik": [-math.log(2)], "accuracy": [0.5]}
    told = Told([([-0.25], [1.0])], headed("label_head"), said=1)
    assert scores(labels, told, trees) == {"loglik": [-0.25], "accuracy": [1.0]}
    assert scores(Rewards(), Told([]), trees) == {"accuracy": [0.5], "margin": [0.0]}


def test_labels_that_are_said_are_told_beside_the_scores() -> None:
    """Of two labels the second; without a classifier each with a chance of ½."""
    trees = [Tree.of([Tokens([3], [0.0], Target.LABEL, 1)])]
    labels = Labels(("no", "yes"))
    told = Told([([-0.25], [1.0])], headed("label_head"), said=1)
    assert labels.measured(told, trees).said.tolist() == [[0.0, 1.0]]  # type: ignore[arg-type, union-attr]
    chance = labels.measured(Told([]), trees)  # type: ignore[arg-type]
    assert chance.said is not None and chance.said.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: type(kind).__name__)
def test_a_kind_keeps_what_it_promises(kind: TaskKind) -> None:
    """It is compared by a metric of its own, gives those it names, and refuses all others."""
    assert kind.compared_by in kind.metrics
    pair = isinstance(kind, Pairs)
    trees = [Tree.fork([3], [[4], [5]]) if pair else Tree.fork([3], [[4]])]
    told = Told([([-1.0, -2.0], [1.0, 1.0]) if pair else ([-1.0], [1.0])])
    without_texts = {m for m in kind.metrics if m not in kind.written}
    single = {m for m in without_texts if not METRICS[m].aggregated}
    assert set(kind.scores(told, trees)) == single - set(RANKED)  # type: ignore[arg-type]
    assert kind.is_text == (without_texts != set(kind.metrics))
    assert all(METRICS[m].generates for m in kind.written)
    for metric in METRICS:
        if metric in kind.metrics:
            kind.require_metric(metric)
        else:
            with pytest.raises(ConfigError, match=f"task.metric={metric} ") as error:
                kind.require_metric(metric, "mine")
            assert kind.metrics[0] in error.value.hint and "{" not in error.value.message


@pytest.mark.parametrize(
    ("method", "kind"),
    [("probe", Labels), ("dpo", Pairs), ("simpo", Pairs), ("kto", Grades), ("reward", Rewards)],
)
def test_a_method_measures_by_the_first_metric_of_its_data(method: str, kind: Any) -> None:
    config = yaml.safe_load((CONF / "method" / f"{method}.yaml").read_text())
    assert config["task"]["metric"] == kind.metrics[0]


def test_which_kind_data_are() -> None:
    paired = Dataset("mine", PAIRED, PAIRED[:2], PAIRED[2:4])
    plain = viewed(paired, "answers", "sft")
    words = {"reads_labels": False, "needs_value_head": False}
    assert kind_of(paired, **words) == Pairs()
    assert kind_of(plain, **words) == Answers()
    assert kind_of(plain, reads_labels=True, needs_value_head=False) == Labels(("no", "yes"))
    assert kind_of(paired, reads_labels=False, needs_value_head=True) == Rewards()
    assert text_kind([example(0, desirable=True)]) == Grades()
    assert text_kind([]) == Answers()
    assert expected_kind("grades", **words) is Pairs
    assert expected_kind("answers", reads_labels=True, needs_value_head=False) is Labels


def test_where_grades_are_learned_held_out_pairs_stay_pairs() -> None:
    """Each part is scored and shown as what it is."""
    dataset = viewed(Dataset("mine", PAIRED, PAIRED[:2], PAIRED[2:4]).sealed(), "grades", "kto")
    renderer = Pairs().renderer(byte_tokenizer(), "none")
    module = ExampleModule(dataset, renderer, batch_size=2, max_length=64)
    parts = ("train", "validation", "test")
    assert [module.kind_of(part) for part in parts] == [Grades(), Grades(), Pairs()]
    assert {tree.grade for tree in module.train_trees} == {1, -1}
    shown = [sample["where"] for sample in audit.inspect(module, samples=2)["samples"]]
    assert shown == ["line 0, desirable", "line 4, desirable"]


@pytest.mark.parametrize("kind", [Labels(("no", "yes")), Rewards()], ids=["labels", "rewards"])
def test_no_token_id_is_negative_whatever_is_asked_for(kind: TaskKind) -> None:
    examples = PAIRED if isinstance(kind, Rewards) else [example(n) for n in range(8)]
    renderer = kind.renderer(byte_tokenizer(), "none")
    data = Dataset("mine", examples, examples[:2], examples[2:4]).sealed()
    module = ExampleModule(data, renderer, batch_size=2, max_length=64, kind=kind)
    for tree in module.train_trees:
        assert tree.ids.min() >= 0 and tree.targets.min() >= 0
        assert tree.sizes.tolist() == [1.0] * len(tree.leaves)
        assert not tree.read[tree.leaves].any()
    words = {"Labels": ["[no]", "[no]"], "Rewards": ["[reward]"] * 4}[type(kind).__name__]
    samples = audit.inspect(module, samples=2)["samples"]
    assert [sample["tokens"][-1][:2] for sample in samples] == [[word, True] for word in words]


def test_the_text_that_a_reward_is_given_for_can_be_scored_itself() -> None:
    plain, rewards = (k.renderer(byte_tokenizer(), "none") for k in (Answers(), Rewards()))
    assert type(rewards.of_text()) is ChatRenderer and plain.of_text() is plain
    one = example(1)
    assert rewards.of_text().render(one) == plain.render(one)
    assert rewards.render(one).ids == plain.render(one).ids


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: type(kind).__name__)
def test_a_held_out_part_that_can_show_nothing_is_found(kind: TaskKind) -> None:
    """One example has no second half; of graded answers the log-likelihood needs some to give."""
    tree = Tree.of([Tokens([5, 6], [0.0, 1.0])])
    for metric in kind.metrics:
        generated = 2 if metric in WRITTEN else 0
        kind.require_held_out([replace(tree, grade=1)] * 2, metric, generated)
        with pytest.raises(DataError, match=rf"1 of the held-out .*task\.metric={metric}; 2 are"):
            kind.require_held_out([replace(tree, grade=1)], metric, 1)
    if isinstance(kind, Grades):
        with pytest.raises(DataError, match=r"none of the held-out .* can show loglik"):
            kind.require_held_out([replace(tree, grade=-1)] * 5, "separation", 0)
