"""Which answers were lost, how they are asked again, and what is counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from myosotis.evaluation.recovery import lost_items, recovery, relearn, with_examples
from myosotis.retention.benchmarks import build
from myosotis.retention.benchmarks.requests import Encoder
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from tests.evaluation.test_results import scores
from tests.retention.small import benchmark_folder, byte_tokenizer, tiny_scorer


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = benchmark_folder(tmp_path_factory.mktemp("data"), 12)
    return build.build(
        ["arc_easy"], byte_tokenizer(), context_length=512, items=12, locator=DataLocator(folder)
    )


def answers(suite: Suite, *pairs: tuple[int, int]) -> Any:
    """What base and tuned model scored on the first items."""
    return {
        task.name: {item.id: pair for item, pair in zip(task.items, pairs, strict=False)}
        for task in suite
    }


PAIRS = ((1, 0), (1, 1), (0, 0), (1, 0), (0, 1), (0, 0), (0, 0), (1, 1))


def test_lost_never_known_and_others(suite: Suite) -> None:
    """Of 12 items the first 8 were asked: 2 lost, 3 never known; others are the 4 that were not
    asked, then the 2 that both have right. What tuning won is neither."""
    found = lost_items(suite, answers(suite, *PAIRS))
    ids = [item.id for item in suite["arc_easy"].items]
    assert found.lost == {("arc_easy", ids[0]), ("arc_easy", ids[3])}
    assert found.never == {("arc_easy", ids[i]) for i in (2, 5, 6)}
    assert [item.id for item in found.others["arc_easy"]] == [*ids[8:], ids[1], ids[7]]


def test_solved_examples_stand_before_every_choice(suite: Suite) -> None:
    found = lost_items(suite, answers(suite, *PAIRS))
    asked = suite.where(lambda item: (item.task, item.id) in found.lost)
    encoder = Encoder(byte_tokenizer(), 512)
    shown = with_examples(asked, found.others, 2, encoder)["arc_easy"]
    solved = [item.question for item in found.others["arc_easy"][:2]]
    for before, after in zip(asked["arc_easy"].items, shown.items, strict=True):
        assert before.question not in solved
        for plain, request in zip(before.requests, after.requests, strict=True):
            assert request.text == (f"{solved[0]}\n\n{solved[1]}\n\n{plain.text[0]}", plain.text[1])
            scored = request.windows[0].ids[request.windows[0].start :]
            assert scored == plain.windows[0].ids[plain.windows[0].start :]
    assert "What is" in solved[0] and solved[0].rstrip()[-1].isdigit(), "with the right answer"


def test_what_came_back_is_counted_beside_what_comes_anyway(suite: Suite) -> None:
    """Asked again, the first lost item and two of the three that were never known are right: 1 of 2
    against 2 of 3, with base right on both lost ones."""
    found = lost_items(suite, answers(suite, *PAIRS))
    wanted = found.lost | found.never
    asked = suite.where(lambda item: (item.task, item.id) in wanted)
    ids = [item.id for item in asked["arc_easy"].items]  # 0, 2, 3, 5, 6

    def measured(*right: int) -> Measurement:
        made = scores(list(right), [2] * 5)
        made.items = ids
        return Measurement({"arc_easy": made})

    told, back = recovery("examples", 2, found, measured(1, 1, 0, 1, 0), measured(1, 0, 1, 0, 0))
    assert (told.lost, told.again, told.never, told.found, told.base_again) == (2, 1, 3, 2, 2)
    assert told.more == pytest.approx(1 / 2 - 2 / 3)
    assert told.more_lo is not None and told.more_lo < told.more
    assert told.tasks == {"arc_easy": [1, 2]} and back == {("arc_easy", ids[0])}


def test_relearning_moves_the_weights_towards_other_items(suite: Suite) -> None:
    """The right answers of the items it learned become likelier; five steps of eight items."""
    scorer = tiny_scorer()
    others = {"arc_easy": suite["arc_easy"].items[:3]}
    update = SimpleNamespace(parameters=lambda: list(scorer.model.named_parameters()))
    trees = [i.requests[i.gold[0]].windows[0].path() for i in others["arc_easy"]]
    from myosotis.trees.tree import Tree

    def logp() -> float:
        return sum(float(s.logp.sum()) for s in scorer.evaluate([Tree.of([p]) for p in trees]))

    before = logp()
    relearn(scorer, update, others, steps=5, lr=1e-3)  # type: ignore[arg-type]
    assert logp() > before + 1
    assert all(torch.isfinite(p).all() for p in scorer.model.parameters())
