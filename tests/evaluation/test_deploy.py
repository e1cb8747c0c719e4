"""The gain in and out of the distribution of the training data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from myosotis.data.deploy import deploy_dataset
from myosotis.evaluation.deploy import deploy_result
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.records.schema import TaskQuality
from myosotis.utils.errors import DataError

WORDS = {"reads": "answers", "fields": None, "path": "train.jsonl", "train_items": 3}


def scored(values: np.ndarray) -> TaskScore:
    return TaskScore("loglik", True, "nats per token", values)


def inside(delta: float, half: float) -> TaskQuality:
    return TaskQuality(
        "loglik", base=-2.0, tuned=-2.0 + delta, delta=delta, lo=delta - half, hi=delta + half
    )


BEFORE = np.random.default_rng(0).normal(-2, 0.2, 40)
NOISE = np.random.default_rng(1).normal(0, 0.1, 40)


def test_the_gap_is_of_two_samples_by_their_own_intervals() -> None:
    found = deploy_result(inside(0.5, 0.1), scored(BEFORE), scored(BEFORE + 0.2 + NOISE), [])
    out = found.outside
    assert out is not None and out.delta is not None and out.lo is not None and out.hi is not None
    assert found.gap == pytest.approx(out.delta - 0.5)
    assert found.gap_lo == pytest.approx(found.gap - math.hypot(out.delta - out.lo, 0.1))
    assert found.gap_hi == pytest.approx(found.gap + math.hypot(out.hi - out.delta, 0.1))
    assert found.warning == ""  # it is better there, too


def test_a_gain_that_vanishes_outside_is_told() -> None:
    none = deploy_result(inside(0.5, 0.1), scored(BEFORE), scored(BEFORE + NOISE), [])
    assert "is not shown to be better than the base" in none.warning
    worse = deploy_result(inside(0.5, 0.1), scored(BEFORE), scored(BEFORE - 1 + NOISE), [])
    assert "is worse than the base" in worse.warning
    unsure = deploy_result(inside(0.05, 0.1), scored(BEFORE), scored(BEFORE + NOISE), [])
    assert unsure.warning == ""  # there was no gain to vanish


def test_the_worst_group_gains_least() -> None:
    groups = ["a"] * 15 + ["b"] * 15 + ["c"] * 4 + [None] * 6  # c is too small to speak of
    tuned = BEFORE + NOISE + np.where(np.array(groups) == "b", -0.5, 0.5)
    tuned[30:34] -= 9
    found = deploy_result(inside(0.5, 0.1), scored(BEFORE), scored(tuned), groups)
    assert (found.worst_group, found.groups) == ("b", 2)
    assert found.worst is not None and found.worst.n == 15
    assert found.worst.delta == pytest.approx(-0.5 + NOISE[15:30].mean())


def test_a_sample_is_read_whole_and_as_the_data_are(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    rows = [json.dumps({"prompt": f"q{k}", "completion": "a"}) for k in range(12)]
    path.write_text("\n".join(rows))
    read = deploy_dataset(str(path), WORDS, "answers", "sft")
    assert [example.completion for example in read.test] == ["a"] * 12
    rows = [json.dumps({"prompt": f"q{k}", "completion": "a", "site": k % 3}) for k in range(12)]
    path.write_text("\n".join(rows))
    read = deploy_dataset(str(path), {**WORDS, "group_key": "site"}, "answers", "sft")
    assert {example.groups for example in read.test} == {("0",), ("1",), ("2",)}
    path.write_text("\n".join(rows[:9]))
    with pytest.raises(DataError, match="holds 9 examples; 10 are needed"):
        deploy_dataset(str(path), WORDS, "answers", "sft")
