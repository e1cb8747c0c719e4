"""Run folders and the folders of sweeps: what lies where in one. How one is found: `find.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from myosotis.records.schema import RunRecord
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import ConfigError, DataError
from myosotis.utils.read_file import read_json_object, read_text

LOCK, WRITER = ".running.lock", ".running.pid"
"""Held, and there, while a process writes the folder: the lock says that one does, the other file
which one."""


class Header(NamedTuple):
    """What tells a run from others; `started` is ISO 8601."""

    run_id: str
    run_name: str
    status: str
    started: str


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
    def task_items(self) -> Path:
        """Per-example task scores of base and tuned model."""
        return self.path / "task_items.parquet"

    @property
    def refusals(self) -> Path:
        """What both models answered to requests that should, or must not, be refused."""
        return self.path / "refusals.jsonl"

    @property
    def reward(self) -> Path:
        """On which scale a reward model's numbers are (`rewards/model.py`)."""
        return self.path / "reward.json"

    @property
    def published(self) -> tuple[Path, ...]:
        """What a finished run leaves for others to read, where it is there; the record comes last,
        and the update has a folder of its own."""
        return self.scorecard, self.items, self.reward, self.refusals

    @property
    def stage_items(self) -> Path:
        """Per-example scores of every task of a sequence, with the weights of this stage."""
        return self.path / "stage_items.parquet"

    @property
    def scorecard(self) -> Path:
        return self.path / "scorecard.html"

    def load(self) -> RunRecord:
        return RunRecord.load(self.record)

    def header(self) -> Header:
        """What finding a run takes, without making the whole record: of a thousand runs that is
        seconds. Raises `DataError` for a file that is no record."""
        try:
            said = read_json_object(self.record)
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"Could not read the run record {self.record}: {error}.") from error
        found = [said.get(name, "") for name in Header._fields]
        if not said.get("run_id") or not all(isinstance(one, str) for one in found):
            raise DataError(f"{self.record} is not a run record.")
        return Header(*found)

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold the folder as the one process that writes it; waits for another that does.

        Without `wait` yields False at once when there is one. A killed process holds nothing. Who
        holds it already may hold it again.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.resolve() / LOCK, is_singleton=True)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        outermost = lock.lock_counter == 1
        try:
            if outermost:
                with suppress(OSError):  # a full disk: the lock holds all the same
                    (self.path / WRITER).write_text(str(os.getpid()))
            yield True
        finally:
            if outermost:
                with suppress(OSError):
                    (self.path / WRITER).unlink(missing_ok=True)
                    if {path.name for path in self.path.iterdir()} == {LOCK}:
                        (self.path / LOCK).unlink()  # nothing began here: no folder stays
                        self.path.rmdir()
            lock.release()

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder, or refuse: raises `ConfigError` at once when another process writes it,
        or when it cannot be made.
        """
        with ExitStack() as stack:
            try:
                free = stack.enter_context(self.held(wait=False))
            except OSError as error:
                raise ConfigError(
                    f"the run folder {self.path} cannot be made: {error.strerror}",
                    "choose another with out=",
                ) from None
            if not free:
                raise ConfigError(
                    f"The run folder {self.path} is being written by {self._writer()}.",
                    "Wait until it has ended; for another run choose another folder with out=.",
                )
            yield

    @property
    def interrupted(self) -> bool:
        """Whether who wrote it last has not left it: killed in the middle, or still at it."""
        return (self.path / WRITER).exists()

    @property
    def in_use(self) -> bool:
        """Whether a process writes it now, this one included."""
        if not (self.path / LOCK).exists():
            return False
        probe = FileLock(self.path.resolve() / LOCK)
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # nobody writes where nothing can be written
            return False
        probe.release()
        return False

    def _writer(self) -> str:
        try:
            return f"process {int(read_text(self.path / WRITER))}"
        except (OSError, ValueError):
            return "another process"


def bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder; links are not followed."""
    return sum(
        (Path(place) / name).lstat().st_size
        for place, _, names in os.walk(folder)
        for name in names
    )


def new_folder_named(path: Path) -> Path:
    """Make the folder `path`, or with -2, -3, … after its name: one that was not there."""
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir(parents=True, exist_ok=False)
            return folder
        except FileExistsError:
            continue
    raise AssertionError("count does not end")


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
            return SweepInfo(**read_json_object(self.about))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, info: SweepInfo) -> None:
        write_text(self.about, json.dumps(asdict(info), indent=1))

    def trials(self) -> list[RunFolder]:
        """The trials that have begun, by name."""
        return [RunFolder(record.parent) for record in sorted(self.path.glob("*/record.json"))]
