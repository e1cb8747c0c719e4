"""Rewards that can be checked, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from myosotis.data.sft import Example, Message
from myosotis.rewards import Load, Numbers, Reward, RewardFunction
from myosotis.rewards.rules import (
    ExactMatch,
    Length,
    NumericAnswer,
    Overlap,
    ValidJson,
    last_number,
)
from myosotis.rewards.together import Rewards
from myosotis.utils.errors import ConfigError


def asked(reference: str) -> Example:
    return Example((Message("user", "?"), Message("assistant", reference)), "here")


@pytest.mark.parametrize(
    ("text", "worth"),
    [("Paris", 1), (" paris \n", 1), ("The capital is Paris", 0), ("", 0)],
)
def test_exact_match(text: str, worth: float) -> None:
    assert ExactMatch().of(asked("Paris"), text) == worth
    assert ExactMatch(case=True).of(asked("Paris"), "paris") == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("It is 12.", 12.0),
        ("3 + 4 = 7\n#### 7", 7.0),
        ("$1,234.50 in all", 1234.5),
        ("minus -5", -5.0),
        ("none", None),
    ],
)
def test_the_last_number_counts(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_numeric_answers() -> None:
    """Against 1,000: the same number without a comma is right, 999 only within a tolerance of 1."""
    reference = asked("500 twice is\n#### 1,000")
    assert NumericAnswer().of(reference, "So 1000") == 1
    assert NumericAnswer().of(reference, "999") == 0
    assert NumericAnswer(tolerance=1).of(reference, "999") == 1
    assert NumericAnswer().of(reference, "many") == 0
    assert NumericAnswer().of(asked("many"), "5") == 0


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ('{"answer": "red"}', 1.0),
        (' {"answer": 1, "more": 2}\n', 1.0),
        ("{}", 0.5),
        ('{"other": 1}', 0.5),
        ('["answer"]', 0.0),
        ('Here: {"answer": 1}', 0.0),
        ('{"answer": ', 0.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_valid_json_with_one_key(text: str, worth: float) -> None:
    """One key: an object counts one half, and its key the other."""
    assert ValidJson(keys=["answer"]).of(asked(""), text) == worth


def test_any_object_will_do_where_no_key_is_named() -> None:
    assert ValidJson().of(asked(""), "{}") == 1


@pytest.mark.parametrize(("words", "worth"), [(0, 0), (1, 1), (10, 1), (15, 0.5), (20, 0), (30, 0)])
def test_length(words: int, worth: float) -> None:
    """Up to 10 words: 15 are half a limit too many, 20 a whole one."""
    assert Length(most=10).of(asked(""), "word " * words) == pytest.approx(worth)


def test_overlap_is_rouge_l() -> None:
    """ "the cat sat" in "the cat sat down": precision 3/4, recall 1, so F1 = 6/7."""
    assert Overlap().of(asked("the cat sat"), "the cat sat down") == pytest.approx(6 / 7)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (Length, {"least": 5, "most": 4}),
        (Length, {"most": 0, "least": 0}),
        (NumericAnswer, {"tolerance": -1.0}),
        (ValidJson, {"keys": "answer"}),
        (ValidJson, {"weight": float("nan")}),
    ],
)
def test_settings_that_reward_nothing(make: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make(**wrong)


class Fixed(Reward):
    """Gives what it is told."""

    def __init__(self, weight: float, values: Sequence[float]) -> None:
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "values", values)

    def prepare(self, load: Load) -> RewardFunction:
        def function(examples: Sequence[Example], texts: Sequence[str]) -> Numbers:
            return np.array(self.values)  # type: ignore[attr-defined]

        return function


def test_several_rewards_are_one_weighted_sum() -> None:
    """2·(1, 0) + .5·(0, 4) = (2, 2); one of weight 0 is told and adds nothing."""
    rewards = Rewards.of(
        {"a": Fixed(2, [1, 0]), "b": Fixed(0.5, [0, 4]), "watched": Fixed(0, [9, 9])}, _no_run
    )
    given = rewards([asked("")] * 2, ["x", "y"])
    assert given.total.tolist() == [2, 2]
    assert {name: values.tolist() for name, values in given.parts.items()} == {
        "a": [1, 0], "b": [0, 4], "watched": [9, 9],
    }  # fmt: skip
    assert rewards.watched == ["watched"]


def _no_run(name: str) -> RewardFunction:
    raise AssertionError(name)
