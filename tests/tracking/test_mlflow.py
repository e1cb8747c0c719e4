"""MLflow: one store safely made, a run written, taken up again, found; nothing else touched."""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import posixpath
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.records.schema import RunRecord
from myosotis.tracking import mlflow_client, mlflow_runs
from myosotis.tracking import mlflow_store as stores
from myosotis.tracking.mlflow_limits import flatten, valid_name
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.tracking.null_logger import NullLogger
from myosotis.utils.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def seed_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real, empty store; making one takes seconds, so the tests copy it."""
    path = tmp_path_factory.mktemp("seed") / "mlflow.db"
    mlflow_client.open_store(str(path))
    return path


@pytest.fixture
def uri(tmp_path: Path, seed_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mlflow.db"
    path.write_bytes(seed_store.read_bytes())
    return str(path)


def run_in(uri: str, **kwargs) -> MLflowLogger:
    logger = MLflowLogger(uri, **kwargs)
    logger.start()
    return logger


# -- where the store is --------------------------------------------------------------------


def test_default_is_absolute_beside_its_artifacts(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    found = stores.resolve()
    assert found.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert found.artifacts == f"{tmp_path}/mlartifacts"


def test_environment_is_read_at_run_time_and_config_wins(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert stores.resolve().uri == "http://tracking.example:5000"
    assert stores.resolve(f"{tmp_path}/own.db").uri == f"sqlite:///{tmp_path}/own.db"


def test_relative_sqlite_uris_become_absolute(tmp_path: Path):
    assert stores.resolve("sqlite:///a/b.db", tmp_path).uri == f"sqlite:///{tmp_path}/a/b.db"
    assert stores.resolve("../b.db", tmp_path / "a").uri == f"sqlite:///{tmp_path}/b.db"


@pytest.mark.parametrize(
    "uri",
    ["./mlruns", "file:///tmp/mlruns", "sqlite://", "sqlite:///:memory:", "ftp://x/y", "a%20b.db"],
)
def test_what_is_no_store_is_refused(uri: str):
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        stores.resolve(uri)


def test_a_uri_recorded_without_its_password_is_asked_for_again(monkeypatch: pytest.MonkeyPatch):
    recorded = stores.without_credentials("http://me:hunter2@tracking.example:5000")
    assert recorded == "http://***@tracking.example:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@elsewhere.example:5000")
    with pytest.raises(ConfigError, match="without its password") as refused:
        stores.resolve(recorded)
    assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@tracking.example:5000")
    store = stores.resolve(recorded)
    assert store.uri == "http://me:hunter2@tracking.example:5000"
    assert store.shown == recorded


# -- whether it can be used ----------------------------------------------------------------


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="something else"):
        mlflow_client.open_store(str(path))
    assert path.read_bytes() == before


def test_another_alembic_application_is_foreign_too(tmp_path: Path):
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE alembic_version (version_num TEXT)")
        db.execute("CREATE TABLE users (name TEXT)")
    with pytest.raises(ConfigError, match="something else"):
        mlflow_client.open_store(str(path))


def test_a_store_of_another_mlflow_version_is_not_migrated(uri: str):
    with sqlite3.connect(uri) as db:
        db.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    before = Path(uri).read_bytes()
    with pytest.raises(ConfigError, match="mlflow db upgrade"):
        mlflow_client.open_store(uri)
    assert Path(uri).read_bytes() == before


def test_rubbish_is_refused(tmp_path: Path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(ConfigError, match="not an MLflow database"):
        mlflow_client.open_store(str(path))


def test_a_locked_database_is_named(uri: str):
    holder = sqlite3.connect(uri, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(ConfigError, match="locked by another process"):
            stores.check(stores.resolve(uri), lock_seconds=0.2)
    finally:
        holder.close()


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(ConfigError, match="cannot be made"):
        mlflow_client.open_store("/proc/nowhere/mlflow.db")


def _as_nobody(uri: str, answer) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        stores.check(stores.resolve(uri))
        answer.put("usable")
    except ConfigError as error:
        answer.put(error.message)


def test_a_read_only_database_is_named(seed_store: Path, tmp_path_factory: pytest.TempPathFactory):
    """In a child that is not root, for whom permissions mean something."""
    folder = tmp_path_factory.mktemp("readonly")
    path = folder / "mlflow.db"
    path.write_bytes(seed_store.read_bytes())
    for parent in (folder, *folder.parents):
        if parent != Path(tempfile.gettempdir()) and parent.is_relative_to(tempfile.gettempdir()):
            parent.chmod(0o755)
    path.chmod(0o444)
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    child = context.Process(target=_as_nobody, args=(str(path), answer))
    child.start()
    assert "cannot be written" in answer.get(timeout=30)
    child.join(30)


def test_a_server_that_does_not_answer_is_named_at_once():
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="does not answer"):
        mlflow_client.open_store("http://127.0.0.1:9")
    assert time.monotonic() - begun < 5


def test_reading_does_not_make_a_store(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no runs yet"):
        mlflow_runs.find_run(None, "last")
    assert list(tmp_path.iterdir()) == []


def _start_together(uri: str, barrier, answer) -> None:
    try:
        barrier.wait(200)
        logger = run_in(uri, run_name=f"child-{os.getpid()}")
        for step in range(20):
            logger.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
            logger.flush()
        logger.finish("FINISHED")
        answer.put(logger.run_id)
    except BaseException as error:
        answer.put(repr(error))
        raise


@pytest.mark.slow
def test_eight_processes_make_one_store_at_once(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Real processes; preloading spares each of them the seconds that importing Lightning takes.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["myosotis.tracking.mlflow_logger"])
    barrier, answer = context.Barrier(8), context.Queue()
    uri = f"{tmp_path}/new/mlflow.db"
    children = [
        context.Process(target=_start_together, args=(uri, barrier, answer)) for _ in range(8)
    ]
    for child in children:
        child.start()
    run_ids = [answer.get(timeout=300) for _ in children]
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 8, run_ids
    store = mlflow_client.open_store(uri)
    assert len(mlflow_client.client(store).search_experiments()) == 2  # Default, and ours once
    for run_id in run_ids:
        run = mlflow_runs.find_run(store, run_id)
        assert run.status == "FINISHED"
        assert run.metrics["train/loss"] == pytest.approx(1 / 20)


# -- a run ---------------------------------------------------------------------------------


def test_a_run_from_start_to_finish(uri: str, tmp_path: Path):
    logger = run_in(uri, run_name="first", tags={"method": "lora"}, parent_run_id="p" * 32)
    logger.log_hyperparams({"update": {"r": 16}, "seed": 0, "data": {"path": None}})
    for step in range(3):
        logger.log_metrics({"train/loss": 3.0 - step, "epoch": 0}, step)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    logger.log_artifact(tmp_path / "config.yaml")
    logger.finalize("success")  # Lightning, when fit ends: the run goes on
    assert mlflow_runs.find_run(uri, "last").status == "RUNNING"
    logger.finish("KILLED", "SIGTERM")

    run = mlflow_runs.find_run(uri, "last")
    assert (run.name, run.status, run.params["update.r"]) == ("first", "KILLED", "16")
    assert run.params["data.path"] == "null"
    assert run.metrics == {"train/loss": 1.0, "train/epoch": 0.0}
    assert run.tags["method"] == "lora"
    assert run.tags[stores.REASON] == "SIGTERM"
    assert run.tags["mlflow.parentRunId"] == "p" * 32
    assert run.ended
    history = mlflow_client.client(run.store).get_metric_history(run.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    copy = mlflow_runs.download_artifact(run, "config.yaml", tmp_path / "back")
    assert copy.read_text() == "seed: 0\n"
    assert run.artifact_uri.startswith(f"file://{tmp_path}/mlartifacts/myosotis/")


def test_the_experiment_opens_in_the_training_view(uri: str):
    logger = run_in(uri)
    experiment = logger.experiment.get_experiment(logger.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_resume_goes_on_in_the_same_run_and_records_changed_params(uri: str):
    first = run_in(uri)
    first.log_hyperparams({"trainer": {"max_steps": 10}, "seed": 0})
    first.finish("KILLED", "SIGKILL")

    again = run_in(uri, run_id=first.run_id)
    again.log_hyperparams({"trainer": {"max_steps": 20}, "seed": 0, "update": {"r": 4}})
    assert again.run_id == first.run_id
    assert again.changed_params == {"trainer.max_steps": ("10", "20")}
    run = mlflow_runs.find_run(uri, "last")
    assert run.status == "RUNNING"
    assert run.params == {"trainer.max_steps": "10", "seed": "0", "update.r": "4"}
    assert run.tags["myosotis.changed_params"] == '{"trainer.max_steps": ["10", "20"]}'


def test_resuming_a_run_that_is_not_there(uri: str):
    with pytest.raises(ConfigError, match="cannot resume"):
        MLflowLogger(uri, run_id="0" * 32).start()


def test_long_params_and_tags_are_cut_and_say_so(uri: str):
    logger = run_in(uri)
    logger.log_hyperparams({"prompt": "x" * 7000} | {f"p{i}": i for i in range(250)})
    logger.set_tags({"note": "y" * 9000})
    run = mlflow_runs.find_run(uri, "last")
    assert len(run.params) == 251
    assert len(run.params["prompt"]) == 6000
    assert run.params["prompt"].endswith("(cut; 7000 characters in all)")
    assert len(run.tags["note"]) == 8000


def test_names_mlflow_rejects_are_mapped_and_stay_apart(uri: str):
    logger = run_in(uri)
    logger.log_metrics({"acc[0]": 1.0, "acc(0)": 2.0, "/a//../b": 3.0, "retention/piqa": 4.0}, 1)
    logger.flush()
    metrics = mlflow_runs.find_run(uri, "last").metrics
    assert sorted(metrics.values()) == [1.0, 2.0, 3.0, 4.0]
    assert metrics["acc_0"] == 1.0
    assert metrics["a/b"] == 3.0


def test_non_finite_metrics_are_told_not_charted(uri: str):
    logger = run_in(uri)
    logger.log_metrics({"train/loss": math.nan, "val/loss": math.inf, "ok": 1.0}, 7)
    logger.flush()
    run = mlflow_runs.find_run(uri, "last")
    assert run.metrics == {"ok": 1.0}
    assert run.tags["myosotis.non_finite_metrics"] == (
        "train/loss = nan at step 7; val/loss = inf at step 7"
    )


def test_a_store_that_fails_later_costs_no_training(uri: str):
    logger = run_in(uri)
    holder = sqlite3.connect(uri, isolation_level=None)
    logger._client._tracking_client.store.engine.dispose()
    holder.execute("DROP TABLE latest_metrics")
    logger.log_metrics({"a": 1.0}, 1)
    logger.flush()  # no exception
    assert logger._metrics  # kept for the next attempt
    holder.close()


def test_unusual_folder_names_work(tmp_path: Path, seed_store: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "a b ü#1"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(seed_store.read_bytes())
    logger = run_in(str(folder / "mlflow.db"), experiment="naïve [x]/y")
    (tmp_path / "f.txt").write_text("hello")
    logger.log_artifact(tmp_path / "f.txt", "sub")
    logger.finish("FINISHED")
    run = mlflow_runs.find_run(str(folder / "mlflow.db"), "last")
    assert mlflow_runs.download_artifact(run, "sub/f.txt", tmp_path / "back").read_text() == "hello"
    assert list((folder / "mlartifacts").rglob("f.txt"))


def test_null_logger_takes_everything(tmp_path: Path):
    logger = NullLogger()
    logger.start()
    logger.log_hyperparams({"a": 1})
    logger.log_metrics({"a": 1.0}, 0)
    logger.set_tags({"a": "b"})
    logger.log_artifact(tmp_path)
    logger.flush()
    logger.finish("FINISHED")
    assert logger.run_id is None
    offered = {name for name in vars(MLflowLogger) if not name.startswith("_")}
    missing = {name for name in offered if not hasattr(NullLogger, name)}
    assert missing == {"experiment"}


def test_lightning_logs_through_it(uri: str, tmp_path: Path):
    import lightning
    import torch

    class Tiny(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, index):
            loss = self.layer(batch).pow(2).mean()
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    logger = MLflowLogger(uri)
    trainer = lightning.Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(Tiny(), torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=2))
    logger.finish("FINISHED")
    history = logger.experiment.get_metric_history(logger.run_id, "train/loss")
    assert [m.step for m in history] == [0, 1, 2, 3]


# -- finding a run -------------------------------------------------------------------------


def test_find_by_id_prefix_name_and_last(uri: str):
    ids = []
    for name in ("red", "green"):
        logger = run_in(uri, run_name=name)
        logger.finish("FINISHED")
        ids.append(logger.run_id)
        time.sleep(0.01)
    assert mlflow_runs.find_run(uri, "last").name == "green"
    assert mlflow_runs.find_run(uri, "red").run_id == ids[0]
    assert mlflow_runs.find_run(uri, ids[0]).name == "red"
    assert mlflow_runs.find_run(uri, ids[0][:8]).name == "red"
    with pytest.raises(DataError, match="Did you mean") as missed:
        mlflow_runs.find_run(uri, "gren")
    assert "green" in str(missed.value)


def test_an_ambiguous_name_lists_the_candidates(uri: str):
    ids = {run_in(uri, run_name="same").run_id for _ in range(2)}
    with pytest.raises(DataError, match="any of 2 runs") as error:
        mlflow_runs.find_run(uri, "same")
    assert all(run_id[:12] in str(error.value) for run_id in ids)


def test_runs_of_others_are_not_ours(uri: str):
    mlflow = mlflow_client.client(mlflow_client.open_store(uri))
    mlflow.create_run("0", run_name="theirs")
    with pytest.raises(DataError, match="no runs in"):
        mlflow_runs.find_run(uri, "last")


def test_a_killed_run_is_seen_to_be_dead(uri: str):
    logger = run_in(uri)
    assert mlflow_runs.find_run(uri, "last").alive
    logger.set_tags({mlflow_client.PID: "999999999"})
    assert not mlflow_runs.find_run(uri, "last").alive
    logger.set_tags({mlflow_client.HOST: "elsewhere"})  # where only the heartbeat can tell
    assert mlflow_runs.find_run(uri, "last").alive
    logger.set_tags({mlflow_client.HEARTBEAT: "2020-01-01T00:00:00+00:00"})
    assert not mlflow_runs.find_run(uri, "last").alive
    assert platform.node() != "elsewhere"


def test_the_record_comes_from_the_artifacts_or_the_run_folder(uri: str, tmp_path: Path):
    logger = run_in(uri)
    with pytest.raises(DataError, match=r"no artifact record\.json"):
        mlflow_runs.load_record(mlflow_runs.find_run(uri, "last"))
    record = RunRecord(run_id=logger.run_id or "", run_name="kept")
    record.save(tmp_path / "run" / "record.json")
    logger.set_tags({stores.FOLDER: tmp_path / "run"})
    assert mlflow_runs.load_record(mlflow_runs.find_run(uri, "last")) == record
    record.status = "FINISHED"
    record.save(tmp_path / "run" / "record.json")
    logger.log_artifact(tmp_path / "run" / "record.json")
    assert mlflow_runs.load_record(mlflow_runs.find_run(uri, "last")).status == "FINISHED"


# -- names ---------------------------------------------------------------------------------


@given(st.text(max_size=400))
def test_every_name_becomes_one_mlflow_accepts(name: str):
    from mlflow.utils.validation import _validate_metric_name

    mapped = valid_name(name)
    _validate_metric_name(mapped)
    assert 0 < len(mapped) <= 250
    assert posixpath.normpath(mapped) == mapped


@pytest.mark.parametrize(
    "name", ["train/loss", "optimizer._target_", "retention/arc_easy", "a.b-c"]
)
def test_good_names_are_left_alone(name: str):
    assert valid_name(name) == name


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2], "f": True}) == {
        "a.b": "1",
        "a.c.d": "null",
        "e": "[1, 2]",
        "f": "true",
    }
