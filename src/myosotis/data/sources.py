"""Where examples come from, and which of them are held out.

A source returns a `Dataset`: `train` is learned from; `validation` gives the loss watched while
training and chooses the checkpoint; `test` is what task quality is measured on and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from myosotis.data import docstrings as harvest
from myosotis.data.example import Dataset
from myosotis.data.fields import Fields
from myosotis.data.markers import marked
from myosotis.data.places import HubData, Place, described, short
from myosotis.data.preference import read_pairs
from myosotis.data.sft import Example, Message, Records, read_answers
from myosotis.data.splits import halves, held_out_count, hold_out, require, take
from myosotis.data.unpaired import read_grades
from myosotis.utils.errors import ConfigError, DataError


def files(
    path: str | Path | None = None,
    *,
    hub: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    reads: str = "answers",
    name: str = "files",
    val_path: str | Path | None = None,
    test_path: str | Path | None = None,
    val_fraction: float | None = None,
    prompt_key: str | None = None,
    completion_key: str | None = None,
    train_items: int | None = None,
    val_items: int | None = None,
    test_items: int | None = None,
    split_seed: int = 0,
    allow_markers: bool = False,
) -> Dataset:
    """Examples of a user's own files, or of a data set of the hub (places.py).

    `fields` names those of the records where they are not the usual ones (fields.py). `reads` says
    what is on a line: answers (sft.py), pairs (preference.py) or grades (unpaired.py). Held out are
    `val_path` and `test_path` where given. With `val_path` alone, half of it is the test part; with
    neither, `val_fraction` of `path` (default: a tenth, at most 1000 examples), again in halves.
    `*_items` take a seeded subset. `prompt_key` and `completion_key` are what earlier versions
    called two of the fields. Raises `DataError` on any line that cannot be used, and when a file is
    too small to hold anything out. The manifest names the markers of chat templates in the text,
    and whether they are allowed (markers.py).
    """
    learned, validated, tested = _parts(path, val_path, test_path, hub or {})
    if validated is not None and val_fraction is not None:
        raise ConfigError("both data.val_path and data.val_fraction are set", "give one of them")
    if tested is not None and validated is None:
        raise ConfigError("data.test_path is set, data.val_path is not", "give both, or val_path")
    read: dict[str, tuple[Place, Records]] = {}
    named = Fields({"prompt": prompt_key, "completion": completion_key} | _given(fields))

    def examples(place: Place) -> list[Example]:
        read[str(place)] = place, _read(reads, place, named)
        return read[str(place)][1].examples

    train = examples(learned)
    if validated is None:
        require(train, 3, learned, "data.val_path=FILE.jsonl")
        count = held_out_count(len(train), val_fraction)
        train, held_out, grouped = hold_out(
            train, count, split_seed, of_each=2 if reads == "grades" else 0
        )
        validation, test = halves(held_out, split_seed)
    else:
        validation, grouped = examples(validated), "file"
        if tested is None:
            require(validation, 2, validated, "data.test_path=FILE.jsonl")
            validation, test = halves(validation, split_seed)
        else:
            test = examples(tested)
    manifest = _manifest(list(read.values())) | {
        "held_out_by": grouped,
        "allow_markers": allow_markers,
    }
    return Dataset(
        name,
        take(train, train_items, split_seed),
        take(validation, val_items, split_seed),
        take(test, test_items, split_seed),
        manifest,
    ).sealed()


def _manifest(read: Sequence[tuple[Place, Records]]) -> dict[str, Any]:
    """What the files hold, and what of it a person should look at."""
    return {
        "source": "files",
        "files": [
            {
                "name": short(file),
                "format": described(file),
                "fields": records.forms,
                "records": len(records.examples),
                "unused": records.unused,
            }
            for file, records in read
        ],
        "empty_answers": [where for _, records in read for where in records.empty_answers],
        "identical": [where for _, records in read for where in records.identical],
        "markers": [asdict(one) for one in marked(e for _, r in read for e in r.examples)],
    }


def _parts(
    path: Place | None, val_path: Place | None, test_path: Place | None, hub: Mapping[str, Any]
) -> tuple[Place, Place | None, Place | None]:
    """Where each part lies: files, or splits of a data set of the hub."""
    splits = HubData.splits(hub)
    if path is None and not splits:
        raise ConfigError(
            "data.path is not set",
            "data.path=FILE.jsonl, one JSON object a line; or data.hub.name=OWNER/NAME",
        )
    for key, given in (("train", path), ("validation", val_path), ("test", test_path)):
        if given is not None and key in splits:
            raise ConfigError("both data.hub and a data path are set", "give one of them")
    if path is None:
        path = splits["train"]
    return path, val_path or splits.get("validation"), test_path or splits.get("test")


def _given(keys: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (keys or {}).items() if value is not None}


READERS = {"answers": read_answers, "pairs": read_pairs, "grades": read_grades}


def _read(reads: str, file: Place, fields: Fields) -> Records:
    if reads not in READERS:
        raise ConfigError(f"data.source.reads={reads}", f"one of {', '.join(READERS)}")
    return READERS[reads](file, fields)


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


def docstring_pairs(*, hard_by: str = "likelihood", **words: Any) -> Dataset:
    """`docstrings` as preferences: rejected is the sentence of another function that looks alike.

    It is hard and real: a true sentence about similar code (TF-IDF of the words of the source,
    cosine). With `hard_by` text it is that of the most similar function; with likelihood those of
    the first `NEIGHBOURS` are rivals, of which the base chooses (objectives/hard_negatives.py).
    Takes the keywords of `docstrings`.
    """
    if hard_by not in ("likelihood", "text"):
        raise ConfigError(f"data.hard_by={hard_by}", "it is likelihood or text")
    plain = docstrings(**words)
    rivals = hard_by == "likelihood"
    parts = {part: _with_neighbours(given, rivals) for part, given in plain.parts().items()}
    about = {"source": "docstring_pairs", "hard_by": hard_by}
    return replace(plain, **parts, manifest={**plain.manifest, **about}).sealed()


NEIGHBOURS = 5


def _with_neighbours(examples: list[Example], rivals: bool) -> list[Example]:
    """Each example with the answer of its nearest neighbour that answers something else; and, as
    `rivals`, with those of all its neighbours."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(examples) - 1)
    texts = [example.prompt[-1].content for example in examples]
    vectors = TfidfVectorizer(token_pattern=r"[^\W_]+", sublinear_tf=True).fit_transform(texts)
    nearest = NearestNeighbors(n_neighbors=count, metric="cosine").fit(vectors)
    paired = []
    for example, order in zip(examples, nearest.kneighbors(return_distance=False), strict=True):
        others = dict.fromkeys(examples[i].completion for i in order)
        wrong = [text for text in others if text != example.completion]
        if wrong:
            more = tuple(wrong) if rivals else ()
            paired.append(replace(example, rejected=wrong[0], rivals=more))
    return paired


def _docstring_example(pair: harvest.Pair) -> Example:
    messages = Message("user", harvest.prompt(pair.source)), Message("assistant", pair.sentence)
    return Example(messages, pair.where, groups=(pair.package, pair.where.rpartition(":")[0]))
