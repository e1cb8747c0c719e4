"""Benchmark items whose text stands in the training data: what was trained on is not retained.

An item that the model has learned by heart reads as *retained*, or better, whatever became of the
ability it stands for. It is found as Brown et al. 2020 found theirs (GPT-3, appendix C): by runs of
words that stand in a training text, too. They take 8 to 13 words and count any collision; here a
run has 8, and half of the item's words must lie in such runs (Touvron et al. 2023, Llama 2, app.
A.6, count words, too), so that a question is found whatever form it is asked in, and a quoted
sentence is no memory of a passage. An item is its question and right answer, or the whole passage.
Runs that many items of a benchmark share (the form it is asked in) are no evidence of one of them;
items of fewer words cannot be told from chance, and are counted apart.

The runs of the items are indexed, and the training texts pass by: memory depends on the suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from myosotis.data.shingles import Hashed, Hashes, Runs, chunks
from myosotis.retention.benchmarks.task import Item, Suite, Task
from myosotis.utils.forked import forked

RUN = 8  # words
FORM_SHARE = 0.1
"""A run in this share of a benchmark's items or more, and in `FORM_ITEMS` at least, is its form."""
FORM_ITEMS = 3
COVERED = 0.5
"""Of an item's words, in runs that stand in the training data, from which it counts as known."""
PIECE = 1024
"""Texts of one piece of work."""

_Hits = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Runs of an index that texts have, and the text of each (H,)."""


@dataclass(frozen=True)
class Contaminated:
    """What of one benchmark stands in the training data.

    `items` maps the id of each contaminated item to the share of its words that do, `where` to a
    training example that they stand in; `judged` of all `n` items had at least `RUN` words.
    """

    task: str
    n: int
    judged: int
    items: Mapping[str, float] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)

    def said(self) -> str:
        """The finding in a clause."""
        return f"{len(self.items)} of {self.judged} items (by runs of {RUN} words)"


def contaminated(
    suite: Suite, texts: Sequence[str], where: Sequence[str] = (), processes: int = 1
) -> list[Contaminated]:
    """Every benchmark of the suite against training texts; `where[i]` is the place of text i.

    The texts may be made when they are asked for; more `processes` are forks of this one.
    """
    search = _Search([_Index.of(task) for task in suite], texts)
    with forked(search.piece, range(0, len(texts), PIECE), processes) as pieces:
        for hits in pieces:
            for index, (numbers, first) in zip(search.indexes, hits, strict=True):
                index.meet(numbers, first)
    return [index.found(where) for index in search.indexes]


def warnings(found: Iterable[Contaminated], *, excluded: bool = False) -> list[str]:
    """A sentence for each benchmark with contaminated items."""
    done = "they are left out" if excluded else "retention.contaminated=exclude leaves them out"
    return [
        f"{one.task}: {one.said()} stand in the training data, such as {_example(one)}: they "
        f"measure memory, not what was retained; {done}"
        for one in found
        if one.items
    ]


def text_of(item: Item) -> str:
    """What is asked and the right answer, without solved examples before it."""
    return item.question or item.prompt


def _example(one: Contaminated) -> str:
    worst = max(one.items, key=lambda item: one.items[item])
    place = one.where.get(worst, "")
    return f"item {worst}" + (f" in {place}" if place else "")


@dataclass(frozen=True)
class _Search:
    """Texts that are looked through, `PIECE` at a time."""

    indexes: Sequence[_Index]
    texts: Sequence[str]

    def piece(self, start: int) -> list[_Hits]:
        """What the texts from `start` on have of each index."""
        hits: list[list[_Hits]] = [[] for _ in self.indexes]
        for chunk in chunks(self.texts[start : start + PIECE]):
            runs = Hashed.of(chunk).runs(RUN)
            for found, index in zip(hits, self.indexes, strict=True):
                found.append(index.hits(runs.numbers, runs.owner + start))
            start += len(chunk)
        return [_joined(found) for found in hits]


def _joined(hits: Sequence[_Hits]) -> _Hits:
    return np.concatenate([one[0] for one in hits]), np.concatenate([one[1] for one in hits])


class _Index:
    """The runs of one benchmark's items, and which of them were met."""

    def __init__(self, task: Task, judged: int, runs: Runs) -> None:
        self.task, self.judged, self.runs = task, judged, runs
        self.different, self.which = np.unique(runs.numbers, return_inverse=True)
        self.met = np.full(len(self.different), -1)  # the first text that each stands in

    @classmethod
    def of(cls, task: Task) -> _Index:
        """Index the items of a benchmark, without what many of them share."""
        hashed = Hashed.of([text_of(item) for item in task.items])
        runs = hashed.runs(RUN)
        in_item = np.unique(np.stack([runs.numbers, runs.owner.astype(np.uint64)]), axis=1)
        numbers, items = np.unique(in_item[0], return_counts=True)
        form = numbers[items >= max(FORM_ITEMS, FORM_SHARE * len(task.items))]
        kept = runs.taking(~np.isin(runs.numbers, form))
        return cls(task, int((hashed.lengths >= RUN).sum()), kept)

    def hits(self, numbers: Hashes, texts: NDArray[np.int64]) -> _Hits:
        """Which of the runs stand in some texts, and in which first; run i of those is of text
        `texts[i]`, and these rise."""
        if not len(self.different):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        at = np.searchsorted(self.different, numbers)
        at[at == len(self.different)] = 0
        hit = self.different[at] == numbers
        which, first = np.unique(at[hit], return_index=True)
        return which, texts[hit][first]

    def meet(self, which: NDArray[np.int64], texts: NDArray[np.int64]) -> None:
        """Mark runs that stand in texts, later than all before."""
        which, first = np.unique(which, return_index=True)
        new = self.met[which] < 0
        self.met[which[new]] = texts[first[new]]

    def found(self, where: Sequence[str]) -> Contaminated:
        """The items of which enough was met."""
        text = self.met[self.which]  # (R,)
        covered, all_words = (self._words(np.flatnonzero(one)) for one in (text >= 0, text == text))
        items, places = {}, {}
        for i, words in covered.items():
            share = words / all_words[i]
            if share >= COVERED:
                name = self.task.items[i].id
                items[name] = share
                first = int(text[(self.runs.owner == i) & (text >= 0)][0])
                places[name] = where[first] if first < len(where) else ""
        return Contaminated(self.task.name, len(self.task.items), self.judged, items, places)

    def _words(self, runs: NDArray[np.int64]) -> dict[int, int]:
        """How many words of each item lie in some runs of it, by the number of the item."""
        chosen = self.runs.taking(runs)
        inside = chosen.place[:, None] + np.arange(RUN)
        owner = np.repeat(chosen.owner, RUN)
        _, first = np.unique(inside.ravel(), return_index=True)
        numbers, counts = np.unique(owner[first], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
