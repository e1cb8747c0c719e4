"""Where examples come from, and which of them are held out.

A source returns a `Dataset`: `train` is learned from; `validation` gives the loss watched while
training and chooses the checkpoint; `test` is what task quality is measured on and chooses nothing.
Held-out examples are taken by content: what opens a conversation is hashed, and examples that open
alike (case and white space aside) lie on the same side. So no prompt is both learned and tested,
adding lines to a file hardly moves the others, and the split does not depend on the training seed:
all trials of a sweep are measured on the same examples.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from myosotis.data import docstrings as harvest
from myosotis.data.formats import Example, Message, Records, read_jsonl
from myosotis.data.pairs import PairRecords, read_pairs
from myosotis.errors import ConfigError, DataError

VAL_FRACTION = 0.1
HELD_OUT_AT_MOST = 1000  # examples, when no fraction is given: more sharpen little and cost time


@dataclass
class Dataset:
    """Examples by what they are for, and the manifest: plain data that says what they are."""

    name: str
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    manifest: dict[str, Any] = field(default_factory=dict)

    def parts(self) -> dict[str, list[Example]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def sealed(self) -> Dataset:
        """The manifest completed with the row counts and the content hash."""
        self.manifest["rows"] = {part: len(examples) for part, examples in self.parts().items()}
        self.manifest["hash"] = content_hash(self)
        return self


def content_hash(dataset: Dataset) -> str:
    """sha256 of all messages, part by part in their order; where they came from is left out."""
    digest = hashlib.sha256()
    for part, examples in dataset.parts().items():
        digest.update(part.encode())
        for example in examples:
            more = [example.completion_only, *filter(None, [example.rejected])]
            digest.update(canonical(example.messages, *more).encode())
    return digest.hexdigest()


def jsonl(
    path: str | Path | None,
    *,
    name: str = "jsonl",
    val_path: str | Path | None = None,
    test_path: str | Path | None = None,
    val_fraction: float | None = None,
    prompt_key: str | None = None,
    completion_key: str | None = None,
    train_items: int | None = None,
    val_items: int | None = None,
    test_items: int | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Examples of a user's own file (its formats: formats.py).

    Held out are `val_path` and `test_path` where given. With `val_path` alone, half of it is the
    test part; with neither, `val_fraction` of `path` (default: a tenth, at most 1000 examples),
    again in halves. `*_items` take a seeded subset. Raises `DataError` on any line that cannot be
    used, and when a file is too small to hold anything out.
    """
    return _from_files(
        lambda file: read_jsonl(file, prompt_key=prompt_key, completion_key=completion_key),
        path,
        name,
        val_path,
        test_path,
        val_fraction,
        (train_items, val_items, test_items),
        split_seed,
    )


def pairs(
    path: str | Path | None,
    *,
    name: str = "pairs",
    val_path: str | Path | None = None,
    test_path: str | Path | None = None,
    val_fraction: float | None = None,
    train_items: int | None = None,
    val_items: int | None = None,
    test_items: int | None = None,
    split_seed: int = 0,
) -> Dataset:
    """Preference pairs of a user's own file (its formats: pairs.py); held out as in `jsonl`."""
    return _from_files(
        read_pairs,
        path,
        name,
        val_path,
        test_path,
        val_fraction,
        (train_items, val_items, test_items),
        split_seed,
    )


