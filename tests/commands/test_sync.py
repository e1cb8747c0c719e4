"""A server that goes away for a while, or for good: what MLflow missed comes from the disk."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from myosotis.commands.sync import sync
from myosotis.records.run_folder import RunFolder, SweepFolder, SweepInfo
from myosotis.records.schema import DataInfo, RunRecord, SuiteVerdict
from myosotis.tracking import mlflow_client, mlflow_runs, mlflow_store
from myosotis.tracking.jsonl_logger import JsonlLogger
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.tracking.run_tracker import track
from tests.world import call, settings, start, steps_done

CONFIG: dict[str, Any] = {
    "update": {"name": "lora", "r": 4},
    "objective": {"name": "sft"},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
    "schedule": {"name": "cosine"},
    "model": {"id": "tiny"},
    "data": {"name": "mine", "batch_size": 8, "row_tokens": 64},
    "trainer": {"max_steps": 3, "max_epochs": None, "precision": "32-true"},
    "retention": {"suite": [], "items": 10, "budget": 0.05, "num_fewshot": 0},
    "tracking": {"enabled": True, "uri": None, "experiment": "mine", "tags": {"who": "me"}},
    "seed": 0,
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return str(tmp_path / "mlflow.db")


def run_folder(path: Path, **changes: Any) -> RunFolder:
    folder = RunFolder(path)
    folder.path.mkdir(parents=True)
    record = RunRecord(
        run_id="f" * 32,
        run_name=path.name,
        status="FINISHED",
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:00:30+00:00",
        config=CONFIG,
        data=DataInfo("mine", {"train": 5}, hash="abc"),
        config_hash=path.name,
    )
    for name, value in changes.items():
        setattr(record, name, value)
    record.save(folder.record)
    history = JsonlLogger(folder.metrics)
    for step in range(4):
        history.log_metrics({"train/loss": 3.0 - step, "acc[0]": 0.5}, step)
    folder.config.write_text("seed: 0\n")
    folder.update.mkdir()
    (folder.update / "adapter.bin").write_bytes(b"weights")
    return folder


def test_a_run_the_store_never_saw_is_made_and_doing_it_twice_changes_nothing(
    store: str, tmp_path: Path
) -> None:
    judged = SuiteVerdict(delta=-0.01, verdict="slipped")
    folder = run_folder(tmp_path / "runs" / "one", suite_verdict=judged)
    (done,) = sync([folder], None)
    assert (done["synced"], done["points"]) == (True, 8)
    assert folder.load().run_id == done["run_id"] != "f" * 32
    (again,) = sync([folder], None)
    assert (again["run_id"], again["points"]) == (done["run_id"], 0)

    run = mlflow_runs.find_run(store, done["run_id"])
    assert (run.status, run.name) == ("FINISHED", "one")
    assert run.params["update.r"] == "4" and run.params["optimizer.lr"] == "0.001"
    assert run.tags["config_hash"] == "one" and run.tags["who"] == "me"
    assert (run.tags["model"], run.tags["data"], run.tags["verdict"]) == ("tiny", "mine", "slipped")
    assert run.metrics == {"train/loss": 0.0, "acc_0": 0.5}
    client = mlflow_client.client(run.store)
    history = client.get_metric_history(run.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]
    assert history[3].timestamp - history[0].timestamp == 30_000
    (inputs,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert (inputs.dataset.name, inputs.dataset.digest) == ("mine", "abc")
    assert mlflow_runs.load_record(run).run_id == run.run_id
    assert {a.path for a in client.list_artifacts(run.run_id, "update")} == {"update/adapter.bin"}


def test_only_what_is_missing_is_brought(store: str, tmp_path: Path) -> None:
    logger = MLflowLogger(store, "mine", "half")
    logger.log_metrics({"train/loss": 3.0}, 0)
    logger.log_metrics({"train/loss": 2.0}, 1)
    logger.flush()  # and then the server went away: the run is still RUNNING there
    folder = run_folder(
        tmp_path / "runs" / "half", run_id=logger.run_id, status="FAILED", error="x"
    )
    (done,) = sync([folder], None)
    assert done["points"] == 6 and done["run_id"] == logger.run_id
    run = mlflow_runs.find_run(store, "half")
    assert run.status == "FAILED" and run.tags[mlflow_store.REASON] == "x"
    history = mlflow_client.client(run.store).get_metric_history(run.run_id, "train/loss")
    assert sorted(m.step for m in history) == [0, 1, 2, 3]


def test_trials_come_back_under_their_sweep(store: str, tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "multirun" / "mine")
    sweep.save(SweepInfo("mine", ["myosotis"], "2026-01-01T00:00:00+00:00", run_id="e" * 32))
    trials = [
        run_folder(sweep.path / "a", command=["myosotis", "train", "update.r=4"]),
        run_folder(sweep.path / "b", status="FAILED", error="no disk"),
        run_folder(sweep.path / "c", status="RUNNING"),
        run_folder(sweep.path / "d", config={**CONFIG, "tracking": {"enabled": False}}),
    ]
    with trials[2].held():
        done = sync(trials, None)
    assert [run["synced"] for run in done] == [True, True, False, False]
    assert done[2]["why"] == "it is running"
    sync(trials, None)
    assert mlflow_runs.find_run(store, "a").tags["swept"] == "update.r=4"
    assert mlflow_runs.find_run(store, "c").status == "KILLED"  # nobody holds its folder any more
    info = sweep.load()
    assert info is not None
    parent = mlflow_runs.find_run(store, info.run_id)
    assert parent.metrics["sweep/trials"] == 4 and parent.metrics["sweep/failed"] == 1
    assert "b failed: no disk" in parent.tags["mlflow.note.content"]
    found = mlflow_client.client(parent.store).search_runs([parent.experiment_id])
    children = {r.info.run_name for r in found if r.data.tags.get("mlflow.parentRunId")}
    assert children == {"a", "b", "c"}
    assert len(found) == 4


def test_a_server_that_is_away_for_a_while_holds_nothing_up(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While it is away one attempt is made, then none for half a minute; then all arrives."""
    clock = [1000.0]
    monkeypatch.setattr("myosotis.tracking.mlflow_logger.time.monotonic", lambda: clock[0])
    logger = MLflowLogger(store, "mine", "patient")
    logger.start()
    attempts, write, away = [], mlflow_client.log_batch, [True]

    def log_batch(*args: Any, **kwargs: Any) -> None:
        attempts.append(clock[0])
        if away[0]:
            raise mlflow_client.MlflowException("connection refused")
        write(*args, **kwargs)

    monkeypatch.setattr(mlflow_client, "log_batch", log_batch)
    with caplog.at_level(logging.WARNING):
        for step in range(60):  # a minute, a step a second
            clock[0] += 1
            logger.log_metrics({"train/loss": float(step)}, step)
    assert len(attempts) == 2
    assert len(caplog.records) == 1
    away[0] = False
    clock[0] += 100
    logger.log_metrics({"train/loss": 60.0}, 60)
    logger.finish("FINISHED")
    assert not logger.incomplete
    run = mlflow_runs.find_run(store, "patient")
    history = mlflow_client.client(run.store).get_metric_history(run.run_id, "train/loss")
    assert sorted(m.step for m in history) == list(range(61))


