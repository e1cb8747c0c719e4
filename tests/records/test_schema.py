"""record.json: written whole or not at all, read back equal, refused clearly when it cannot be."""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.records.schema import SCHEMA, CurvePoint, RetentionRow, RunRecord, TaskQuality
from myosotis.utils.errors import DataError, RunError


def small() -> RunRecord:
    return RunRecord(
        run_id="abc",
        status="FINISHED",
        task=TaskQuality("loglik", base=-3.5, tuned=-2.75, extra=[TaskQuality("chrf")]),
        retention=[RetentionRow("piqa", "acc", n=200, base=0.67, tuned=0.66)],
        curves=[CurvePoint(1, "train/loss", 3.5)],
        cost={"train_seconds": 12.0},
        config={"update": {"r": 16}, "callbacks": None},
    )


def test_read_back_equal(tmp_path: Path):
    path = small().save(tmp_path / "deep" / "record.json")
    assert RunRecord.load(path) == small()
    assert RunRecord.load(path.parent) == small()  # the folder stands for the file in it


def test_same_record_same_bytes():
    assert small().to_json() == small().to_json()


def test_non_finite_numbers_are_null_and_read_back_as_missing(tmp_path: Path):
    record = small()
    record.retention[0].delta = math.nan
    record.curves.append(CurvePoint(2, "train/loss", math.inf))
    record.cost["peak_memory_gb"] = -math.inf
    back = RunRecord.load(record.save(tmp_path / "record.json"))
    assert back.retention[0].delta is None
    assert back.curves[1].value is None
    assert back.cost["peak_memory_gb"] is None


def test_a_record_written_elsewhere_with_bare_nan_is_missing_too():
    text = '{"schema": 1, "run_id": "x", "cost": {"train_seconds": NaN}}'
    assert RunRecord.from_json(text).cost == {"train_seconds": None}


def test_numpy_scalars_and_lone_surrogates_are_written(tmp_path: Path):
    record = small()
    record.retention[0].base = np.float32(0.5)  # type: ignore[assignment]
    record.retention[0].n = np.int64(7)  # type: ignore[assignment]
    record.warnings = ["half a pair: \ud83d"]
    back = RunRecord.load(record.save(tmp_path / "record.json"))
    assert (back.retention[0].base, back.retention[0].n) == (0.5, 7)
    assert back.warnings == ["half a pair: ?"]


def test_newer_schema_says_upgrade(tmp_path: Path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"schema": SCHEMA + 1, "run_id": "x"}))
    with pytest.raises(DataError, match="upgrade"):
        RunRecord.load(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a JSON"),
        ("[]", "JSON object"),
        ("{}", "schema"),
        ('{"schema": 1}', "'run_id' is missing"),
        ('{"schema": 1, "run_id": 3}', "run_id: expected str"),
        ('{"schema": 1, "run_id": "x", "status": "DONE"}', "FINISHED"),
        (
            '{"schema": 1, "run_id": "x", "retention": [{"task": "t", "metric": "m", "n": "5"}]}',
            r"retention\[0\].n",
        ),
        ('{"schema": 1, "run_id": "x", "curves": {}}', "curves"),
    ],
)
def test_malformed_records_name_the_field(text: str, says: str):
    with pytest.raises(DataError, match=says):
        RunRecord.from_json(text)


def test_unknown_keys_are_ignored():
    assert RunRecord.from_json('{"schema": 1, "run_id": "x", "later": {}}').run_id == "x"


def test_a_failed_write_leaves_the_old_record_and_no_rubbish(tmp_path: Path, monkeypatch):
    path = small().save(tmp_path / "record.json")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    newer = small()
    newer.run_id = "newer"
    with pytest.raises(RunError, match="No space left"):
        newer.save(path)
    assert RunRecord.load(path) == small()
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(config=st.dictionaries(st.text(), _json), warnings=st.lists(st.text()))
def test_writing_twice_gives_the_same_text(config: dict, warnings: list[str]):
    """What was read back writes the same bytes: nothing is lost that was not lost at once."""
    text = RunRecord("x", config=config, warnings=warnings).to_json()
    assert RunRecord.from_json(text).to_json() == text


@given(_json)
def test_any_json_is_read_or_refused(document: object):
    with contextlib.suppress(DataError):
        RunRecord.from_json(json.dumps({"schema": 1, "run_id": "x", "task": document}))


def test_a_record_whose_selection_half_was_called_select_is_read():
    """As versions before the rename wrote it; written again, it bears today's name."""
    text = json.dumps(
        {
            "schema": 1, "run_id": "x",
            "halves": {
                "select": {"task": {"metric": "loglik", "delta": 0.5}, "suite": None},
                "report": {"task": None, "suite": {"delta": -0.01, "verdict": "retained"}},
            },
        }
    )  # fmt: skip
    record = RunRecord.from_json(text)
    assert list(record.halves) == ["selection", "report"]
    chosen, reported = record.halves.values()
    assert chosen.task is not None and chosen.task.delta == 0.5
    assert reported.suite is not None and reported.suite.verdict == "retained"
    assert "select" not in json.loads(record.to_json())["halves"]
    with pytest.raises(DataError, match=r"halves\.selection: expected HalfResult"):
        RunRecord.from_json('{"schema": 1, "run_id": "x", "halves": {"select": 3}}')
