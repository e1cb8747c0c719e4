"""Records by what a person calls them: folders, files of other tools, sweeps known to MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from myosotis.cli import main
from myosotis.records.run_folder import SweepFolder, SweepInfo
from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import render_html
from myosotis.tracking import mlflow_runs
from myosotis.tracking.find import gather
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.utils.errors import DataError
from tests.records.test_load import FOREIGN, on_disk
from tests.report import made


@pytest.fixture
def records() -> list[RunRecord]:
    return [made.trial("lora", r, 1e-3, seed) for r in (4, 16) for seed in (0, 1)]


def test_a_folder_stands_for_its_runs(tmp_path: Path, records: list[RunRecord]) -> None:
    on_disk(records, tmp_path / "sweep")
    shutil.copytree(tmp_path / "sweep", tmp_path / "sweep" / "mlartifacts" / "x" / "artifacts")
    found = gather([str(tmp_path / "sweep")])
    assert [r.run_id for r in found.records] == [r.run_id for r in records]
    assert found.folder == tmp_path / "sweep"
    one = gather([str(tmp_path / "sweep" / "1")])
    assert [r.run_id for r in one.records] == [records[1].run_id]
    twice = gather([str(tmp_path / "sweep"), str(tmp_path / "sweep" / "1")])
    assert len(twice.records) == 4


def test_an_empty_folder_and_an_unknown_name_are_said(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no run record \(record\.json\)"):
        gather(["empty"])
    with pytest.raises(DataError, match="there are no runs"):
        gather(["nobody"])


def test_a_sweep_on_disk_is_found_by_name_and_mlflow_is_not_asked(
    tmp_path: Path, records: list[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = SweepFolder(tmp_path / "multirun" / "rank_lr-abc")
    sweep.save(SweepInfo("rank_lr", ["myosotis"], "2026-01-01T00:00:00+00:00", run_id="e" * 32))
    on_disk(records, sweep.path)

    def asked(*_: Any) -> None:
        raise AssertionError("MLflow was asked")

    monkeypatch.setattr(mlflow_runs, "find_run", asked)
    for query in ("rank_lr", "eeeeee"):
        everything = gather([query])
        assert [r.run_id for r in everything.records] == [r.run_id for r in records]
        assert everything.folder == sweep.path
    one = gather([records[1].run_id])
    assert [r.run_id for r in one.records] == [records[1].run_id]


def test_records_of_another_tool_stand_beside_ours(
    tmp_path: Path, records: list[RunRecord]
) -> None:
    """Only what is known is given; a change that is left out is tuned − base; unknown keys pass."""
    (tmp_path / "theirs.json").write_text(json.dumps([FOREIGN, FOREIGN | {"run_id": "2"}]))
    found = gather([str(tmp_path / "theirs.json")])
    assert found.stem == "theirs-scorecard"
    assert [r.run_id for r in found.records] == ["1", "2"]
    task = found.records[0].task
    assert task is not None
    assert task.delta == pytest.approx(0.15)
    assert found.records[0].retention[0].delta == pytest.approx(-0.01)
    on_disk(records, tmp_path / "ours")
    both = gather([str(tmp_path / "theirs.json"), str(tmp_path / "ours")])
    assert "other tool, lr 1e-4" in render_html(both.records)


def test_a_sweep_from_mlflow_alone(
    tmp_path: Path, records: list[RunRecord], monkeypatch: Any
) -> None:
    """Records as artifacts; a trial that left none stands as failed, with what MLflow knows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    parent = MLflowLogger(None, "myosotis", "rank_lr")
    parent.start()
    for record in records:
        tags = {"mlflow.parentRunId": str(parent.run_id)}
        trial = MLflowLogger(None, "myosotis", record.run_name, tags)
        trial.start()
        record.run_id = str(trial.run_id)
        if record is records[3]:
            trial.finish("FAILED", "out of memory")
            continue
        trial.log_artifact(record.save(tmp_path / record.run_id / "record.json"))
        trial.finish("FINISHED")
        shutil.rmtree(tmp_path / record.run_id)
    parent.finish("FINISHED")
    for query in ("rank_lr", str(parent.run_id)[:12]):
        found = gather([query])
        assert {r.run_id for r in found.records} == {r.run_id for r in records}
        assert found.stem == "rank_lr"
    (failed,) = [r for r in found.records if r.status == "FAILED"]
    assert failed.error == "out of memory"
    assert "out of memory" in render_html(found.records)
    assert len(mlflow_runs.children(mlflow_runs.find_run(None, "rank_lr"))) == 4
    one = gather([records[0].run_name])
    assert [r.run_id for r in one.records] == [records[0].run_id]


@pytest.mark.parametrize("form", ["md", "json", "csv", "html"])
def test_the_command_writes_every_form(
    tmp_path: Path, records: list[RunRecord], form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    on_disk(records, tmp_path / "sweep")
    assert main(["scorecard", str(tmp_path / "sweep"), "--format", form, "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["runs"] == [r.run_id for r in records]
    written = Path(result["scorecard"])
    assert written == tmp_path / "sweep" / f"scorecard.{form}"
    assert main(["scorecard", str(tmp_path / "sweep"), "--out", str(tmp_path / f"x.{form}")]) == 0
    assert (tmp_path / f"x.{form}").read_bytes() == written.read_bytes()


def test_nothing_to_tell_is_exit_code_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["scorecard", str(tmp_path), "--json"]) == 2
    assert "no run record" in json.loads(capfd.readouterr().out)["error"]
