"""General text as a benchmark, in bits per byte; and the text that every Python carries.

What belongs here: passages of running text as a task, and those of Python's documentation. Those of
Wikipedia are in `wikipedia.py`.

`pydoc_data.topics` is the language reference as text, one entry a topic. Its paragraphs of prose
(headings, grammar and code left out) are joined to passages of about 600 characters. The cut
depends on nothing but the text, and the text on the Python version, which is therefore part of the
benchmark's identity.

It is technical prose: a model tuned on Python text may get better at it, while it forgets other
text. So it stands beside Wikipedia in the default suite, and every figure names its text.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from myosotis.retention.benchmarks.requests import ROLLING, Encoder, Window
from myosotis.retention.benchmarks.task import Half, Item, Task, fingerprint
from myosotis.trees.tree import Tree

PASSAGE_CHARACTERS = 600
"""A passage ends at the first paragraph end behind this many characters."""

SHORTEST = 200
"""What is left of a topic when it has been cut is dropped below this many characters."""

ENOUGH = 64
"""Passages that are drawn at most unless all are asked for. A half of them tells the change of bits
per byte to about 0.007, where the budget is some 0.05; and each is as long as four questions."""


SOURCE = "pydoc_data.topics"


class Passage(NamedTuple):
    """A few paragraphs or sentences of one topic, where the text has topics."""

    topic: str | None
    number: int
    text: str


def version() -> str:
    """What the text depends on: these rules, and the Python that carries it."""
    return f"1, Python {platform.python_version()}"


def passages() -> list[Passage]:
    """All passages, by topic. Topics repeat sections of each other; each passage comes once."""
    from pydoc_data import topics

    seen: set[str] = set()
    kept: list[Passage] = []
    for topic in sorted(topics.topics):
        for text in cut(topics.topics[topic]):
            if text not in seen:
                seen.add(text)
                kept.append(Passage(topic, len(kept), text))
    return kept


def cut(text: str) -> Iterator[str]:
    """Passages of at least `PASSAGE_CHARACTERS`: whole paragraphs of prose, single-spaced."""
    taken: list[str] = []
    for block in text.split("\n\n"):
        paragraph = " ".join(block.split())
        if not is_prose(paragraph):
            continue
        taken.append(paragraph)
        if sum(map(len, taken)) >= PASSAGE_CHARACTERS:
            yield "\n\n".join(taken)
            taken = []
    if sum(map(len, taken)) >= SHORTEST:
        yield "\n\n".join(taken)


def is_prose(paragraph: str) -> bool:
    """At least ten words, nine characters of ten letters or spaces, no grammar, no code."""
    if any(mark in paragraph for mark in ("::=", ">>>", "***", "===")):
        return False
    spaces = paragraph.count(" ")
    if spaces < 9:
        return False
    return spaces + sum(map(str.isalpha, paragraph)) >= 0.9 * len(paragraph)


def task(
    name: str,
    encoder: Encoder,
    passages: Sequence[Passage],
    drawn: Sequence[tuple[int, Half]],
    version: str,
    source: str,
) -> Task:
    """The drawn passages as a task of its own: bits per byte, clustered by topic.

    `version` and `source` are what the text depends on and where it is from.
    """
    return Task(
        name=name,
        kind="loglikelihood_rolling",
        metric="bits_per_byte",
        higher_is_better=False,
        chance=None,
        version=version,
        source=source,
        substitution="",
        num_fewshot=0,
        chat_template=False,
        population=len(passages),
        items=tuple(_item(name, encoder, passages[row], half) for row, half in drawn),
        aggregations={},
    )


TOKENS = 128
"""Of a passage whose tokens are looked at one by one: more passages tell more than longer ones."""


def drawn(population: int, count: int, seed: int) -> list[int]:
    """The passages that `texts` takes, by number."""
    draw = random.Random(f"myosotis texts {seed}")
    return draw.sample(range(population), min(count, population))


def texts(encoder: Encoder, count: int, seed: int) -> list[Tree]:
    """The beginnings (`TOKENS`) of a seeded choice of passages, to be scored; a tree each."""
    pool = passages()
    rows = drawn(len(pool), count, seed)
    whole = [next(encoder.rolling(pool[row].text)) for row in rows]
    return [Tree.of([Window(ids[: start + TOKENS], start).path()]) for ids, start in whole]


def _item(name: str, encoder: Encoder, passage: Passage, half: Half) -> Item:
    return Item(
        task=name,
        id=f"{passage.number}-{fingerprint(passage.text)}",
        member=name,
        cluster=passage.topic,
        half=half,
        prompt=passage.text,
        choices=(),
        gold=(),
        lengths=(len(passage.text),),
        num_bytes=(len(passage.text.encode()),),
        requests=(encoder.request(ROLLING, (passage.text,)),),
        judge=lambda answers: {},
    )
