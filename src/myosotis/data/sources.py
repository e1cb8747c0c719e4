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
from myosotis.data.kept_files import kept
from myosotis.data.markers import marked
from myosotis.data.places import FORMATS, HubData, Place, described, passed_over, short
from myosotis.data.preference import read_pairs
from myosotis.data.sft import Example, Message, Records, read_answers
from myosotis.data.source_list import in_turn, mixture_of, of_each_source, source_list
from myosotis.data.splits import (
    FEWEST,
    halves,
    held_out_count,
    hold_out,
    named_group,
    require,
    take,
)
from myosotis.data.unpaired import read_grades
from myosotis.utils.errors import ConfigError, DataError


def files(
    path: str | Path | None = None,
    *,
    hub: Mapping[str, Any] | None = None,
    sources: Sequence[Mapping[str, Any]] = (),
    mixture: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    group_key: str | None = None,
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
    """Examples of a user's own files, or of a data set of the hub (places.py), or of several
    `sources` of either, mixed (source_list.py).

    `fields` names those of the records where they are not the usual ones, `group_key` the one that
    says what a record shares with others (fields.py). `reads` says what is on a line: answers
    (sft.py), pairs (preference.py) or grades (unpaired.py). Held out are `val_path` and `test_path`
    where given. With `val_path` alone, half of it is the test part; with neither, `val_fraction` of
    all (default: a tenth, at least 4 and at most 1000 examples), again in halves. `*_items` take a
    seeded subset. `prompt_key` and `completion_key` are what earlier versions called two of the
    fields. Raises `DataError` on any line that cannot be used, and when a file is too small to hold
    anything out. The manifest names the markers of chat templates in the text, and whether they are
    allowed (markers.py). Large files are read once (kept_files.py).
    """
    words = dict(locals())
    return kept(lambda: _files(**words), words, _places(path, val_path, test_path, hub, sources))


def _places(
    path: Place | None,
    val_path: Place | None,
    test_path: Place | None,
    hub: Mapping[str, Any] | None,
    sources: Sequence[Any],
) -> list[Place]:
    """Where the files lie; nothing where some of it is on the hub, or is no place at all."""
    listed = [one.get("path") if isinstance(one, Mapping) else None for one in sources]
    if None in listed or (hub or {}).get("name") is not None:
        return []
    return [place for place in (path, val_path, test_path, *listed) if place is not None]


def _files(
    path: str | Path | None,
    hub: Mapping[str, Any] | None,
    sources: Sequence[Mapping[str, Any]],
    mixture: Mapping[str, Any] | None,
    fields: Mapping[str, Any] | None,
    group_key: str | None,
    reads: str,
    name: str,
    val_path: str | Path | None,
    test_path: str | Path | None,
    val_fraction: float | None,
    prompt_key: str | None,
    completion_key: str | None,
    train_items: int | None,
    val_items: int | None,
    test_items: int | None,
    split_seed: int,
    allow_markers: bool,
) -> Dataset:
    listed = source_list(sources, path, hub or {})
    places = _parts(path, val_path, test_path, hub or {}, bool(listed))
    learned, validated, tested = places
    if validated is not None and val_fraction is not None:
        raise ConfigError("both data.val_path and data.val_fraction are set", "give one of them")
    if tested is not None and validated is None:
        raise ConfigError("data.test_path is set, data.val_path is not", "give both, or val_path")
    mixed = mixture_of(listed, mixture or {})
    read: dict[str, tuple[Place, Records]] = {}
    named = {"prompt": prompt_key, "completion": completion_key} | _given(fields)

    def examples(place: Place, own: Mapping[str, Any] | None = None) -> list[Example]:
        read[str(place)] = place, _read(reads, place, Fields(own or named, group_key))
        return read[str(place)][1].examples

    if learned is not None:
        train = examples(learned)
    else:
        train = [
            replace(example, source=one.name)
            for one in listed
            if one.weight != 0
            for example in examples(one.place, one.fields)
        ]
    where = learned or "data.sources"
    if validated is None:
        require(train, 3, where, "data.val_path=FILE.jsonl")
        grades = reads == "grades"
        # Of so few graded answers neither kind could be told from the other: that is said.
        fewest = 2 if grades else FEWEST
        count = held_out_count(len(train), val_fraction, fewest)
        _require_groups(train, group_key, 3, where)
        of_each = 2 if grades else 0
        train, held_out, grouped = hold_out(train, count, split_seed, of_each=of_each, parts=2)
        validation, test = halves(held_out, split_seed)
    else:
        validation, grouped = examples(validated), "file"
        if tested is None:
            require(validation, 2, validated, "data.test_path=FILE.jsonl")
            _require_groups(validation, group_key, 2, validated)
            validation, test = halves(validation, split_seed)
        else:
            test = examples(tested)
    train = of_each_source(train, listed, split_seed)
    warnings = [said for place, _ in read.values() for said in _not_read(place)]
    if unread := [one.name for one in listed if one.weight == 0]:
        warnings.append(f"of weight 0, and not read: {', '.join(unread)}")
    manifest = _manifest(list(read.values())) | {
        "held_out_by": grouped,
        "allow_markers": allow_markers,
        "warnings": warnings,
    }
    return Dataset(
        name,
        take(train, train_items, split_seed),
        in_turn(take(validation, val_items, split_seed)),
        in_turn(take(test, test_items, split_seed)),
        manifest,
        mixed,
    ).sealed()


def _require_groups(
    examples: Sequence[Example], key: str | None, fewest: int, place: Place
) -> None:
    """Raise `DataError` where the key that was asked for names too few groups to hold some out."""
    if key is None:
        return
    if (count := len({named_group(example) for example in examples})) < fewest:
        raise DataError(
            f"data.group_key={key} names {count} group{'s' * (count > 1)} in {place}; "
            f"{fewest} are needed, so that each part has one of its own",
            "data.val_path=FILE and data.test_path=FILE hold out files instead",
        )


def _not_read(place: Place) -> list[str]:
    """A sentence on the files of a folder that nothing was read of."""
    if not (names := passed_over(place)):
        return []
    shown = ", ".join(names[:3]) + (f", … ({len(names)} in all)" if len(names) > 3 else "")
    return [f"{short(place)}: files that are not read: {shown}; read are {', '.join(FORMATS)}"]


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
    path: Place | None,
    val_path: Place | None,
    test_path: Place | None,
    hub: Mapping[str, Any],
    listed: bool,
) -> tuple[Place | None, Place | None, Place | None]:
    """Where each part lies: files, or splits of a data set of the hub. What is learned from is None
    where sources are `listed`."""
    splits = HubData.splits(hub)
    if path is None and not splits and not listed:
        raise ConfigError(
            "data.path is not set",
            "data.path=FILE.jsonl, one JSON object a line; or data.hub.name=OWNER/NAME",
        )
    for key, given in (("train", path), ("validation", val_path), ("test", test_path)):
        if given is not None and key in splits:
            raise ConfigError("both data.hub and a data path are set", "give one of them")
    if path is None and not listed:
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


def _with_neighbours(examples: Sequence[Example], rivals: bool) -> list[Example]:
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
