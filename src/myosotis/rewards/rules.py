"""Rewards that can be checked: a rule says what an answer is worth, between 0 and 1."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field

from myosotis.data.sft import Example
from myosotis.rewards import Rule
from myosotis.utils.errors import ConfigError

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class ExactMatch(Rule):
    """1 for an answer that is the reference, white space at the ends and (unless `case`) upper and
    lower case aside; 0 for any other."""

    case: bool = False

    def of(self, example: Example, text: str) -> float:
        said, right = " ".join(text.split()), " ".join(example.completion.split())
        if not self.case:
            said, right = said.casefold(), right.casefold()
        return float(said == right)


@dataclass(frozen=True)
class NumericAnswer(Rule):
    """1 for an answer whose last number is the last number of the reference (as in GSM8K, where a
    solution ends in "#### 42"), to within `tolerance`; 0 for any other, and where the reference has
    no number."""

    tolerance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ConfigError(f"reward tolerance={self.tolerance}", "it is a number, 0 or more")

    def of(self, example: Example, text: str) -> float:
        said, right = last_number(text), last_number(example.completion)
        if said is None or right is None:
            return 0.0
        return float(abs(said - right) <= self.tolerance)


def last_number(text: str) -> float | None:
    """The last number that is written in a text, with commas between thousands or without."""
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


@dataclass(frozen=True)
class ValidJson(Rule):
    """1 for an answer that is, as a whole, a JSON object with all of `keys`. Of k keys an object
    with j of them is worth (1 + j)/(1 + k), and what is no object 0."""

    keys: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.keys, str) or not all(isinstance(key, str) for key in self.keys):
            raise ConfigError(
                f"a JSON reward's keys are a list of names, not {self.keys!r}",
                "As in 'reward.json.keys=[answer]'.",
            )

    def of(self, example: Example, text: str) -> float:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return 0.0
        if not isinstance(found, dict):
            return 0.0
        return (1 + sum(key in found for key in self.keys)) / (1 + len(self.keys))


@dataclass(frozen=True)
class Length(Rule):
    """1 for an answer of `least` to `most` words, 0 for a shorter one; a longer one loses in
    proportion, down to 0 at twice `most`."""

    least: int = 1
    most: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.least <= self.most or self.most < 1:
            raise ConfigError(
                f"a length reward of {self.least} to {self.most} words: nothing has such a length",
                "reward.length.least is at most reward.length.most",
            )

    def of(self, example: Example, text: str) -> float:
        words = len(text.split())
        if words < self.least:
            return 0.0
        return max(0.0, 1.0 - max(0, words - self.most) / self.most)


@dataclass(frozen=True)
class Overlap(Rule):
    """ROUGE-L F1 with the reference, 0 to 1: for answers of which no rule says that they are
    right. It rewards words in common, and can be gained by words alone."""

    def of(self, example: Example, text: str) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(["rougeL"]).score(example.completion, text)["rougeL"].fmeasure
