"""The texts that controls read: general prose at hand, plain text, or examples of a file.

    prose, wikipedia     passages at hand (commands/protecting.py), none of which is measured
    notes.txt, notes.md  plain text; paragraphs are set apart by empty lines
    mine.jsonl, mine.parquet, hub:owner/name
                         records: their field `text`, or examples as training data has them

Running text is cut into pieces of so many tokens, each scored as a whole. Of an example only the
answers are scored, as in training.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from myosotis.controls import Given
from myosotis.data.places import HUB
from myosotis.data.readers import lines, rows
from myosotis.data.records import RecordError
from myosotis.data.sft import ANSWERS, CHATS, read_answers
from myosotis.data.span_tokenizer import SpanTokenizer
from myosotis.data.tokenize import encode
from myosotis.trees.tree import Path as TokenPath
from myosotis.trees.tree import Tree
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError, DataError
from myosotis.utils.read_file import read_bytes

GENERAL = ("prose", "wikipedia")
PLAIN = (".txt", ".text", ".md")
MOST = 20_000
"""Texts that are read of a source at most: the first ones, in the order they stand there."""

SHORTEST = 8
"""Tokens below which the rest of a text is left out: it would be read without context."""


def require(source: Any, key: str) -> None:
    """Raise `ConfigError` when `source` names no texts, or a file that is not there."""
    if not isinstance(source, str) or not source:
        raise ConfigError(
            f"{key}={source}: there is no text to read.",
            f"Name some: {key}=prose, wikipedia, a file, or hub:OWNER/NAME.",
        )
    if source in GENERAL or source.startswith(HUB) or Path(source).expanduser().exists():
        return
    hint = did_you_mean(source, GENERAL, "It is prose, wikipedia, a file, or hub:OWNER/NAME.")
    raise ConfigError(f"{key}: {source} does not exist.", hint)


def texts(source: str, given: Given, tokens: int, most: int = MOST) -> list[Tree]:
    """The texts that `source` names, the first `most` in the order they stand there; no piece of
    running text is longer than `tokens`. Raises `DataError` for a file that cannot be used, or
    gives nothing."""
    if source in GENERAL:
        found = pieces(given.general(source), given, tokens)
    elif (path := Path(source).expanduser()).suffix.lower() in PLAIN:
        found = pieces(paragraphs(path), given, tokens)
    else:
        found = _records(source if source.startswith(HUB) else str(path), given, tokens, most)
    taken = list(itertools.islice(found, most))
    if not taken:
        raise DataError(
            f"{source} holds no text of {SHORTEST} tokens", "longer texts, or another file"
        )
    return taken


def pieces(running: Iterable[str], given: Given, tokens: int) -> Iterator[Tree]:
    """Running text as trees of at most `tokens` scored tokens, each behind what opens a text."""
    tokenizer = SpanTokenizer(given.renderer.tokenizer)
    opening, room = tokenizer.opening(""), min(tokens, given.context_length)
    for text in running:
        ids = tokenizer.ids(text, verbatim=True, first=False)
        for part in (ids[i : i + room] for i in range(0, len(ids), room)):
            if len(part) >= SHORTEST or (part and len(ids) < SHORTEST):
                weights = [0.0] * len(opening) + [1.0] * len(part)
                yield Tree.of([TokenPath([*opening, *part], weights)])


def paragraphs(path: Path) -> Iterator[str]:
    """What empty lines set apart, single-spaced within."""
    try:
        raw = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        for _ in lines(path):  # which names the line
            pass
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    for empty, block in itertools.groupby(raw.splitlines(), lambda line: not line.strip()):
        if not empty:
            yield " ".join(" ".join(block).split())


def _records(source: str, given: Given, tokens: int, most: int) -> Iterator[Tree]:
    first = next((record for _, record in rows(source)), None)
    if isinstance(first, dict) and "text" in first and not {*CHATS, *ANSWERS} & first.keys():
        return pieces(_text_fields(source), given, tokens)
    examples = read_answers(source).examples[:most]
    read = encode(examples, given.renderer, max_length=given.context_length)
    return (tree for tree in read.trees if tree.scored)


def _text_fields(source: str) -> Iterator[str]:
    for where, record in rows(source):
        if isinstance(record, RecordError):
            raise DataError(f"{where}: {record}", record.hint)
        if not isinstance(record.get("text"), str):
            raise DataError(f"{where}: no field 'text', which the first record has")
        yield record["text"]
