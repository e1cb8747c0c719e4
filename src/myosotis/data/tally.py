"""How a large data set fits the model, counted without keeping its trees.

An audit asks for lengths, for what is dropped or cut, and for what the model does not know; a
hundred thousand trees would fill a gigabyte for that. Here examples become trees a few hundred at a
time, in as many processes as there are cores, and only the numbers stay.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from multiprocessing import get_context

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example
from myosotis.data.tokenize import Encoded, Fitted, Overlong, encode

CHUNK = 256
"""Examples whose trees are there together, in each process."""
FEWEST = 4 * CHUNK
"""Examples below which another process costs more than it saves."""
MOST_PROCESSES = 8

Advance = Callable[[int], None]


@dataclass
class Tally(Fitted):
    """The numbers of a set of examples whose trees are gone."""

    tree_tokens: list[int] = field(default_factory=list)  # of each tree
    tree_sizes: list[list[float]] = field(default_factory=list)  # see `Fitted.sizes`
    largest: tuple[int, str] = (0, "")  # the largest token id, and `where`

    @property
    def kept(self) -> int:
        return len(self.tree_tokens)

    @property
    def tokens(self) -> int:
        return sum(self.tree_tokens)

    @property
    def scored(self) -> float:
        return sum(map(sum, self.tree_sizes))

    @property
    def sizes(self) -> Sequence[Sequence[float]]:
        return self.tree_sizes

    @classmethod
    def of(cls, encoded: Encoded) -> Tally:
        """What stays of some trees."""
        known = {one.name: getattr(encoded, one.name) for one in fields(Fitted)}
        pairs = zip(encoded.trees, encoded.examples, strict=True)
        return cls(
            **known,
            tree_tokens=[len(tree) for tree in encoded.trees],
            tree_sizes=[list(sizes) for sizes in encoded.sizes],
            largest=max(((int(t.ids.max()), e.where) for t, e in pairs), default=(0, "")),
        )

    def add(self, other: Tally) -> None:
        """Count what comes after."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, list):
                mine.extend(theirs)
        self.windows |= other.windows
        for note, where in other.notes.items():
            self.notes.setdefault(note, []).extend(where)
        self.prompt_too_long += other.prompt_too_long
        self.largest = max(self.largest, other.largest)


@dataclass(frozen=True)
class _Work:
    examples: Sequence[Example]
    template: ChatRenderer
    max_length: int
    overlong: Overlong

    def chunk(self, start: int) -> Tally:
        examples = self.examples[start : start + CHUNK]
        made = encode(examples, self.template, max_length=self.max_length, overlong=self.overlong)
        return Tally.of(made)


_work: list[_Work] = []
"""What the forked processes inherit: neither examples nor tokenizer go through a pipe."""


def tally(
    examples: Sequence[Example],
    template: ChatRenderer,
    *,
    max_length: int,
    overlong: Overlong = "drop",
    advance: Advance = lambda n: None,
    processes: int | None = None,
) -> Tally:
    """The numbers of what `encode` makes of the examples; raises what it raises.

    `advance(n)` is called for every n examples done; `processes` None means the cores there are.
    """
    total = Tally(max_length=max_length)
    work = _Work(examples, template, max_length, overlong)
    starts = range(0, len(examples), CHUNK)
    with _mapped(work, starts, processes or cores(len(examples))) as tallies:
        for start, part in zip(starts, tallies, strict=True):
            total.add(part)
            advance(min(CHUNK, len(examples) - start))
    return total


def cores(count: int) -> int:
    """How many processes are worth it for so many examples."""
    if count < FEWEST or sys.platform != "linux":  # elsewhere a fork of threads is not safe
        return 1
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES, count // CHUNK)


@contextmanager
def _mapped(work: _Work, starts: range, processes: int) -> Iterator[Iterator[Tally]]:
    """The chunks in their order, each when it is done."""
    if processes == 1:
        yield map(work.chunk, starts)
        return
    _work.append(work)
    # The tokenizers' own threads do not survive a fork, and say so unless they are told not to be.
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        with get_context("fork").Pool(processes) as pool:
            yield pool.imap(_chunk, starts)
    finally:
        _work.pop()
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _chunk(start: int) -> Tally:
    return _work[-1].chunk(start)