def _from_files(
    read_file: Callable[[str | Path], Records | PairRecords],
    path: str | Path | None,
    name: str,
    val_path: str | Path | None,
    test_path: str | Path | None,
    val_fraction: float | None,
    items: tuple[int | None, int | None, int | None],
    split_seed: int,
) -> Dataset:
    if path is None:
        raise ConfigError("data.path is not set", "data.path=FILE.jsonl, one JSON object a line")
    if val_path is not None and val_fraction is not None:
        raise ConfigError("both data.val_path and data.val_fraction are set", "give one of them")
    if test_path is not None and val_path is None:
        raise ConfigError("data.test_path is set, data.val_path is not", "give both, or val_path")
    read: dict[str, Records | PairRecords] = {}

    def examples(file: str | Path) -> list[Example]:
        read[str(file)] = read_file(file)
        return read[str(file)].examples

    train = examples(path)
    if val_path is None:
        _require(train, 3, path, "data.val_path=FILE.jsonl")
        count = _held_out(len(train), val_fraction)
        train, held_out, grouped = hold_out(train, count, split_seed)
        validation, test = halves(held_out, split_seed)
    else:
        validation, grouped = examples(val_path), "file"
        if test_path is None:
            _require(validation, 2, val_path, "data.test_path=FILE.jsonl")
            validation, test = halves(validation, split_seed)
        else:
            test = examples(test_path)
    manifest = {
        "source": "files",
        "files": [
            {"name": Path(file).name, "records": len(records.examples), "unused": records.unused}
            for file, records in read.items()
        ],
        "held_out_by": grouped,
        "empty_answers": [where for records in read.values() for where in records.empty_answers],
        "identical": [w for r in read.values() for w in getattr(r, "identical", ())],
    }
    return Dataset(
        name,
        take(train, items[0], split_seed),
        take(validation, items[1], split_seed),
        take(test, items[2], split_seed),
        manifest,
    ).sealed()


def docstrings(
    *,
    name: str = "docstrings",
    packages: Sequence[str] | None = None,
    val_packages: Sequence[str] | None = None,
    test_packages: Sequence[str] | None = None,
    max_source_chars: int = 600,
    train_items: int | None = None,
    val_items: int | None = None,
    test_items: int | None = None,
    split_seed: int = 0,
    cache: Path | None = None,
) -> Dataset:
    """Functions of installed packages and the first sentence of their docstrings (docstrings.py).

    Split by package: validation and test functions come from packages never trained on (which
    ones: docstrings.py, unless named here). `cache` is the folder of harvests, by default under the
    user's cache. Raises `DataError` when a part is empty because its packages are not installed.
    """
    roles = {
        "test": test_packages or harvest.TEST_PACKAGES,
        "validation": val_packages or harvest.VAL_PACKAGES,
        "train": packages or harvest.PACKAGES,
    }
    # This order decides who keeps a function that two packages share: what is held out.
    every = [package for members in roles.values() for package in members]
    if twice := sorted({package for package in every if every.count(package) > 1}):
        raise ConfigError(f"docstrings: named twice in the split: {', '.join(twice)}")
    harvested = harvest.load(every, max_source_chars=max_source_chars, cache=cache)
    parts: dict[str, list[Example]] = {}
    for part, members in roles.items():
        pairs = [pair for pair in harvested.pairs if pair.package in set(members)]
        if not pairs:
            raise DataError(f"docstrings: none of {', '.join(members)} is installed ({part} part)")
        parts[part] = [_docstring_example(pair) for pair in pairs]
    manifest = {
        "source": "docstrings",
        "packages": {part: list(members) for part, members in roles.items()},
        **harvested.manifest,
    }
    return Dataset(
        name,
        take(parts["train"], train_items, split_seed),
        take(parts["validation"], val_items, split_seed),
        take(parts["test"], test_items, split_seed),
        manifest,
    ).sealed()


def docstring_pairs(**words: Any) -> Dataset:
    """`docstrings` as preferences: rejected is the sentence of the most similar other function.

    It is hard and real: a true sentence about code that looks alike (TF-IDF of the words of the
    source, cosine). Takes the keywords of `docstrings`.
    """
    found = docstrings(**words)
    parts = {part: _with_neighbours(examples) for part, examples in found.parts().items()}
    return replace(
        found, **parts, manifest={**found.manifest, "source": "docstring_pairs"}
    ).sealed()


NEIGHBOURS = 5


