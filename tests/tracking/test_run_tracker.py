"""A run that is tracked ends with a status, a reason and a verdict, on disk and in MLflow."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from myosotis.records.schema import RunRecord, SuiteVerdict
from myosotis.tracking import mlflow_runs, mlflow_store
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.tracking.run_tracker import RunTracker, track
from myosotis.utils.errors import DataError, Interrupted


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return str(tmp_path / "mlflow.db")


def tracked(uri: str, folder: Path) -> Any:
    return track(
        folder,
        MLflowLogger(uri, run_name="mine"),
        run_name="mine",
        command=["myosotis", "train"],
        config={"seed": 0},
        config_hash="abc",
    )


def page(record: RunRecord, path: Path) -> None:
    path.write_text(f"{record.run_name} {record.status}")


def test_a_finished_run_has_its_page_and_its_verdict(uri: str, tmp_path: Path) -> None:
    tracker: RunTracker
    with tracked(uri, tmp_path / "run") as tracker:
        tracker.log({"train/loss": 2.0}, 1)
        tracker.record.suite_verdict = SuiteVerdict(delta=0.0, verdict="retained")
        (tmp_path / "run" / "reward.json").write_text("{}")
        tracker.publish(page)
    run = mlflow_runs.find_run(uri, "mine")
    assert (run.status, run.tags["verdict"]) == ("FINISHED", "retained")
    assert run.metrics == {"train/loss": 2.0}
    copy = mlflow_runs.download_artifact(run, "scorecard.html", tmp_path / "back")
    assert copy.read_text() == "mine FINISHED"
    kept = mlflow_runs.download_artifact(run, "reward.json", tmp_path / "back")
    assert kept.read_text() == "{}"
    record = mlflow_runs.load_record(run)
    assert record.curves[0].value == 2.0 and record.run_id == run.run_id


def test_a_failed_run_has_its_reason_without_a_password(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DataError), tracked(uri, tmp_path / "run"):
        raise DataError("http://me:hunter2@example.org/x does not answer")
    reason = "http://***@example.org/x does not answer"
    record = RunRecord.load(tmp_path / "run")
    assert (record.status, record.error) == ("FAILED", reason)
    run = mlflow_runs.find_run(uri, "mine")
    assert (run.status, run.tags[mlflow_store.REASON]) == ("FAILED", reason)
    assert "verdict" not in run.tags


def test_sigterm_is_an_orderly_end(uri: str, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped, tracked(uri, tmp_path / "run"):
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["status"] == "KILLED" and "SIGTERM" in record["error"]
    assert mlflow_runs.find_run(uri, "mine").status == "KILLED"
