"""What is added to a finished run: nothing that another command added meanwhile is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from myosotis.commands.publish import keep
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import DialPoint, RatingResult, RunRecord

HOLD = """
import sys
from pathlib import Path
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RatingResult
place = RunFolder(Path(sys.argv[1]))
with place.held():
    print("held", flush=True)
    sys.stdin.readline()
    record = place.load()
    record.ratings = RatingResult(ratings=7)
    record.save(place.record)
"""


def finished(tmp_path: Path) -> RunFolder:
    place = RunFolder(tmp_path)
    RunRecord("a", "run").save(place.record)
    return place


def test_what_was_added_meanwhile_stays(tmp_path: Path) -> None:
    """The dial opened the run before people's ratings came, and ended after them."""
    place = finished(tmp_path)
    opened = place.load()
    keep(place, lambda now: setattr(now, "ratings", RatingResult(ratings=3)))
    assert opened.ratings is None
    record = keep(place, lambda now: setattr(now, "dial", [DialPoint(0.5)]))
    assert record.ratings is not None and record.ratings.ratings == 3
    assert place.load() == record
    assert place.scorecard.exists() and not place.in_use


def test_it_waits_for_who_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = finished(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        mine = threading.Thread(
            target=keep, args=(place, lambda now: setattr(now, "dial", [DialPoint(0.5)]))
        )
        mine.start()
        mine.join(1)
        assert mine.is_alive() and place.load().dial == []
        other.stdin.write("\n")
        other.stdin.flush()
        mine.join(60)
    record = place.load()
    assert record.ratings is not None and record.ratings.ratings == 7
    assert [point.alpha for point in record.dial] == [0.5]
    assert "another process writes" in " ".join(capfd.readouterr().err.split())
