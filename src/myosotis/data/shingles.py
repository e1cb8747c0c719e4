"""Runs of words as numbers: what near duplicates, contamination and diversity are counted on.

A text is the sequence of its words, in lower case and without punctuation; where a script writes no
spaces (Chinese, Japanese, Thai and their like) each character is a word. A run of n words becomes
one 64-bit number, so that a hundred thousand texts are compared as arrays. Two different runs share
a number with a probability of 2^-64 for each pair; nothing here needs more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Scripts without spaces between words: South-East Asian ones, and everything from the CJK radicals
# to the end of the unified ideographs, with what lies above the basic plane.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiplies bits into each other

CHUNK_CHARACTERS = 4_000_000
"""Text that is hashed together: what bounds the memory, whatever the size of the data."""


def words(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return _WORD.findall(text.lower())


class Runs(NamedTuple):
    """Runs of words: a number for each (R,), the text that it lies in, and the place of its first
    word among all words."""

    numbers: Hashes
    owner: NDArray[np.int64]
    place: NDArray[np.int64]

    def taking(self, which: NDArray[Any]) -> Runs:
        """Some of them."""
        return Runs(self.numbers[which], self.owner[which], self.place[which])


@dataclass(frozen=True)
class Hashed:
    """The words of N texts as numbers (W,): text i is `hashes[starts[i]:starts[i + 1]]`."""

    hashes: Hashes
    starts: NDArray[np.int64]  # (N + 1,)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Hashed:
        """Hash the words of some texts."""
        from pandas.util import hash_array

        told = [words(text) for text in texts]
        starts = np.zeros(len(told) + 1, np.int64)
        np.cumsum([len(one) for one in told], out=starts[1:])
        flat = np.array([word for one in told for word in one], dtype=object)
        hashes = hash_array(flat) if len(flat) else np.zeros(0, np.uint64)  # type: ignore[operator]
        return cls(hashes, starts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Words of each text (N,)."""
        return np.diff(self.starts)

    def runs(self, n: int) -> Runs:
        """The runs of n words; a text of fewer words has none."""
        count = len(self.hashes) - n + 1
        if count < 1:
            none = np.zeros(0, np.int64)
            return Runs(np.zeros(0, np.uint64), none, none)
        numbers = np.zeros(count, np.uint64)
        with np.errstate(over="ignore"):
            for k in range(n):  # ((w0 c + w1) c + w2) c + …: the order of the words counts
                numbers = (numbers * _ODD) + self.hashes[k : k + count]
            numbers ^= numbers >> np.uint64(29)
            numbers *= _ODD
        owner = np.repeat(np.arange(len(self.starts) - 1), self.lengths)
        inside = owner[:count] == owner[n - 1 :]
        return Runs(numbers[inside], owner[:count][inside], np.flatnonzero(inside))


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in their order, in pieces of about `CHUNK_CHARACTERS`."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text) + 1
        if size >= CHUNK_CHARACTERS:
            yield held
            held, size = [], 0
    if held:
        yield held
