"""Texts that are almost the same: MinHash over runs of words, in bands (Broder 1997; Lee et al.
2022, "Deduplicating training data makes language models better").

Two texts are near duplicates when at least `THRESHOLD` of the runs of `RUN` words that either has
are in both (Jaccard's index). A signature estimates that from `ROWS * BANDS` minima; texts that
agree in a whole band are held against each other by their runs themselves, so that none is called a
duplicate by chance. A pair at the threshold is met in one of the bands with a probability of
1 - (1 - 0.7^4)^16 = 0.99, one at half of it with 0.02 (and is then refused).

Kept in memory for each text: its signature of 256 bytes, and nothing of what it says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from myosotis.data.shingles import Hashed, chunks, words

RUN = 3  # words; of longer runs a short answer has too few
THRESHOLD = 0.7
BANDS, ROWS = 16, 4
FEWEST_RUNS = 5
"""Texts of fewer runs are compared to the letter alone: one word would make all the difference."""
SEED = 0
NONE = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class Near:
    """Groups of near duplicates: `group[i]` is the smallest number of a text in the group of text i
    (N,); `near[i]` is the text it was found alike to, and `alike[i]` Jaccard's index of the two;
    -1 and 0 where there is none."""

    group: NDArray[np.int64]
    near: NDArray[np.int64]
    alike: NDArray[np.float64]

    def members(self) -> list[list[int]]:
        """The groups of more than one text, by their first."""
        found: dict[int, list[int]] = defaultdict(list)
        for i, first in enumerate(self.group.tolist()):
            found[first].append(i)
        return [one for one in found.values() if len(one) > 1]


def near_duplicates(texts: Sequence[str]) -> Near:
    """The near duplicates among N texts."""
    return grouped(texts, signatures_of(texts))


def signatures_of(texts: Iterable[str]) -> NDArray[np.uint32]:
    """MinHash signatures (N, BANDS * ROWS); all `NONE` for a text of fewer than `FEWEST_RUNS`."""
    parts = [_signatures(Hashed.of(chunk)) for chunk in chunks(texts)]
    return np.concatenate(parts) if parts else np.zeros((0, BANDS * ROWS), np.uint32)


def _signatures(hashed: Hashed) -> NDArray[np.uint32]:
    numbers, owner, _ = hashed.runs(RUN)
    count = len(hashed.starts) - 1
    signatures = np.full((count, BANDS * ROWS), NONE)
    sizes = np.bincount(owner, minlength=count)
    usable = np.flatnonzero(sizes >= FEWEST_RUNS)
    if not len(usable):
        return signatures
    there = np.flatnonzero(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes[there])[:-1]])
    keep = np.isin(there, usable)
    for k, (odd, add) in enumerate(_permutations()):
        with np.errstate(over="ignore"):
            mixed = ((numbers * odd + add) >> np.uint64(32)).astype(np.uint32)
        signatures[usable, k] = np.minimum.reduceat(mixed, starts)[keep]
    return signatures


def _permutations() -> list[tuple[np.uint64, np.uint64]]:
    """Multiply-and-add functions of 64 bits, of which the upper half is taken (Dietzfelbinger et
    al. 1997): nearly as good as random permutations, and one pass each."""
    draw = np.random.default_rng(SEED).integers(0, 2**63, (BANDS * ROWS, 2), dtype=np.uint64)
    return [(np.uint64(a * 2 + 1), np.uint64(b)) for a, b in draw.tolist()]


def grouped(texts: Sequence[str], signatures: NDArray[np.uint32]) -> Near:
    """The near duplicates among N texts whose signatures (N, BANDS * ROWS) are known."""
    count = len(signatures)
    group = np.arange(count)
    near = np.full(count, -1)
    alike = np.zeros(count)
    usable = np.flatnonzero((signatures != NONE).any(1))
    for band in range(BANDS):
        columns = signatures[usable, band * ROWS : (band + 1) * ROWS]
        order = np.lexsort(columns.T)
        sorted_columns = columns[order]
        change = (sorted_columns[1:] != sorted_columns[:-1]).any(1)
        edges = np.concatenate([[0], np.flatnonzero(change) + 1, [len(order)]])
        for i in np.flatnonzero(np.diff(edges) > 1).tolist():
            members = usable[order[edges[i] : edges[i + 1]]].tolist()
            _link(texts, members, signatures, group, near, alike)
    group[:] = [_first(group, i) for i in range(count)]
    return Near(group, near, alike)


def _link(
    texts: Sequence[str],
    members: list[int],
    signatures: NDArray[np.uint32],
    group: NDArray[np.int64],
    near: NDArray[np.int64],
    alike: NDArray[np.float64],
) -> None:
    """Join the members of a bucket that are alike: each with the first of the groups there are."""
    heads: list[int] = []
    for i in members:
        for head in heads[:MOST_HEADS]:
            first, other = _first(group, head), _first(group, i)
            if first == other:
                break
            # An estimate first: the texts themselves are read of those that can be alike.
            if (signatures[i] == signatures[head]).mean() < THRESHOLD - 0.2:
                continue
            if (index := jaccard(texts[i], texts[head])) >= THRESHOLD:
                low, high = min(first, other), max(first, other)
                group[high] = low
                near[i], alike[i] = head, index
                break
        else:
            heads.append(i)


MOST_HEADS = 20
"""Texts of one bucket that another is held against; more are there only where a band says little,
such as for one long form that was filled in a thousand ways."""


def _first(group: NDArray[np.int64], i: int) -> int:
    """The smallest number in the group of text i; paths are halved on the way."""
    while group[i] != i:
        group[i] = group[group[i]]
        i = int(group[i])
    return i


def jaccard(one: str, other: str) -> float:
    """The runs of `RUN` words that both texts have, over those that either has."""
    a, b = (_runs(text) for text in (one, other))
    either = len(a | b)
    return len(a & b) / either if either else 0.0


def _runs(text: str) -> set[tuple[str, ...]]:
    told = words(text)
    return set(zip(*(told[k:] for k in range(RUN)), strict=False))
