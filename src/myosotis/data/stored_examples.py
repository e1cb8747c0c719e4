"""Examples on disk: one is made when it is asked for, and what is asked of all is kept beside them.

An example is two lines of JSON: where it stands and what it shares with others, and what it says.
The second is also what tells two parts of a data set apart (`digest_of`): what the model reads
depends on nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from myosotis.data.conversation import Message
from myosotis.data.sft import Example

T = TypeVar("T")

# What is asked of all examples at once, a bit each.
PAIRED, GRADED, COMPLETION, RIVALS = 1, 2, 4, 8


def traits(examples: Sequence[Example]) -> NDArray[np.uint8]:
    """Which of the bits above hold of each example."""
    if isinstance(examples, StoredExamples):
        return examples.traits
    if isinstance(examples, Chosen):
        return traits(examples.given)[examples.numbers]
    return np.fromiter(map(_traits, examples), np.uint8, len(examples))


def source_names(examples: Sequence[Example]) -> list[str]:
    """From which of several sources each example is."""
    if isinstance(examples, StoredExamples):
        names = examples.names
        return [names[code] for code in examples.codes.tolist()]
    if isinstance(examples, Chosen):
        given = source_names(examples.given)
        return [given[i] for i in examples.numbers.tolist()]
    return [example.source for example in examples]


def digest_of(examples: Sequence[Example]) -> str:
    """sha256 of all that the examples say, in their order; where they come from is left out."""
    if isinstance(examples, StoredExamples):
        return examples.digest
    found = hashlib.sha256()
    for example in examples:
        found.update(_said(example))
    return found.hexdigest()


class Chosen(Sequence[T], Generic[T]):
    """Some of a sequence, by their numbers: a view, as the numbers may be millions."""

    def __init__(self, given: Sequence[T], numbers: NDArray[Any]) -> None:
        self.given, self.numbers = given, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self.given[i] for i in self.numbers[index].tolist()]
        return self.given[int(self.numbers[index])]


class Told(Sequence[T], Generic[T]):
    """What `of` tells of each of some examples, asked for one at a time."""

    def __init__(self, examples: Sequence[Example], of: Callable[[Example], T]) -> None:
        self._examples, self._of = examples, of

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._of(example) for example in self._examples[index]]
        return self._of(self._examples[index])


class Places(Told[str]):
    """Where some examples stand."""

    def __init__(self, examples: Sequence[Example]) -> None:
        super().__init__(examples, lambda example: example.where)


class StoredExamples(Sequence[Example]):
    """The examples that `write_examples` wrote into a folder.

    One is made anew each time it is asked for: two of the same place are equal, not the same.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text("utf-8"))
        self.digest: str = about["digest"]
        self.names: list[str] = about["sources"]
        self.codes: NDArray[np.int32] = np.load(folder / "sources.npy")
        self.traits: NDArray[np.uint8] = np.load(folder / "traits.npy")
        self._ends: NDArray[np.int64] = np.load(folder / "ends.npy")
        self._lines = folder / "examples.jsonl"
        self._text: Any = np.memmap(self._lines, np.uint8, "r") if len(self._ends) else b""

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        start = int(self._ends[number - 1]) if number else 0
        return _read(bytes(self._text[start : int(self._ends[number])]))


def write_examples(folder: Path, examples: Iterable[Example]) -> None:
    """Write examples into an empty folder."""
    digest, end = hashlib.sha256(), 0
    ends, bits, codes = list[int](), bytearray(), list[int]()
    names: dict[str, int] = {}
    with (folder / "examples.jsonl").open("wb") as file:
        for example in examples:
            said = _said(example)
            digest.update(said)
            end += file.write(_context(example) + said)
            ends.append(end)
            bits.append(_traits(example))
            codes.append(names.setdefault(example.source, len(names)))
    about = {"digest": digest.hexdigest(), "sources": list(names)}
    (folder / "about.json").write_text(json.dumps(about), "utf-8")
    np.save(folder / "ends.npy", np.array(ends, np.int64))
    np.save(folder / "traits.npy", np.frombuffer(bytes(bits), np.uint8))
    np.save(folder / "sources.npy", np.array(codes, np.int32))


def _traits(example: Example) -> int:
    return (
        PAIRED * (example.rejected is not None)
        | GRADED * (example.desirable is not None)
        | COMPLETION * example.completion_only
        | RIVALS * bool(example.rivals)
    )


_dumps: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":")).encode


def _context(example: Example) -> bytes:
    return _dumps([example.where, example.groups, example.source]).encode() + b"\n"


def _said(example: Example) -> bytes:
    turn = example.rejected_turn
    said = [
        list(map(_turn, example.messages)),
        example.completion_only,
        example.rejected,
        example.desirable,
        example.other,
        example.rivals,
        turn and _turn(turn),
        example.tools,
        example.tests,
    ]
    return _dumps(said).encode() + b"\n"


def _turn(message: Message) -> list[Any]:
    return [message.role, message.content, message.scored, *message.extras()]


def _read(lines: bytes) -> Example:
    context, said = lines.split(b"\n", 1)
    where, groups, source = json.loads(context)
    turns, completion_only, rejected, desirable, other, rivals, turn, *rest = json.loads(said)
    return Example(
        tuple(Message(*one) for one in turns),
        where,
        completion_only,
        rejected,
        desirable,
        other,
        tuple(rivals),
        tuple(groups),
        turn and Message(*turn),
        source=source,
        **dict(zip(("tools", "tests"), rest, strict=True)),
    )
