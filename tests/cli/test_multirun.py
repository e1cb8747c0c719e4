"""A sweep that is killed, fails in part, is run again: by its command alone, and nothing twice."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from myosotis.cli import main
from myosotis.config.hashing import sweep_name
from myosotis.records.run_folder import WRITER
from myosotis.records.schema import RunRecord
from tests.world import put_store, settings, start, steps_done

pytestmark = pytest.mark.slow

FEW = {"task.generate": 0, "task.shots": 0, "task.items": 4}


def study(
    place: Path, params: dict[str, str] | None = None, plugins: Any = (), **hydra: Any
) -> None:
    """`sweeps/mine.yaml` in `place`: JSON is YAML."""
    (place / "sweeps").mkdir()
    sweeper = {"sweeper": {"params": params}} if params else {}
    text = {
        "defaults": ["train", *plugins, "_self_"],
        "hydra": {"mode": "MULTIRUN", **sweeper, **hydra},
    }
    (place / "sweeps" / "mine.yaml").write_text(json.dumps(text))


def words(world: Path, place: Path, *without: str, **changes: Any) -> list[str]:
    given = settings(world, place, **FEW, **changes)
    left_out = ("out=", *(f"{key}=" for key in without))
    return [word for word in given if not word.startswith(left_out)]


def records(place: Path) -> dict[Path, RunRecord]:
    return {p: RunRecord.load(p) for p in sorted(place.glob("multirun/**/record.json"))}


def by_rank(place: Path) -> dict[int, Path]:
    return {r.config["update"]["r"]: p for p, r in records(place).items() if r.config}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For commands in this process: as `tests.world.start` sets things up for another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put_store(["sweep"], tmp_path)
    return tmp_path


def limited() -> None:
    """A limit on the size of files stands for a full disk, which only a large trial fills."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))


def killed_at(process: subprocess.Popen[str], place: Path, rank: int, step: int) -> Path:
    """Kill a sweep once the trial of this rank has done so many steps; returns its record."""
    deadline = time.monotonic() + 400
    while (half := by_rank(place).get(rank)) is None or steps_done(half.parent) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return half


