"""Programs as answers: an answer is worth 1 where its tests pass, run in a sandbox."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from myosotis.data.sft import Example
from myosotis.rewards import Load, Numbers, Reward, RewardFunction
from myosotis.utils import sandbox
from myosotis.utils.errors import ConfigError, DataError

_FENCED = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class PassesTests(Reward):
    """1 for an answer that is a Python program behind which the `tests` of its example run to the
    end without an error, 0 for any other.

    The program is the first fenced block of the answer, or all of it. It runs in a sandbox
    (`utils/sandbox.py`) or not at all, for so many `seconds` and in so many megabytes, and only
    where `run` says that what a model writes may be run.
    """

    right_or_wrong = True

    run: bool = False
    seconds: int = 10
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is not True:
            raise ConfigError(
                "reward=code runs what a model writes.",
                "Allow it with reward.code.run=true; it runs locked in (docs/threat-model.md).",
            )
        for name, value in (("seconds", self.seconds), ("memory_mb", self.memory_mb)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"reward.code.{name}={value}", "It is a whole number, 1 or more.")

    def prepare(self, load: Load) -> RewardFunction:
        """Raises `ConfigError` where there is no sandbox."""
        sandbox.require()

        def function(examples: Sequence[Example], texts: Sequence[str]) -> Numbers:
            if without := [example.where for example in examples if not example.tests]:
                raise DataError(
                    f"{without[0]}: no tests, by which reward=code tells a right program",
                    "A field 'tests' of the record, or data.fields.tests=NAME.",
                )
            programs = [
                f"{code_of(text)}\n\n{example.tests}\n"
                for example, text in zip(examples, texts, strict=True)
            ]
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                return np.array([*pool.map(self._passes, programs)], np.float64)

        return function

    def _passes(self, program: str) -> bool:
        return sandbox.passes(program, seconds=self.seconds, memory_mb=self.memory_mb)


def code_of(text: str) -> str:
    """The program of an answer: its first fenced block, else all of it."""
    found = _FENCED.search(text)
    return found[1] if found else text
