"""Records read from files that may be another tool's, and from folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from myosotis.records.load import read_file, read_folder
from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import render_html
from myosotis.utils.errors import DataError
from tests.report import made


@pytest.fixture
def records() -> list[RunRecord]:
    return [made.trial("lora", r, 1e-3, seed) for r in (4, 16) for seed in (0, 1)]


def on_disk(records: list[RunRecord], folder: Path) -> None:
    for number, record in enumerate(records):
        record.save(folder / str(number) / "record.json")


def test_a_damaged_record_is_a_failed_trial(tmp_path: Path, records: list[RunRecord]) -> None:
    on_disk(records, tmp_path)
    (tmp_path / "2" / "record.json").write_text('{"schema": 1, "run_id"')
    found = read_folder(tmp_path)
    assert [r.status for r in found] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert "not a JSON document" in found[2].error
    assert "is not a JSON document" in render_html(found)


FOREIGN: dict[str, Any] = {
    "schema": 1,
    "run_id": "1",
    "run_name": "other tool, lr 1e-4",
    "status": "FINISHED",
    "task": {"metric": "acc", "base": 0.40, "tuned": 0.55, "lo": 0.10, "hi": 0.20},
    "suite_verdict": {"delta": -0.01, "lo": -0.02, "hi": 0.0, "epsilon": 0.03,
                      "verdict": "retained"},
    "retention": [{"task": "piqa", "metric": "acc", "base": 0.67, "tuned": 0.66,
                   "lo": -0.02, "hi": 0.0}],
    "gpu_hours": 3,
}  # fmt: skip


def test_records_of_another_tool_need_only_what_they_know(tmp_path: Path) -> None:
    """A change that is left out is tuned − base; unknown keys pass."""
    (tmp_path / "theirs.json").write_text(json.dumps([FOREIGN, FOREIGN | {"run_id": "2"}]))
    first, second = read_file(tmp_path / "theirs.json")
    assert (first.run_id, second.run_id) == ("1", "2")
    assert first.task is not None
    assert first.task.delta == pytest.approx(0.15)
    assert first.retention[0].delta == pytest.approx(-0.01)


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run record \(record\.json\)"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": {"metric": "acc", "delta": 0.1, "lo": 0.3, "hi": 0.2}}, "lo 0.3 is above hi 0.2"),
        (
            {"task": {"metric": "acc", "base": 0.4, "tuned": 0.5, "delta": -0.1}},
            r"delta -0.1 is not tuned − base \(0.1\)",
        ),
        ({"suite_verdict": {"delta": 0.0, "verdict": "fine"}}, "verdict 'fine' is none of"),
        ({"task": {"delta": 0.1}}, "the field 'metric' is missing"),
        ({"status": "done"}, "expected 'RUNNING' or"),
        ({"schema": 99}, "reads up to 1"),
        ({"schema": None}, "no whole-number `schema`"),
    ],
)
def test_a_foreign_record_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([FOREIGN, FOREIGN | change]))
    with pytest.raises(DataError, match=said) as raised:
        read_file(path)
    assert "x.json[1]" in raised.value.message


@pytest.mark.parametrize("text", ["", "3", "[]", "[" * 5000, '{"a": 1}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_file(tmp_path / "x.json")
