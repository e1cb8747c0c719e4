"""What a sweep tells of its trials, from their records alone: no model, no MLflow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from myosotis.commands import sweep
from myosotis.commands.sweep import Sweep, best_of, in_words, summary_metrics, trials_of
from myosotis.records.run_folder import SweepFolder
from myosotis.records.schema import RunRecord, SuiteVerdict, TaskQuality


def record(name: str, gain: float | None, verdict: str = "retained", **more: Any) -> RunRecord:
    task = None if gain is None else TaskQuality("loglik", base=-3.0, tuned=-3.0 + gain, delta=gain)
    suite = SuiteVerdict(
        delta=-0.01, lo=-0.02, hi=0.0, epsilon=0.03, verdict=verdict, accept="retained"
    )
    given = {"status": "FINISHED", "ended": "2026-01-01T00:10:00+00:00", **more}
    return RunRecord(run_id=name, run_name=name, task=task, suite_verdict=suite, **given)


def put(folder: SweepFolder, *records: RunRecord) -> None:
    for each in records:
        each.save(folder.path / each.run_id / "record.json")


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "mine")


def test_the_best_is_within_the_budget_before_it_is_good(folder: SweepFolder) -> None:
    put(folder, record("a", 0.2), record("b", 0.3, "inconclusive"), record("c", 0.9, "forgotten"))
    best = best_of(trials_of(folder))
    assert best is not None and best.record.run_id == "a"
    put(folder, record("a", 0.2, "inconclusive"))
    best = best_of(trials_of(folder))
    assert best is not None and best.record.run_id == "b"
    put(folder, record("a", 0.2, "forgotten"), record("b", None))
    assert best_of(trials_of(folder)) is None


def test_the_result_in_words_and_numbers(folder: SweepFolder) -> None:
    put(folder, record("a", 0.2), record("b", None, status="FAILED", error="no disk"))
    trials = trials_of(folder)
    said = in_words(trials).splitlines()
    assert said[:2] == [
        "1 of 2 trials finished.",
        "Ship a: of the settings within budget, it learned most.",
    ]
    assert said[-1] == "b failed: no disk"
    unmeasured = RunRecord("c", run_name="c", task=trials[0].record.task, status="FINISHED")
    put(folder, unmeasured)
    (folder.path / "a" / "record.json").unlink()
    assert "c learned most." in in_words(trials_of(folder))
    assert summary_metrics(trials) == {
        "sweep/trials": 2,
        "sweep/finished": 1,
        "sweep/failed": 1,
        "best/quality": pytest.approx(-2.8),
        "best/forgetting": pytest.approx(0.01),
    }


def test_each_end_is_told_once_with_the_best_and_the_time_left(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of five trials one is there, one failed last time; two end, ten seconds after the start."""
    monkeypatch.setattr(sweep, "LOOK_EVERY_SECONDS", 0.01)
    put(folder, record("there", 0.1), record("again", None, status="FAILED", error="old"))
    study = Sweep(folder, "mine", ["myosotis"], None, total=5)
    study._began -= 10
    with study:
        put(folder, record("new", 0.4), record("running", None, status="RUNNING", ended=""))
        put(folder, record("again", None, status="FAILED", error="new", ended="later"))
        (folder.path / "broken").mkdir()
        (folder.path / "broken" / "record.json").write_text("{")
        deadline = time.monotonic() + 30
        both = "best new -2.600, 10 s left"  # two took ten seconds, two are to come
        while both not in study._standing() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert both in study._standing()
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if "/5  " in line]
    assert len(lines) == 2
    assert any("new  task +0.400  mean accuracy −1.0 points ✓ retained" in line for line in lines)
    assert any("again  FAILED: new" in line for line in lines)
    assert "FAILED: old" not in err and "finished already: 1 trials" in err
    assert [trial.record.run_id for trial in study.failed()] == ["again"]
    document = study.document()
    assert Path(document["scorecard"]).exists()
    assert {run["run_id"]: run["status"] for run in document["runs"]} == {
        "there": "FINISHED", "again": "FAILED", "new": "FINISHED", "running": "RUNNING",
    }  # fmt: skip
