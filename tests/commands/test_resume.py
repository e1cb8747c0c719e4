"""A run folder belongs to one run, a resume changes nothing that does not fit, and the end of a run
can be repeated: through the command line, with processes that are killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from myosotis.commands import resume
from myosotis.config import compose
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.utils.errors import ConfigError
from tests.commands.test_train import stop_at
from tests.world import call, settings, start

SMALL = {"retention.suite": "[]", "task.generate": 0, "task.shots": 0, "retention.kl_items": 0}


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def mlflow_status(store: Path) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{store}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    return {run.info.run_id: run.info.status for run in client.search_runs(experiments)}


def killed_at(where: str, words: list[str], cwd: Path) -> None:
    """`myosotis WORDS`, which kills itself (SIGKILL) where the method `where` is to begin, or with
    a + to return.
    """
    module, name = where.rstrip("+").rsplit(":")
    owner, method = name.split(".")
    after = where.endswith("+")
    script = f"""
import importlib, os, signal, sys
owner = getattr(importlib.import_module({module!r}), {owner!r})
real = getattr(owner, {method!r})
def killed(self, *args, **words):
    if {after!r}:
        real(self, *args, **words)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, {method!r}, killed)
from myosotis.cli import main
sys.exit(main(sys.argv[1:]))
"""
    env = {**os.environ, "MYOSOTIS_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    env.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


# ------------------------------------------------------------------ a folder of its own


def test_the_default_folders_of_two_configurations_differ() -> None:
    """Composed within one second; kept for each configuration."""
    first, second = compose([]), compose([])
    assert first.out != second.out
    assert first.out == first.out
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-[0-9a-f]{6}", first.out)


@pytest.mark.slow
def test_runs_that_are_started_together_all_stay(world: Path, tmp_path: Path) -> None:
    words = settings(world, tmp_path, **SMALL, **{"trainer.max_steps": 1, "tracking": "none"})[:-1]
    words = [word for word in words if not word.startswith("out=")]
    started = [start(["train", "--json", *words, f"seed={n}"], tmp_path) for n in range(4)]
    told = [json.loads(process.communicate(timeout=600)[0]) for process in started]
    records = [RunRecord.load(path) for path in (tmp_path / "runs").rglob("record.json")]
    assert {record.run_id for record in records} == {one["run_id"] for one in told}
    assert sorted(record.config["seed"] for record in records) == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_folder_that_holds_another_run_is_refused(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    words = settings(world, out, **SMALL, **{"trainer.max_steps": 2})
    call(["train", *words], tmp_path)
    before, rows = contents(tmp_path / "mine"), mlflow_status(tmp_path / "mlflow.db")
    for changes in ([], ["update.r=4"]):
        _, err = call(["train", *words, *changes], tmp_path, code=2)
        told = " ".join(err.split())
        assert f"{out} holds a run already: lora-r16" in told
        assert f"resume={out}" in told and "another out=" in told
    assert contents(out) == before
    assert mlflow_status(tmp_path / "mlflow.db") == rows


@pytest.mark.slow
def test_a_run_that_is_being_written_is_not_resumed(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "busy"
    changes = {**SMALL, "trainer.max_steps": 100_000, "tracking": "none"}
    process = start(["train", *settings(world, out, **changes)], tmp_path)

    def resume_it() -> None:
        _, err = call(["train", "resume=last"], tmp_path, code=2)
        assert f"is being written by process {process.pid}" in " ".join(err.split())
        os.kill(process.pid, signal.SIGTERM)

    stop_at(process, out, 6, resume_it)
    assert process.returncode == 143
    assert RunRecord.load(out).status == "KILLED"
    assert not RunFolder(out).in_use


# ------------------------------------------------------------------ what may change


@pytest.fixture(scope="module")
def stopped(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder it was started in, and that of a run killed after its first checkpoint."""
    place = tmp_path_factory.mktemp("stopped")
    out = place / "runs" / "it"
    process = start(["train", *settings(world, out, **SMALL)], place)
    stop_at(process, out, 6, lambda: os.killpg(process.pid, signal.SIGKILL))
    return place, out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("update.r=4", "update.r is 16, not 4"),
        ("optimizer.lr=1e-5", "optimizer.lr is 0.01, not 1e-05"),
        ("trainer.max_steps=6", "trainer.max_steps is 12, not 6"),
        ("trainer.max_epochs=3", "trainer.max_epochs is null, not 3"),
        ("seed=1", "seed is 0, not 1"),
        ("retention.budget=0.5", "retention.budget is 0.05, not 0.5"),
        ("update=full", "update=full cannot change"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    stopped: tuple[Path, Path], given: str, said: str
) -> None:
    place, out = stopped
    before, rows = contents(place / "runs"), mlflow_status(place / "mlflow.db")
    _, err = call(["train", "resume=last", given], place, code=2)
    assert said in " ".join(err.split())
    assert contents(place / "runs") == before
    assert mlflow_status(place / "mlflow.db") == rows
    assert [path.name for path in (place / "runs").iterdir()] == [out.name]