def test_killed_it_goes_on_where_it_was(
    world: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three trials: one ends, one fails, one is killed after its checkpoint at step 5 of 12.

    The one that ended stands as if it had been killed between its result and the rest of its end.
    """
    study(here, {"update.r": "2,1024,4"})
    given = ["sweep", "mine", *words(world, here), "--json"]
    half = killed_at(start(given, here, preexec_fn=limited), here, rank=4, step=7)
    before = records(here)
    assert sorted(r.status for r in before.values()) == ["FAILED", "FINISHED", "RUNNING"]
    failed = before[by_rank(here)[1024]]
    assert "could not be written" in failed.error
    (lost,) = (run for run in mlflow_runs(here) if run.info.run_id == failed.run_id)
    assert lost.info.status == "FAILED" and lost.data.tags["myosotis.reason"] == failed.error
    from mlflow import MlflowClient

    whole = by_rank(here)[2]
    made = whole.stat().st_mtime_ns
    MlflowClient(f"sqlite:///{here}/mlflow.db").update_run(before[whole].run_id, status="RUNNING")
    (whole.parent / WRITER).write_text("1")
    (whole.parent / "scorecard.html").unlink()
    (whole.parent / ".record.json.1.partial").touch()
    with (half.parent / "metrics.jsonl").open("a") as curves:  # only what goes on keeps this
        curves.write('{"step": 3, "mark": 1.0}\n')

    assert main(given) == 0

    out, err = capfd.readouterr()
    assert "finished already: 1 trials" in err and "3/3" in err
    document = json.loads(out)
    assert [run["status"] for run in document["runs"]] == ["FINISHED"] * 3
    assert whole.stat().st_mtime_ns == made
    assert (whole.parent / "scorecard.html").exists()
    assert not [*whole.parent.glob(".*.partial"), *whole.parent.glob(WRITER)]
    after = records(here)
    assert {p: r.run_id for p, r in after.items()} == {p: r.run_id for p, r in before.items()}
    assert "mark" in {point.name for point in after[half].curves}
    steps = [p.step for p in after[half].curves if p.name == "train/loss"]
    assert steps == list(range(1, 13))
    page = Path(document["scorecard"]).read_text()
    assert all(record.run_name in page for record in after.values())
    _mlflow_shows(here, document, after)


def mlflow_runs(place: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "myosotis")
    return list(client.search_runs([experiment.experiment_id]))


def _mlflow_shows(place: Path, document: dict[str, Any], after: dict[Path, RunRecord]) -> None:
    """One parent, which is the one from before the kill, and the trials as its children."""
    from mlflow import MlflowClient

    runs = mlflow_runs(place)
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {run.info.run_id: run for run in runs if run is not parent}
    assert parent.info.run_id == document["sweep"]["run_id"]
    assert children.keys() == {record.run_id for record in after.values()}
    for record in after.values():
        child = children[record.run_id]
        tags, params = child.data.tags, child.data.params
        assert child.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["sweep"] == parent.data.tags["sweep"] == document["sweep"]["name"]
        assert tags["config_hash"] == record.config_hash
        assert {"method", "update", "objective", "seed"} <= set(tags)
        assert tags["swept"] == f"update.r={record.config['update']['r']}"
        assert params["update.r"] == str(record.config["update"]["r"])
        assert not [key for key in params if "_target_" in key or "path" in key]
        (trained_on,) = child.inputs.dataset_inputs
        assert trained_on.dataset.digest == record.data.hash[:36]
    assert parent.info.status == "FINISHED"
    metrics = parent.data.metrics
    assert (metrics["sweep/finished"], metrics["sweep/failed"]) == (3, 0)
    tuned = [record.task.tuned for record in after.values() if record.task is not None]
    assert metrics["best/quality"] == pytest.approx(max(t for t in tuned if t is not None))
    assert "3 of 3 trials finished" in parent.data.tags["mlflow.note.content"]
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} == {"scorecard.html"}
    assert "update" in {a.path for a in client.list_artifacts(next(iter(children)))}


def test_parallel_trials_and_a_search_that_replays(
    world: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Optuna proposes, joblib runs two at a time; again, with Hydra's launcher, nothing runs."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    search = {"optimizer.lr": "tag(log, interval(1e-3, 1e-1))", "update.r": "choice(2, 4)"}
    sweeper = {
        "params": search,
        "direction": "maximize",
        "n_trials": 4,
        "n_jobs": 2,
        "sampler": {"seed": 1},
    }
    study(here, plugins=[{"override hydra/sweeper": "optuna"}], sweeper=sweeper)
    few = {"trainer.max_steps": 2, "trainer.val_every": "null"}
    given = ["sweep", "mine", *words(world, here, "optimizer.lr", **few), "--json"]
    assert main([*given, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]) == 0
    out, err = capfd.readouterr()
    first = json.loads(out)
    assert [run["status"] for run in first["runs"]] == ["FINISHED"] * 4
    assert len({run["out"] for run in first["runs"]}) == 4
    assert "4/4" in err
    found = (Path(first["sweep"]["out"]) / "optimization_results.yaml").read_text()
    runs = [RunRecord.load(run["out"]) for run in first["runs"]]
    tasks = [run.halves["selection"].task for run in runs]
    best = max(task.tuned for task in tasks if task is not None and task.tuned is not None)
    assert f"best_value: {best}" in found
    made = {path: path.stat().st_mtime_ns for path in records(here)}
    pids = {run.data.tags["myosotis.pid"] for run in mlflow_runs(here)}
    assert str(os.getpid()) in pids and len(pids) == 3  # the parent's, and two workers

    assert main(given) == 0

    again = json.loads(capfd.readouterr().out)
    assert again["runs"] == first["runs"] and again["sweep"] == first["sweep"]
    assert {path: path.stat().st_mtime_ns for path in records(here)} == made
    assert (Path(again["sweep"]["out"]) / "optimization_results.yaml").read_text() == found


def test_slurm_jobs_by_their_local_executor(
    world: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """submitit pickles each trial and starts it in a process of its own."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    study(here, {"update.r": "2,4"})
    few = {"trainer.max_steps": 2, "trainer.val_every": "null"}
    given = ["sweep", "mine", *words(world, here, **few), "--json"]
    slurm = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
    assert main([*given, *slurm]) == 0
    first = json.loads(capfd.readouterr().out)
    assert [run["status"] for run in first["runs"]] == ["FINISHED"] * 2
    pids = {run.data.tags["myosotis.pid"] for run in mlflow_runs(here)}
    assert str(os.getpid()) in pids and len(pids) == 3  # the parent's, and a job each
    made = {path: path.stat().st_mtime_ns for path in records(here)}
    assert main(given) == 0  # with Hydra's own launcher: nothing is left to do
    assert json.loads(capfd.readouterr().out)["runs"] == first["runs"]
    assert {path: path.stat().st_mtime_ns for path in records(here)} == made


def test_memory_does_not_grow_over_ten_trials(world: Path, here: Path) -> None:
    """In one process. A trial makes some 100 tensors and a model; none of them may stay. A record
    has the peak of its own trial: the allocator may lose a little, a model would be seen.
    """
    few = {"trainer.max_steps": 1, "trainer.val_every": "null", "retention.suite": "[]"}
    given = ["tracking=none", *words(world, here, **few)]
    assert main(["train", "-m", "seed=100,101", *given]) == 0
    before = living()
    assert main(["train", "-m", "seed=range(8)", *given]) == 0
    models, tensors = living()
    assert models <= before[0] <= 1
    assert tensors <= before[1] + 20
    every = sorted(records(here).values(), key=lambda record: record.ended)
    peaks = [record.cost["peak_memory_gb"] or 0.0 for record in every]
    assert len(peaks) == 10
    assert peaks[-1] - peaks[4] < 0.02, [round(peak, 4) for peak in peaks]


def living() -> tuple[int, int]:
    """Models and tensors that something still holds."""
    gc.collect()
    objects = gc.get_objects()
    models = sum(isinstance(thing, PreTrainedModel) for thing in objects)
    return models, sum(isinstance(thing, torch.Tensor) for thing in objects)


def test_a_sweep_is_called_by_its_study_and_overrides() -> None:
    assert sweep_name("rank_lr", []) == "rank_lr"
    one, other = sweep_name("rank_lr", ["a=1", "b=2"]), sweep_name("rank_lr", ["b=2", "a=1"])
    assert one == other != sweep_name("rank_lr", ["a=1", "b=3"])
    assert one.startswith("rank_lr-")