def _with_neighbours(examples: list[Example]) -> list[Example]:
    """Each example with the answer of its nearest neighbour that answers something else."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(examples) - 1)
    texts = [example.prompt[-1].content for example in examples]
    vectors = TfidfVectorizer(token_pattern=r"[^\W_]+", sublinear_tf=True).fit_transform(texts)
    nearest = NearestNeighbors(n_neighbors=count, metric="cosine").fit(vectors)
    paired = []
    for example, order in zip(examples, nearest.kneighbors(return_distance=False), strict=True):
        others = (examples[i].completion for i in order)
        wrong = next((text for text in others if text != example.completion), None)
        if wrong is not None:
            paired.append(replace(example, rejected=wrong))
    return paired


def _docstring_example(pair: harvest.Pair) -> Example:
    messages = Message("user", harvest.prompt(pair.source)), Message("assistant", pair.sentence)
    return Example(messages, pair.where)


# Splitting.


def take(examples: list[Example], count: int | None, seed: int) -> list[Example]:
    """A seeded subset, in the order of the file; it grows with `count`, never changes places."""
    if count is None or count >= len(examples):
        return examples
    if count < 1:
        raise ConfigError(f"data.*_items must be at least 1, or null for all (got {count})")
    ranked = sorted(range(len(examples)), key=lambda i: _rank(pair_key(examples[i]), seed))
    return [examples[i] for i in sorted(ranked[:count])]


def hold_out(
    examples: list[Example], count: int, seed: int
) -> tuple[list[Example], list[Example], str]:
    """Take about `count` of `examples` out, whole groups of equal openings together.

    Returns what stays, what was taken, and what was grouped by: "opening", or "pair" when one
    opening covers more than half of the examples (plain text without prompts, one prompt for all):
    then only equal conversations stay together. Two different conversations are needed at least;
    neither side is ever empty.
    """
    groups, by = _grouped(examples, opening_key), "opening"
    if max(map(len, groups.values())) > len(examples) / 2:
        groups, by = _grouped(examples, pair_key), "pair"
    taken: set[int] = set()
    for group in sorted(groups, key=lambda group: _rank(group, seed)):
        members = groups[group]
        if len(taken) >= count:
            break
        # A large group stays, rather than let the held-out part grow far beyond `count`.
        too_many = len(taken) + len(members) > max(2 * count, 1)
        if len(taken) + len(members) < len(examples) and not (taken and too_many):
            taken.update(members)
    stay = [example for i, example in enumerate(examples) if i not in taken]
    return stay, [examples[i] for i in sorted(taken)], by


def halves(examples: list[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Held-out examples as validation and test; equal openings stay together."""
    # Another seed than that of the first cut: by its ranks, all of these come early.
    validation, test, _ = hold_out(examples, len(examples) // 2, seed + 1)
    return validation, test


def _require(examples: list[Example], different: int, file: str | Path, instead: str) -> None:
    if (found := len({pair_key(example) for example in examples})) < different:
        raise DataError(
            f"{file} holds {found} different records; at least {different} are needed to hold "
            "some out, which task quality is measured on",
            f"or give a file for that: {instead}",
        )


def opening_key(example: Example) -> str:
    """What opens the conversation (all before the first answer), case and white space aside."""
    opening: list[Message] = []
    for message in example.messages:
        if message.role == "assistant":
            break
        opening.append(message)
    return canonical([Message(m.role, _folded(m.content)) for m in opening])


def pair_key(example: Example) -> str:
    """The whole conversation, to the letter; of a pair, with both answers."""
    return canonical(example.messages, *filter(None, [example.rejected]))


def canonical(messages: Iterable[Message], *more: object) -> str:
    """The messages as text that is equal only for equal messages."""
    plain = [[message.role, message.content, message.scored] for message in messages]
    return json.dumps([plain, *more], ensure_ascii=False)


def _held_out(total: int, fraction: float | None) -> int:
    if fraction is None:
        return min(max(2, round(total * VAL_FRACTION)), HELD_OUT_AT_MOST)
    if not 0 < fraction < 1:
        raise ConfigError(
            f"data.val_fraction must lie between 0 and 1 (got {fraction})",
            "task quality is measured on what is held out",
        )
    return max(2, round(total * fraction))


def _grouped(examples: Iterable[Example], key: Callable[[Example], str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        groups[key(example)].append(i)
    return groups


def _rank(text: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=16).digest()


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