@pytest.mark.slow
def test_a_limit_may_rise_and_a_finished_run_stays_as_it_is(
    stopped: tuple[Path, Path],
) -> None:
    place, out = stopped
    _, err = call(["train", "resume=last", "seed=0", "trainer.num_threads=2"], place)
    assert "resuming from step 5 of 12" in err
    assert "num_threads: 2" in (out / "config.yaml").read_text()
    before, rows = contents(out), mlflow_status(place / "mlflow.db")
    for given in ([], ["trainer.num_threads=1"]):
        printed, err = call(["train", "resume=last", "--json", *given], place)
        assert json.loads(printed)["status"] == "FINISHED"
        assert "is finished: nothing is left to do" in " ".join(err.split())
        assert contents(out) == before
        assert mlflow_status(place / "mlflow.db") == rows
    _, err = call(["train", "resume=last", "optimizer.lr=1e-5"], place, code=2)
    assert contents(out) == before
    _, err = call(["train", "resume=last", "trainer.max_steps=14"], place)
    assert "resuming from step 12 of 14" in err
    record = RunRecord.load(out)
    assert [p.step for p in record.curves if p.name == "train/loss"] == list(range(1, 15))
    assert record.config["trainer"]["max_steps"] == 14


# ------------------------------------------------------------------ the end, repeated


@pytest.mark.slow
@pytest.mark.parametrize("again", ["resume", "sync"])
def test_killed_before_mlflow_ends_it_is_ended_by_the_same_command_and_by_sync(
    world: Path, tmp_path: Path, again: str
) -> None:
    out = tmp_path / "runs" / "end"
    words = ["train", *settings(world, out, **SMALL, **{"trainer.max_steps": 2})]
    killed_at("myosotis.tracking.mlflow_logger:MLflowLogger.finish", words, tmp_path)
    (out / "scorecard.html").unlink()  # as a kill a moment before leaves it
    (out / "checkpoints" / "last.ckpt.partial").write_bytes(b"half")
    (out / ".record.json.0123.partial").write_text("{")
    record = RunRecord.load(out)
    assert record.status == "FINISHED"
    assert mlflow_status(tmp_path / "mlflow.db") == {record.run_id: "RUNNING"}
    call(["train", f"resume={out}"] if again == "resume" else ["sync", str(out)], tmp_path)
    assert mlflow_status(tmp_path / "mlflow.db") == {record.run_id: "FINISHED"}
    assert "<html" in (out / "scorecard.html").read_text()
    assert not list(out.rglob("*.partial"))
    assert RunRecord.load(out) == record
    mended = contents(out)
    call(["train", f"resume={out}"], tmp_path)
    assert contents(out) == mended


@pytest.mark.slow
@pytest.mark.parametrize("again", ["train", "sync"])
def test_killed_before_the_record_knows_its_run_in_mlflow_no_orphan_stays(
    world: Path, tmp_path: Path, again: str
) -> None:
    """The run is in MLflow, and the record still has the id it had before."""
    out = tmp_path / "runs" / "begin"
    words = ["train", *settings(world, out, **SMALL, **{"trainer.max_steps": 2})]
    killed_at("myosotis.tracking.mlflow_logger:MLflowLogger.start+", words, tmp_path)
    ((run_id, status),) = mlflow_status(tmp_path / "mlflow.db").items()
    record = RunRecord.load(out)
    assert status == "RUNNING" and record.run_id != run_id
    call(words if again == "train" else ["sync", "all"], tmp_path)
    assert RunRecord.load(out).run_id == run_id
    ended = {"train": "FINISHED", "sync": "KILLED"}[again]
    assert mlflow_status(tmp_path / "mlflow.db") == {run_id: ended}


@pytest.mark.slow
def test_what_cannot_be_evaluated_is_no_run_and_last_is_what_can_be_used(
    world: Path, stopped: tuple[Path, Path], tmp_path: Path
) -> None:
    """`evaluate` of nothing leaves nothing; after `evaluate`, `last` is still the tuned model."""
    suite = ["retention.suite=[prose]", "retention.items=30", "trainer.num_threads=1"]
    call(["evaluate", "./nothing", *suite], tmp_path, code=2)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}
    out = tmp_path / "runs" / "a"
    call(["train", *settings(world, out, **SMALL, **{"trainer.max_steps": 2})], tmp_path)
    printed, _ = call(["evaluate", "last", "--json", *suite], tmp_path)
    assert json.loads(printed)["command"] == ["myosotis", "evaluate", "last", *suite]
    printed, _ = call(["generate", "last", "--prompt", "a", "--json"], tmp_path)
    assert json.loads(printed)[0].keys() == {"prompt", "tuned"}
    _, err = call(["train", "resume=last"], tmp_path)
    assert "is finished" in err


def test_a_resumed_run_may_go_on_without_its_store() -> None:
    """What the message about a store that cannot be used proposes: another option of `tracking`."""
    saved, given = compose(["tracking.experiment=mine"]), ["tracking=none"]
    cfg = compose(given)
    changed = resume.changes(saved, cfg, given)
    assert list(changed) == ["tracking"]
    resume.replace_values(saved, cfg, given)
    assert saved.tracking.enabled is False
    with pytest.raises(ConfigError, match="it chooses another option"):
        resume.changes(compose([]), compose(["schedule=linear"]), ["schedule=linear"])
