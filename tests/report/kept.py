"""A finished sweep as it is kept in reports/: its records and its scorecard.

    python -m tests.report.kept reports/NAME SWEEP …   a new one, of one sweep or several
    python -m tests.report.kept reports/NAME           its scorecard anew

What only means something on the machine that ran it (absolute folders) is left out; everything else
is as the runs wrote it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from myosotis.cli import studies
from myosotis.records.codec import plain
from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import scorecard


def portable(record: RunRecord, sweep: Path) -> RunRecord:
    """The record without folders of the machine."""
    record.config["out"] = str(Path(record.config["out"]).relative_to(sweep.parent))
    record.command = studies.command(record.command[2:])
    assert str(sweep.parent) not in record.to_json()
    return record


def read(folder: Path) -> list[RunRecord]:
    """The records of a folder of reports/."""
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return [RunRecord.from_json(line) for line in lines]


def keep(folder: Path, sweeps: Sequence[Path]) -> None:
    """Write the records of `sweeps` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(plain(portable(RunRecord.load(path), sweep)), ensure_ascii=False)
        for sweep in sweeps
        for path in sorted(sweep.glob("*/record.json"))
    ]
    (folder / "records.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if given := sys.argv[2:]:
        keep(place, [Path(one).absolute() for one in given])
    print(scorecard(read(place), place / "scorecard.html"))
