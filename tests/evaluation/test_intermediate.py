"""One evaluation while training: which verdict it gives, and that its error is shared out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from myosotis.evaluation.intermediate import look
from myosotis.retention.benchmarks.build import build
from myosotis.retention.benchmarks.measure import measure
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.budget import Budget
from myosotis.retention.harness.data import DataLocator
from tests.retention.small import benchmark_folder, byte_tokenizer
from tests.retention.test_sequential_eval import Guessing

LOST = 8


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder: Path = benchmark_folder(tmp_path_factory.mktemp("data"), 60)
    names = ["hellaswag", "arc_easy"]
    return build(names, byte_tokenizer(), context_length=512, items=60, locator=DataLocator(folder))


@pytest.fixture(scope="module")
def base(suite: Suite) -> Measurement:
    """A base that also knew `LOST` items of each task that the model gets wrong now."""
    now = measure(suite, Guessing())

    def better(scores: np.ndarray) -> np.ndarray:
        return np.where(np.cumsum(scores == 0) <= LOST, 1.0, scores)

    return Measurement(
        {
            name: replace(task, scores={**task.scores, task.metric: better(task.primary)})
            for name, task in now.tasks.items()
        }
    )


def says(suite: Suite, base: Measurement, evaluations: int, floor: int | None = None) -> str:
    found = look(
        suite, Guessing(), base, Budget(0.0), floor=floor, ceiling=None, evaluations=evaluations
    )
    assert found.suite is not None
    assert ("evaluations of the training" in found.suite.note) == (
        found.suite.verdict == "slipped" or (floor is not None and evaluations > 1)
    )
    return found.suite.verdict


def test_forgotten_is_said_at_a_level_that_holds_for_all_evaluations(
    suite: Suite, base: Measurement
) -> None:
    """16 of 120 items lost and none gained, no loss allowed: each task's z is sqrt(8) = 2.8, their
    mean's 4.0. A single evaluation calls it forgotten (1.96), and so does one of ten (2.81); one of
    a hundred thousand (5.03) calls it slipped: measurably worse, not surely beyond the budget."""
    assert says(suite, base, 1) == "forgotten"
    assert says(suite, base, 10) == "forgotten"
    assert says(suite, base, 100_000) == "slipped"


def test_an_evaluation_that_may_end_early_shares_its_error_too(
    suite: Suite, base: Measurement
) -> None:
    assert says(suite, base, 1, floor=30) == "forgotten"
    assert says(suite, base, 100_000, floor=30) != "forgotten"
