"""One order of search, and what is said when nothing or too much has the name."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.records.find import Candidate, UnknownRun, all_runs, choose, find, find_run
from myosotis.records.run_folder import RunFolder, SweepFolder, SweepInfo
from myosotis.records.schema import RunRecord
from myosotis.utils.errors import DataError


def made(path: Path, run_id: str, name: str, day: int) -> RunFolder:
    record = RunRecord(run_id, name, status="FINISHED", started=f"2026-01-{day:02}T00:00:00+00:00")
    record.save(path / "record.json")
    return RunFolder(path)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, RunFolder]:
    """Three single runs and a sweep of one trial; `beef` is a name and the start of an id."""
    sweep = SweepFolder(tmp_path / "multirun" / "x")
    sweep.save(SweepInfo("rank_lr", ["myosotis"], "2026-01-09T00:00:00+00:00", run_id="c0ffee"))
    return {
        "old": made(tmp_path / "runs" / "1", "beef01", "red", 1),
        "new": made(tmp_path / "runs" / "2", "beef02", "green", 3),
        "named": made(tmp_path / "runs" / "3", "aaaa03", "beef", 2),
        "trial": made(sweep.path / "t", "dddd04", "lora-r4", 2),
    }


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("last", "new"),
        ("beef01", "old"),
        ("beef", "named"),  # a name comes before the beginning of an id
        ("green", "new"),
        ("AAAA", "named"),
        ("lora-r4", "trial"),
    ],
)
def test_the_order_of_search(
    runs: dict[str, RunFolder], tmp_path: Path, query: str, which: str
) -> None:
    assert find_run(query, tmp_path) == runs[which]


def test_a_folder_is_itself_wherever_it_lies(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    elsewhere = made(tmp_path / "elsewhere", "ffff05", "blue", 1)
    assert find_run(str(elsewhere.path), tmp_path / "nothing") == elsewhere
    assert find(str(tmp_path / "multirun" / "x")) == SweepFolder(tmp_path / "multirun" / "x")
    assert elsewhere not in all_runs(tmp_path)
    assert len(all_runs(tmp_path)) == 4


@pytest.mark.parametrize("query", ["rank_lr", "c0ff"])
def test_a_sweep_is_found_and_is_no_run(
    runs: dict[str, RunFolder], tmp_path: Path, query: str
) -> None:
    assert find(query, tmp_path) == SweepFolder(tmp_path / "multirun" / "x")
    with pytest.raises(DataError, match="is a sweep") as refused:
        find_run(query, tmp_path)
    assert "dddd04  lora-r4" in refused.value.hint


def test_several_of_one_name_or_beginning_are_listed(
    runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    made(tmp_path / "runs" / "4", "abcd06", "red", 8)
    with pytest.raises(DataError, match="'red' could be any of 2 runs") as several:
        find_run("red", tmp_path)
    assert not isinstance(several.value, UnknownRun)  # so that nobody looks elsewhere
    assert several.value.message.index("abcd06") < several.value.message.index("beef01")
    with pytest.raises(DataError, match="could be any of 2 runs"):
        find_run("beef0", tmp_path)


def test_an_unknown_name_is_answered_with_the_nearest_or_the_newest(
    runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    with pytest.raises(UnknownRun, match="is called 'gren'") as near:
        find_run("gren", tmp_path)
    assert "Did you mean" in near.value.hint and "green" in near.value.hint
    with pytest.raises(UnknownRun) as far:
        find_run("zzzzzz", tmp_path)
    assert "The newest are" in far.value.hint
    with pytest.raises(UnknownRun):
        find_run("", tmp_path)
    with pytest.raises(UnknownRun, match="there are no runs below"):
        find_run("last", tmp_path / "empty")


def test_a_damaged_record_hides_one_run(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    runs["new"].record.write_text("{")
    assert find_run("last", tmp_path) == runs["named"]


def test_of_runs_that_began_together_the_first_given_is_last() -> None:
    both = [Candidate(x, x, "FINISHED", "2026-01-01T00:00:00+00:00", x) for x in ("b", "a")]
    assert choose("last", both, "here") == "b"
