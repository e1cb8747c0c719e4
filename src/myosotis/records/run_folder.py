"""Run folders and the folders of sweeps: what lies where in one. How one is found: `find.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from myosotis.records.schema import RunRecord
from myosotis.utils.atomic_write import write_text


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run folder."""

    path: Path

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    @property
    def config(self) -> Path:
        """The resolved configuration the run was started with."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """What moves, and the optimiser's state; enough to go on exactly."""
        return self.path / "checkpoints" / "last.ckpt"

    def best(self, step: int) -> Path:
        """What moves, as it was at the best step (`retention.on_breach=rollback`)."""
        return self.path / "checkpoints" / f"best-{step:06}.ckpt"

    @property
    def update(self) -> Path:
        """The finished update: a PEFT adapter, or the tuned weights."""
        return self.path / "update"

    @property
    def start(self) -> Path:
        """What the run went on from, where that was a tuned model: a copy (models/init_from.py)."""
        return self.path / "start"

    @property
    def items(self) -> Path:
        """Per-item retention scores of base and tuned model."""
        return self.path / "retention_items.parquet"

    @property
    def scorecard(self) -> Path:
        return self.path / "scorecard.html"

    def load(self) -> RunRecord:
        return RunRecord.load(self.record)

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the folder as the one process that runs in it; waits for another that does.

        Without `wait` yields False at once when there is one. A killed process holds nothing.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".running.lock")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


@dataclass(frozen=True)
class SweepInfo:
    """What a sweep's folder says of itself. `run_id` is its MLflow run in `store`, or empty."""

    name: str
    command: list[str]
    started: str
    run_id: str = ""
    store: str = ""


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep: a file about it, and a run folder for each trial."""

    path: Path

    @property
    def about(self) -> Path:
        return self.path / "sweep.json"

    @property
    def scorecard(self) -> Path:
        return self.path / "scorecard.html"

    def load(self) -> SweepInfo | None:
        """What it says of itself; None when there is nothing to read."""
        try:
            return SweepInfo(**json.loads(self.about.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, info: SweepInfo) -> None:
        write_text(self.about, json.dumps(asdict(info), indent=1))

    def trials(self) -> list[RunFolder]:
        """The trials that have begun, by name."""
        return [RunFolder(record.parent) for record in sorted(self.path.glob("*/record.json"))]
