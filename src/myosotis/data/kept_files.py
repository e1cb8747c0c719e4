"""Large data files, read once: what became of them lies in the cache, by their content.

What else it depends on is how they are read, and which of the examples are held out: the keywords
of `sources.files`. Data sets of the hub have a cache of their own, and are read anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from myosotis.data.example import Dataset
from myosotis.data.kept import kept_folder, key_of
from myosotis.data.mixture import Mixture
from myosotis.data.places import HubData, Place, files_of, place_of
from myosotis.data.stored_examples import StoredExamples, write_examples
from myosotis.models import wheels
from myosotis.utils import collector
from myosotis.utils.cached_folder import remembered_hashes
from myosotis.utils.errors import DataError

FEW_BYTES = 500_000
"""Of all files together, below which reading them again costs less than keeping what was read."""

PARTS = ("train", "validation", "test")


def kept(read: Callable[[], Dataset], words: Mapping[str, Any], places: Sequence[Place]) -> Dataset:
    """What `read` makes of the files in `places` (none: it is not kept) by the keywords `words`.
    Raises what it raises."""
    files = _files(places)
    on_hub = any(isinstance(place_of(place), HubData) for place in places)
    if on_hub or sum(file.stat().st_size for file in files) < FEW_BYTES:
        return read()
    hashes = [[file.name, _hash(file)] for file in files]
    key = key_of("examples", json.loads(json.dumps(words, default=str)), hashes)
    folder = kept_folder("examples", key, partial(_write, read))
    about = json.loads((folder / "about.json").read_text("utf-8"))
    mixture = about["mixture"]
    train, validation, test = (StoredExamples(folder / part) for part in PARTS)
    return Dataset(
        about["name"],
        train,
        validation,
        test,
        about["manifest"],
        mixture and Mixture(**mixture),
    )


def _write(read: Callable[[], Dataset], folder: Path) -> None:
    with collector.paused():
        dataset = read()
    for part, examples in dataset.parts().items():
        (folder / part).mkdir()
        write_examples(folder / part, examples)
    about = {
        "name": dataset.name,
        "manifest": dataset.manifest,
        "mixture": dataset.mixture and asdict(dataset.mixture),
    }
    (folder / "about.json").write_text(json.dumps(about), "utf-8")


def _files(places: Sequence[Place]) -> list[Path]:
    """The files; none where one is missing or elsewhere: whoever reads them says so."""
    found = [place_of(place) for place in places]
    try:
        return [file for one in found if isinstance(one, Path) for file in files_of(one)]
    except DataError:
        return []


def _hash(file: Path) -> str:
    """sha256 of a file, looked up while its size and time are the same."""
    file = file.absolute()
    name = hashlib.sha256(str(file).encode()).hexdigest()[:40]
    memory = wheels.cache_dir() / "hashes" / f"{name}.json"
    return remembered_hashes(file.parent, [file.name], memory)[file.name]
