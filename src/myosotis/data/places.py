"""Where a data set lies: a file, a folder of files, a pattern, or the hub; and in which format.

mine.jsonl         one JSON object a line; also .json, .csv, .tsv, .parquet, .txt; each as .gz, .zst
folder/            every file of these formats below it, in the order of their names
'parts/*.jsonl'    the files that a pattern names
hub:owner/name     a data set of the hub: `data.hub.name`, `.config`, `.split`, `.revision` as keys
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myosotis.utils.did_you_mean import close, either
from myosotis.utils.errors import ConfigError, DataError

HUB = "hub:"
FORMATS = {
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "parquet",
    ".txt": "text",
}
PACKED = {".gz": "gzip", ".zst": "zstd"}
BESIDE = ("", ".md", ".rst", ".html", ".pdf", ".png", ".yaml", ".yml", ".py")
"""Endings of what lies beside data for people to read: READMEs, licences, scripts."""


@dataclass(frozen=True)
class HubData:
    """A split of a data set of the hub."""

    name: str
    split: str = "train"
    config: str | None = None  # the data set's configuration, where it has several
    revision: str | None = None  # branch, tag or commit

    @classmethod
    def of(cls, text: str) -> HubData:
        """`hub:owner/name`, and `hub:owner/name#test` for another split than `train`."""
        name, _, split = text.removeprefix(HUB).partition("#")
        return cls(name, split or "train")

    @classmethod
    def splits(cls, keys: Mapping[str, Any]) -> dict[str, HubData]:
        """By part, what `data.hub` names; none where it names nothing."""
        if keys.get("name") is None:
            if told := sorted(k for k, v in keys.items() if v is not None and k != "split"):
                raise ConfigError(f"data.hub.{told[0]} is set, data.hub.name is not")
            return {}
        words = {"config": keys.get("config"), "revision": keys.get("revision")}
        parts = {"train": "split", "validation": "val_split", "test": "test_split"}
        return {
            part: cls(str(keys["name"]), str(keys[key]), **words)
            for part, key in parts.items()
            if keys.get(key) is not None
        }

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return f"{self.name}{config}#{self.split}"


Place = str | Path | HubData


def place_of(value: Place) -> Path | HubData:
    """A path, with its `~` expanded, or a data set of the hub."""
    if isinstance(value, HubData):
        return value
    if str(value).startswith(HUB):
        return HubData.of(str(value))
    return Path(value).expanduser()


def short(value: Place) -> str:
    """What a place is called in messages and records: no folder of this machine."""
    place = place_of(value)
    return str(place) if isinstance(place, HubData) else place.name


def files_of(path: Path) -> list[Path]:
    """The files that `path` names. Raises `DataError` when there is none."""
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and _ending(p) and _seen(p, path))
        if not found:
            raise DataError(
                f"{path} is a folder without data files", f"looked for {', '.join(FORMATS)}"
            )
        return found
    if not path.exists() and glob.has_magic(str(path)):
        named = glob.iglob(str(path), recursive=True)  # noqa: PTH207 - Path.glob takes no whole path
        found = sorted(p for p in map(Path, named) if p.is_file())
        if not found:
            raise DataError(f"no file is named by {path}")
        return found
    if not path.exists():
        beside = [str(path.parent / name) for name in close(path.name, _names(path.parent), 1)]
        hint = f"Did you mean {either(beside)}?" if beside else ""
        raise DataError(f"there is no data file {path}", hint)
    return [path]


def passed_over(value: Place) -> list[str]:
    """The files of a folder that are no data by their names, and are not read; hidden ones aside,
    and what is written beside data for people."""
    place = place_of(value)
    if isinstance(place, HubData) or not place.is_dir():
        return []
    there = (p for p in sorted(place.rglob("*")) if p.is_file() and _seen(p, place))
    return [p.name for p in there if not _ending(p) and p.suffix.lower() not in BESIDE]


def format_of(path: Path) -> str:
    """`.jsonl`, `.csv`, …: how a file is read, by its name; one object a line where that says
    nothing."""
    return _ending(path) or ".jsonl"


def expected(value: Place) -> str:
    """What is expected to lie there, in words."""
    place = place_of(value)
    if isinstance(place, HubData) or place.is_dir():
        return "records with a prompt and an answer, messages or text are expected"
    if format_of(place) in (".csv", ".tsv"):
        return "the names of the fields on the first line and a record a line below are expected"
    return "one JSON object a line is expected" if format_of(place) == ".jsonl" else "it is empty"


def packing_of(path: Path) -> str | None:
    """How a file is compressed, by its name."""
    return PACKED.get(path.suffix.lower())


def described(value: Place) -> str:
    """The format of what lies there, in words."""
    place = place_of(value)
    if isinstance(place, HubData):
        return "a data set of the hub"
    files = files_of(place)
    kinds = dict.fromkeys(_described(file) for file in files)
    said = ", ".join(kinds)
    return said if len(files) == 1 else f"{len(files)} files: {said}"


def _described(file: Path) -> str:
    packed = packing_of(file)
    return FORMATS[format_of(file)] + (f" ({packed})" if packed else "")


def _ending(path: Path) -> str | None:
    name = path.with_suffix("") if packing_of(path) else path
    ending = name.suffix.lower()
    return ending if ending in FORMATS else None


def _seen(path: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _names(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir()] if folder.is_dir() else []
