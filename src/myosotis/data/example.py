"""What a run learns from and is measured on: examples by what they are for, and what tells them
apart."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from myosotis.data.conversation import Message
from myosotis.data.mixture import Mixture
from myosotis.data.sft import Example


@dataclass
class Dataset:
    """Examples by what they are for, and the manifest: plain data that says what they are.

    `mixture` says in which shares the sources of the training examples are read, where there are
    several.
    """

    name: str
    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    manifest: dict[str, Any] = field(default_factory=dict)
    mixture: Mixture | None = None

    def parts(self) -> dict[str, Sequence[Example]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def sealed(self) -> Dataset:
        """The manifest completed with the row counts and the hashes of the content: of all, and of
        what task quality is measured on."""
        self.manifest["rows"] = {part: len(examples) for part, examples in self.parts().items()}
        self.manifest["hash"] = content_hash(self.parts())
        self.manifest["test_hash"] = content_hash({"test": self.test})
        return self


def content_hash(parts: Mapping[str, Sequence[Example]]) -> str:
    """sha256 of examples, part by part in order; where they came from is left out."""
    digest = hashlib.sha256()
    for part, examples in parts.items():
        digest.update(part.encode())
        for example in examples:
            more = [example.completion_only, *_second(example)]
            digest.update(canonical(example.messages, *more).encode())
    return digest.hexdigest()


def clusters(examples: Sequence[Example]) -> list[str | None]:
    """What each example shares with others, for intervals; None where it stands alone.

    Of several levels (package, file) the coarsest that makes at least `ENOUGH` clusters: fewer do
    not tell how much clusters differ. Where none does, the finest; a single cluster tells nothing
    and is left out.
    """
    deepest = max((len(example.groups) for example in examples), default=0)
    names: list[str | None] = [None] * len(examples)
    for level in range(deepest):
        names = [
            example.groups[min(level, len(example.groups) - 1)] if example.groups else None
            for example in examples
        ]
        if effective(names) >= ENOUGH:
            return names
    return names if effective(names) > 1 else [None] * len(examples)


def effective(names: Iterable[str | None]) -> float:
    """How many equal clusters these would be: (sum of sizes)^2 / sum of squared sizes."""
    counts = Counter(names)
    sizes = [1] * counts.pop(None, 0) + [*counts.values()]
    return sum(sizes) ** 2 / sum(size**2 for size in sizes) if sizes else 0.0


ENOUGH = 8
"""Effective clusters from which on an interval over them keeps its coverage."""


def opening_key(example: Example) -> str:
    """What opens the conversation (all before the first answer), case and white space aside."""
    opening: list[Message] = []
    for message in example.messages:
        if message.role == "assistant":
            break
        opening.append(message)
    return canonical([Message(m.role, _folded(m.content)) for m in opening])


def pair_key(example: Example) -> str:
    """The whole conversation, to the letter; with both answers of a pair, or the grade."""
    return canonical(example.messages, *_second(example))


def _second(example: Example) -> list[str | bool]:
    """What an example says beside its conversation: the rejected answer, or the grade."""
    more = example.rejected_turn.extras() if example.rejected_turn is not None else []
    beside = (example.tools or None, example.tests or None)
    said = (example.rejected, example.desirable, *example.rivals, *more, *beside)
    return [x for x in said if x is not None]


_AS_TEXT = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` would make one each time


def canonical(messages: Iterable[Message], *more: object) -> str:
    """The messages as text that is equal only for equal messages."""
    plain = [[m.role, m.content, m.scored, *m.extras()] for m in messages]
    return _AS_TEXT([plain, *more])


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