def test_what_could_not_be_written_is_known_to_be_missing(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = MLflowLogger(store, "mine")
    logger.start()

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise mlflow_client.MlflowException("gone")

    monkeypatch.setattr(mlflow_client, "log_batch", refuse)
    logger.set_tags({"a": "b"})
    assert logger.incomplete


def test_a_trial_begins_without_its_server_and_a_single_run_does_not(tmp_path: Path) -> None:
    from myosotis.utils.errors import ConfigError

    nowhere = "http://127.0.0.1:9"
    trial = MLflowLogger(nowhere, required=False)
    trial.start()
    trial.log_hyperparams({"a": 1})
    trial.log_metrics({"a": 1.0}, 0)
    trial.log_artifact(tmp_path)
    trial.finish("FINISHED")
    assert trial.run_id is None and trial.incomplete
    with pytest.raises(ConfigError, match="does not answer"):
        MLflowLogger(nowhere).start()


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """A real `mlflow server` on this machine."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    artifacts = ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    log = (folder / "server.log").open("a")
    process = subprocess.Popen(
        [*command, *stores, *artifacts], cwd=folder, stdout=log, stderr=log, start_new_session=True
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).read()
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.1)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


@pytest.mark.slow
def test_a_real_server_that_goes_away_and_comes_back(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed while a run logs to it; the run goes on, and later the server has it all."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "runs" / "one"
    few = {"task.generate": 0, "task.shots": 0, "task.items": 4, "trainer.val_every": "null"}
    with server(tmp_path / "server", port) as uri:
        words = settings(world, out, **few, **{"tracking.uri": uri, "trainer.max_steps": 30})
        process = start(["train", "--json", *words], tmp_path)
        while steps_done(out) < 5:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert json.loads(printed)["status"] == "FINISHED"
    record = RunRecord.load(out)
    with server(tmp_path / "server", port) as uri:
        client = mlflow_client.client(mlflow_client.open_store(uri))
        assert len(client.get_metric_history(record.run_id, "train/loss")) < 30
        (done,) = sync([RunFolder(out)], uri)
        assert done["synced"] and done["run_id"] == record.run_id
        run = mlflow_runs.find_run(uri, record.run_id)
        assert run.status == "FINISHED"
        losses = client.get_metric_history(record.run_id, "train/loss")
        assert sorted(point.step for point in losses) == list(range(1, 31))


def test_a_run_that_was_deleted_in_mlflow_stays_so_and_the_others_are_brought(
    store: str, tmp_path: Path
) -> None:
    """Of each run its own result, what failed last; and the hint brings the run back."""
    folders = [run_folder(tmp_path / "runs" / name, run_id=name[0] * 32) for name in ("a", "b")]
    broken = run_folder(tmp_path / "runs" / "c")
    first = sync(folders, None)
    gone = first[0]["run_id"]
    client = mlflow_client.client(mlflow_client.open_store(store))
    client.delete_run(gone)
    broken.record.write_text("{")
    done = sync([*folders, broken], None)
    assert [run["synced"] for run in done] == [False, True, False]
    assert ["failed" in run for run in done] == [False, False, True]
    assert client.get_run(gone).info.lifecycle_stage == "deleted"
    hint = done[0]["why"].partition("; ")[2].removesuffix(" brings it back").split()
    assert hint[-1] == gone
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    subprocess.run([sys.executable, "-m", *hint], check=True, env=env, capture_output=True)
    assert [run["synced"] for run in sync(folders, None)] == [True, True]
    out, err = call(["sync", "all"], tmp_path, code=1)
    assert "1 of 3 runs failed" in err and "Traceback" not in err
    assert "record.json" in out.splitlines()[-1]  # what failed comes last


def test_a_resumed_run_that_was_deleted_in_mlflow_is_restored(store: str) -> None:
    logger = MLflowLogger(store, "mine", "one")
    logger.log_metrics({"train/loss": 3.0}, 0)
    logger.finish("KILLED")
    assert logger.run_id is not None
    client = mlflow_client.client(logger.store)
    client.delete_run(logger.run_id)
    again = MLflowLogger(store, "mine", "one")
    again.start(logger.run_id, again=True)
    assert again.run_id == logger.run_id
    info = client.get_run(logger.run_id).info
    assert (info.lifecycle_stage, info.status) == ("active", "RUNNING")


def test_a_store_that_takes_no_files_keeps_the_rest_and_the_cause_is_said(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The artifact root is a file, as good as a disk that is read-only: all else arrives."""
    (tmp_path / "root").write_text("no folder")
    client = mlflow_client.client(mlflow_client.open_store(store))
    client.create_experiment("mine", artifact_location=(tmp_path / "root").as_uri())
    logger = MLflowLogger(store, "mine", "one")
    folder = run_folder(tmp_path / "runs" / "one")
    with track(
        tmp_path / "runs" / "two", logger, run_name="two", command=[], config={}, config_hash=""
    ) as tracker:
        tracker.artifact(folder.config)
        logger.log_metrics({"train/loss": 1.0}, 1)
    said = " ".join(capsys.readouterr().err.split())
    assert "MLflow lacks this run's files" in said and str(tmp_path / "runs" / "two") in said
    assert logger.run_id is not None
    run = client.get_run(logger.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"train/loss": 1.0})
    (done,) = sync([folder], None)
    assert "takes no files" in done["failed"] and "the rest is there" in done["failed"]
    assert client.get_run(folder.load().run_id).data.metrics["train/loss"] == 0.0
    (tmp_path / "root").unlink()
    (done,) = sync([folder], None)
    assert done["synced"] and (done["points"], "failed" in done) == (0, False)
