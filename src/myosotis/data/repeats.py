"""What of a data set repeats: to the letter, almost, and between its parts.

All examples are read once, by as many processes as there are cores. Kept of each are two digests
and a signature, nothing of what it says.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from myosotis.data import content
from myosotis.data.conversation import Message
from myosotis.data.example import canonical, pair_key
from myosotis.data.kept import FEW
from myosotis.data.near_duplicates import Near, grouped, signatures_of
from myosotis.data.sft import Example
from myosotis.data.stored_examples import Chosen, Told
from myosotis.utils.forked import cores, forked

PLACES_SHOWN = 10
CHUNK = 1024
"""Examples of one piece of work."""


class Repeats(NamedTuple):
    """Conversations that occur more than once, near duplicates, and what held-out examples share
    with those that are trained on, as plain data."""

    duplicates: dict[str, Any]
    near: dict[str, Any]
    leakage: dict[str, dict[str, Any]]


def survey(
    parts: Mapping[str, Sequence[Example]], processes: int | None = None
) -> tuple[dict[str, Any], Repeats]:
    """What the training examples hold (`content.survey`), and what of all repeats.

    `parts` has a "train"; `processes` None means the cores there are.
    """
    if processes is None:
        processes = cores(sum(map(len, parts.values())) // FEW)
    pieces: list[tuple[str, int] | None] = [None]
    pieces += [(part, i) for part, one in parts.items() for i in range(0, len(one), CHUNK)]
    with forked(_Work(parts).piece, pieces, processes) as done:
        held, marks = next(done), list(done)
    by_part = {
        part: _Marks.joined(
            [
                one
                for piece, one in zip(pieces[1:], marks, strict=True)
                if piece and piece[0] == part
            ]
        )
        for part in parts
    }
    return held, Repeats(
        _duplicates(parts["train"], by_part["train"]),
        _near(parts, by_part),
        {part: _leakage(parts, by_part, part) for part in parts if part != "train"},
    )


class _Marks(NamedTuple):
    """Of N examples: digests of the whole conversation and of its prompt, and the signatures."""

    whole: list[bytes]
    prompts: list[bytes]
    signatures: NDArray[np.uint32]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> _Marks:
        return cls(
            [_digest(pair_key(example)) for example in examples],
            [_digest(_prompt_key(example)) for example in examples],
            signatures_of(map(content.whole, examples)),
        )

    @classmethod
    def joined(cls, every: Sequence[_Marks]) -> _Marks:
        none = signatures_of([])
        return cls(
            [one for marks in every for one in marks.whole],
            [one for marks in every for one in marks.prompts],
            np.concatenate([none, *(marks.signatures for marks in every)]),
        )


@dataclass(frozen=True)
class _Work:
    parts: Mapping[str, Sequence[Example]]

    def piece(self, piece: tuple[str, int] | None) -> Any:
        """The survey (None: it takes the longest), or the marks of some examples of a part."""
        if piece is None:
            return content.survey(self.parts["train"])
        part, start = piece
        return _Marks.of(self.parts[part][start : start + CHUNK])


def _duplicates(examples: Sequence[Example], marks: _Marks) -> dict[str, Any]:
    places: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(marks.whole):
        places[key].append(i)
    groups = [numbers for numbers in places.values() if len(numbers) > 1]
    return {
        "groups": len(groups),
        "surplus": sum(len(numbers) - 1 for numbers in groups),
        "where": [[examples[i].where for i in numbers] for numbers in groups[:PLACES_SHOWN]],
    }


def _near(parts: Mapping[str, Sequence[Example]], marks: Mapping[str, _Marks]) -> dict[str, Any]:
    """Training examples that are almost another, and held-out ones that almost are one. What is
    the same to the letter counts once, in the first part that it is in."""
    place = [(part, i) for part, examples in parts.items() for i in range(len(examples))]
    first: dict[bytes, int] = {}
    for number, key in enumerate(key for one in marks.values() for key in one.whole):
        first.setdefault(key, number)
    different = np.array(list(first.values()), np.int64)
    signatures = np.concatenate([one.signatures for one in marks.values()])[different]
    texts = Told(_Joined(parts, place), content.whole)
    alike = grouped(Chosen(texts, different), signatures)
    return _told(parts, [place[number] for number in different.tolist()], alike)


def _told(
    parts: Mapping[str, Sequence[Example]], place: Sequence[tuple[str, int]], alike: Near
) -> dict[str, Any]:
    """What was found, by the places of the examples; `place[i]` is where text i is from."""

    def where(number: int) -> str:
        part, i = place[number]
        return parts[part][i].where

    trained: list[list[int]] = []
    held_out: dict[str, list[tuple[int, int]]] = {part: [] for part in parts if part != "train"}
    for members in alike.members():
        learned = [number for number in members if place[number][0] == "train"]
        if len(learned) > 1:
            trained.append(learned)
        for number in members:
            if learned and place[number][0] != "train":
                held_out[place[number][0]].append((number, learned[0]))
    trained.sort(key=len, reverse=True)
    return {
        "groups": len(trained),
        "surplus": sum(len(group) - 1 for group in trained),
        "where": [[where(n) for n in group[:PLACES_SHOWN]] for group in trained[:PLACES_SHOWN]],
        "held_out": {
            part: {
                "count": len(pairs),
                "where": [[where(a), where(b)] for a, b in sorted(pairs)[:PLACES_SHOWN]],
            }
            for part, pairs in held_out.items()
        },
    }


def _leakage(
    parts: Mapping[str, Sequence[Example]], marks: Mapping[str, _Marks], part: str
) -> dict[str, Any]:
    """Held-out examples whose prompt, or whole conversation, is also trained on, to the letter."""
    train, held_out = marks["train"], marks[part]
    learned: dict[bytes, int] = {}
    for i, key in enumerate(train.prompts):
        learned.setdefault(key, i)
    whole = set(train.whole)
    same = [(i, learned[key]) for i, key in enumerate(held_out.prompts) if key in learned]
    return {
        "prompts": len(same),
        "pairs": sum(key in whole for key in held_out.whole),
        "where": [[parts[part][i].where, parts["train"][j].where] for i, j in same[:PLACES_SHOWN]],
    }


class _Joined(Sequence[Example]):
    """The examples of all parts, one after the other."""

    def __init__(
        self, parts: Mapping[str, Sequence[Example]], place: Sequence[tuple[str, int]]
    ) -> None:
        self._parts, self._place = parts, place

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, index: Any) -> Any:
        part, i = self._place[index]
        return self._parts[part][i]


def _prompt_key(example: Example) -> str:
    return canonical([Message(m.role, m.content) for m in example.prompt])


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
