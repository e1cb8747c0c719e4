"""`myosotis runs`: the list, one run, and deleting one with its MLflow run and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from myosotis.cli import main
from myosotis.commands import runs
from myosotis.records.run_folder import RunFolder, SweepFolder, SweepInfo
from myosotis.records.schema import RunRecord, SuiteVerdict
from myosotis.tracking.mlflow_logger import MLflowLogger

CONFIG: dict[str, Any] = {
    "update": {"name": "lora", "r": 4},
    "objective": {"name": "dpo"},
    "model": {"id": None, "path": "/models/small/"},
    "data": {"name": "jsonl", "path": "/data/mine.jsonl"},
    "tracking": {"enabled": False, "uri": None},
}


def made(path: Path, day: int, **changes: Any) -> RunFolder:
    words: dict[str, Any] = {
        "run_id": f"{day}" * 32,
        "run_name": path.name,
        "status": "FINISHED",
        "started": f"2026-01-{day:02}T00:00:00+00:00",
        "command": ["myosotis", "train", "update.r=4"],
        "config": CONFIG,
    }
    record = RunRecord(**{**words, **changes})
    record.save(path / "record.json")
    return RunFolder(path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, a killed one, a scoring, and a trial."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    retained = SuiteVerdict(delta=0.0, verdict="retained")
    one = made(tmp_path / "runs" / "one", 1, suite_verdict=retained)
    (one.path / "update").mkdir()
    (one.path / "update" / "weights").write_bytes(b"0" * 5_000_000)
    (one.path / "update" / "big").symlink_to(one.path / "update" / "weights")
    made(tmp_path / "runs" / "two", 2, status="RUNNING")
    made(tmp_path / "runs" / "three", 3, command=["myosotis", "evaluate", "last"])
    sweep = SweepFolder(tmp_path / "multirun" / "x")
    sweep.save(SweepInfo("x", ["myosotis", "train", "-m", "seed=1"], "2026-01-04T00:00:00+00:00"))
    command = ["myosotis", "train", "seed=1", "update.r=2"]
    made(sweep.path / "four", 4, command=command, status="FAILED")
    return tmp_path


def test_the_newest_comes_first_and_each_says_what_it_is(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = runs.listed(place)
    assert [run["run_name"] for run in found] == ["four", "three", "two", "one"]
    assert [run["status"] for run in found] == ["FAILED", "FINISHED", "KILLED", "FINISHED"]
    assert [run["swept"] for run in found] == ["update.r=2", "", "", ""]
    assert [run["method"] for run in found] == ["lora dpo", "evaluate", "lora dpo", "lora dpo"]
    assert [run["data"] for run in found] == ["mine", "", "mine", "mine"]
    assert (found[3]["model"], found[3]["verdict"]) == ("small", "retained")
    assert 5_000_000 < found[3]["bytes"] < 5_010_000, "the link is not followed"
    assert main(["runs"]) == 0
    printed = capfd.readouterr().out
    assert "5.0 MB" in printed and "retained" in printed
    assert main(["runs", "list", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"runs": runs.listed()}


def test_a_run_that_is_being_written_is_running_and_not_deleted(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(place / "runs" / "two")
    with folder.held():
        assert runs.facts(folder)["status"] == "RUNNING"
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from myosotis.records.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).held():\n    print('held', flush=True)\n    input()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    try:
        assert main(["runs", "delete", "two", "--yes"]) == 2
        told = " ".join(capfd.readouterr().err.split())
        assert f"is being written by process {other.pid}" in told
        assert folder.record.exists()
    finally:
        other.communicate("\n", timeout=60)
    assert main(["runs", "delete", "two", "--yes"]) == 0
    assert not folder.path.exists()


def test_show_has_the_command(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "four"]) == 0
    printed = capfd.readouterr().out
    assert "command    myosotis train seed=1 update.r=2\n" in printed
    assert f"out        {place / 'multirun' / 'x' / 'four'}\n" in printed
    assert main(["runs", "show"]) == 2
    assert main(["runs", "list", "four"]) == 2


def test_deleted_with_its_mlflow_run_and_what_is_not_its_own_stays(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = MLflowLogger(str(place / "mlflow.db"), run_name="five")
    logger.start()
    logger.finish("FINISHED")
    assert logger.run_id is not None
    tracking: dict[str, Any] = {"enabled": True, "uri": None}
    config = {**CONFIG, "tracking": tracking}
    folder = made(place / "runs" / "five", 5, run_id=logger.run_id, config=config)
    (folder.path / "notes.txt").write_text("mine")
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    assert main(["runs", "delete", "five"]) == 2, "nobody is there to be asked"
    assert "Add --yes" in capfd.readouterr().err
    assert folder.record.exists()
    assert client.get_run(logger.run_id).info.lifecycle_stage == "active"
    stranger = {**config, "tracking": {**tracking, "uri": str(place / "mlflow.db")}}
    made(folder.path, 5, run_id=logger.run_id, config=stranger)
    assert main(["runs", "delete", "five", "--yes"]) == 2, "a record names a store: not its to say"
    assert client.get_run(logger.run_id).info.lifecycle_stage == "active"
    made(folder.path, 5, run_id=logger.run_id, config=config)
    assert main(["runs", "delete", "five", "--yes"]) == 0
    assert "still there: notes.txt" in capfd.readouterr().out
    assert [p.name for p in folder.path.iterdir() if not p.name.startswith(".")] == ["notes.txt"]
    assert client.get_run(logger.run_id).info.lifecycle_stage == "deleted"
    assert len(runs.listed(place)) == 4
