"""Preferences as they are collected: two answers to a prompt, which is better, who said so.

What belongs here: the pairs file that grows choice by choice, and which prompts it has already. A
choice is one line, appended in one step and on the disk before the next is asked; it is what
`data=pairs` reads. What was called a tie teaches nothing and stands in a file beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from myosotis.data.sft import Message
from myosotis.evaluation.ratings import tuned_is_first
from myosotis.utils.errors import ConfigError, RunError
from myosotis.utils.read_file import MOST_DOCUMENT, read_text

CHOICES = ("A", "B", "tie")


@dataclass(frozen=True)
class Duel:
    """Two answers to one prompt, and the runs that gave them."""

    prompt: tuple[Message, ...]
    texts: tuple[str, str]
    runs: tuple[str, str]

    @property
    def key(self) -> str:
        """What tells the prompt from others."""
        return prompt_key(self.prompt)

    @property
    def sides(self) -> tuple[int, int]:
        """Which of the two stands as A, and which as B: a coin that depends on the prompt alone."""
        return (0, 1) if tuned_is_first(self.key, 0) else (1, 0)

    @property
    def shown(self) -> str:
        """The prompt as a person reads it."""
        if len(self.prompt) == 1:
            return self.prompt[0].content
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.prompt)

    @property
    def a(self) -> str:
        return self.texts[self.sides[0]]

    @property
    def b(self) -> str:
        return self.texts[self.sides[1]]


def key_of(prompt: Any) -> str:
    """A short hash of a prompt as it is written: a text, or messages."""
    return hashlib.sha256(json.dumps(prompt, ensure_ascii=False).encode()).hexdigest()[:16]


def prompt_key(prompt: Sequence[Message]) -> str:
    """The same of the turns that it is made of."""
    return key_of(_written(prompt))


@dataclass(frozen=True)
class ChosenFile:
    """The pairs in `path`; ties lie beside it, in `NAME.ties.jsonl`."""

    path: Path

    @property
    def ties(self) -> Path:
        return self.path.with_suffix(".ties.jsonl")

    def known(self) -> set[str]:
        """The keys of the prompts that were decided, ties among them. The rest of a line that was
        being written when a process was killed is taken off.

        Raises `ConfigError` for a file that holds something else.
        """
        found = set[str]()
        for path in (self.path, self.ties):
            for number, line in enumerate(_whole_lines(path), 1):
                try:
                    found.add(key_of(json.loads(line)["prompt"]))
                except (ValueError, KeyError, TypeError):
                    raise ConfigError(
                        f"{path}, line {number} is no preference.", "Choose another --out FILE."
                    ) from None
        return found

    def add(self, duel: Duel, choice: str, by: str) -> None:
        """Keep one choice: A, B or tie. Raises `RunError` where it cannot be written."""
        about = {"chosen_by": by, "chosen_at": datetime.now(UTC).isoformat(timespec="seconds")}
        first, second = duel.sides if choice != "B" else duel.sides[::-1]
        names = ("a", "b") if choice == "tie" else ("chosen", "rejected")
        record = {
            "prompt": _written(duel.prompt),
            names[0]: duel.texts[first],
            names[1]: duel.texts[second],
            **about,
            "runs": [duel.runs[first], duel.runs[second]],
        }
        path = self.ties if choice == "tie" else self.path
        try:
            _append(path, json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}") from None


def _written(prompt: Sequence[Message]) -> Any:
    """A prompt as a pairs file has it."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def _append(path: Path, line: str) -> None:
    """In one write, and on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        text = read_text(path, MOST_DOCUMENT)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    whole, _, rest = text.rpartition("\n")
    if rest:  # the end of its last line was never written
        os.truncate(path, len(f"{whole}\n".encode()) if whole else 0)
    return [line for line in whole.split("\n") if line.strip()]
