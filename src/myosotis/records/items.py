"""The items of a run, which lie beside its record: what the score of each benchmark item, and of
each held-out example of the task, changed by.

What belongs here: reading `retention_items.parquet` and `task_items.parquet`. What several runs'
items say together is in `report/crossed.py` and `report/contrast.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.utils.read_file import require_regular

COLUMNS = ("task", "item", "half", "cluster", "base", "tuned")
WEIGHT = "weight"
"""A column that earlier versions did not write: every item counts alike."""


@dataclass(frozen=True)
class TaskItems:
    """One task's items in the order of the file, and what base and tuned model scored. Items that
    share a `clusters` name belong together, None stands for an item of its own."""

    items: tuple[str, ...]
    halves: tuple[str, ...]
    clusters: tuple[str | None, ...]
    weights: tuple[float, ...]
    base: tuple[float, ...]
    tuned: tuple[float, ...]

    @cached_property
    def changes(self) -> tuple[float, ...]:
        """tuned - base."""
        return tuple(t - b for b, t in zip(self.base, self.tuned, strict=True))

    @property
    def answers(self) -> dict[str, tuple[float, float]]:
        """What base and tuned model scored, by item."""
        return dict(zip(self.items, zip(self.base, self.tuned, strict=True), strict=True))

    def half(self, name: str) -> TaskItems:
        """The items of one half."""
        return self.at([i for i, half in enumerate(self.halves) if half == name])

    def at(self, rows: Sequence[int]) -> TaskItems:
        """The items in these rows, in this order."""
        return TaskItems(
            tuple(self.items[i] for i in rows),
            tuple(self.halves[i] for i in rows),
            tuple(self.clusters[i] for i in rows),
            tuple(self.weights[i] for i in rows),
            tuple(self.base[i] for i in rows),
            tuple(self.tuned[i] for i in rows),
        )


def benchmark_items(record: RunRecord) -> dict[str, TaskItems]:
    """The items by benchmark; empty where none lie beside the record, or they cannot be read."""
    return _items_in(RunFolder(Path(record.folder)).items) if record.folder else {}


def example_items(record: RunRecord) -> dict[str, TaskItems]:
    """The held-out examples by metric; empty where none lie beside the record (earlier versions
    wrote none), or they cannot be read."""
    return _items_in(RunFolder(Path(record.folder)).task_items) if record.folder else {}


def _items_in(path: Path) -> dict[str, TaskItems]:
    try:
        require_regular(path)
        state = path.stat()
    except OSError:
        return {}
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _read(path: Path, _changed: int, _size: int) -> dict[str, TaskItems]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = [*COLUMNS, *({WEIGHT} & set(file.schema_arrow.names))]
        columns = file.read(columns=names).to_pydict()
        weights = [float(w) for w in columns.get(WEIGHT) or [1.0] * len(columns["task"])]
        base, tuned = ([float(x) for x in columns[name]] for name in ("base", "tuned"))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return {}  # what was not written by us, or not to its end
    rows: dict[str, list[int]] = {}
    for i, task in enumerate(columns["task"]):
        rows.setdefault(str(task), []).append(i)
    return {
        task: TaskItems(
            tuple(str(columns["item"][i]) for i in at),
            tuple(str(columns["half"][i]) for i in at),
            tuple(columns["cluster"][i] for i in at),
            tuple(weights[i] for i in at),
            tuple(base[i] for i in at),
            tuple(tuned[i] for i in at),
        )
        for task, at in rows.items()
    }
