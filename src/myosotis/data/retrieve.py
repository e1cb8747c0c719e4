"""Which solved examples are like a question: BM25 over the words of their prompts.

Robertson & Zaragoza 2009, equation 3.15, with Lucene's idf, ln(1 + (N − n + ½) / (n + ½)), which is
never below 0; k1 = 1.2 and b = 0.75 as there.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from myosotis.data.sft import Example

WORD = re.compile(r"\w+")
K1, B = 1.2, 0.75


def words(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return WORD.findall(text.lower())


class BM25:
    """An index of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        self._size = len(texts)
        lengths = np.array([sum(count.values()) for count in counts], float)
        mean = float(lengths.mean()) if self._size else 1.0
        self._norm = K1 * (1 - B + B * lengths / max(mean, 1e-12))  # (texts,)
        self._places: dict[str, list[tuple[int, int]]] = {}
        for i, count in enumerate(counts):
            for word, times in count.items():
                self._places.setdefault(word, []).append((i, times))

    def scores(self, query: str) -> np.ndarray:
        """(texts,) how well each fits; a word of the query counts as often as it stands there."""
        found = np.zeros(self._size)
        for word in words(query):
            places = self._places.get(word, [])
            n = len(places)
            idf = math.log(1 + (self._size - n + 0.5) / (n + 0.5))
            for i, times in places:
                found[i] += idf * times * (K1 + 1) / (times + self._norm[i])
        return found

    def best(self, query: str, k: int) -> list[int]:
        """The places of the `k` best, the best first; among equals the first comes first."""
        return np.argsort(-self.scores(query), kind="stable")[:k].tolist()


def retrieve(
    questions: Sequence[Example], solved: Sequence[Example], k: int
) -> list[list[Example]]:
    """For each question the `k` solved examples whose prompts are most like its own."""
    if not k or not solved:
        return []
    index = BM25([_asked(example) for example in solved])
    return [[solved[i] for i in index.best(_asked(one), k)] for one in questions]


def _asked(example: Example) -> str:
    return " ".join(message.content for message in example.prompt if message.role == "user")
