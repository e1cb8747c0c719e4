"""A sweep that is killed, fails in part, is run again: by its command alone, and nothing twice."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from myosotis.config.identity import sweep_name
from myosotis.record import RunRecord
from tests.world import call, settings, start, steps_done

pytestmark = pytest.mark.slow

FEW = {"task.generate": 0, "task.shots": 0, "task.items": 4}


def study(place: Path, params: dict[str, str], **hydra: Any) -> None:
    """`sweeps/mine.yaml` in `place`: JSON is YAML."""
    (place / "sweeps").mkdir()
    text = {
        "defaults": ["train", "_self_"],
        "hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}, **hydra},
    }
    (place / "sweeps" / "mine.yaml").write_text(json.dumps(text))


def words(world: Path, place: Path, *without: str, **changes: Any) -> list[str]:
    given = settings(world, place, **FEW, **changes)
    left_out = ("out=", *(f"{key}=" for key in without))
    return [word for word in given if not word.startswith(left_out)]


def records(place: Path) -> dict[Path, RunRecord]:
    return {p: RunRecord.load(p) for p in sorted(place.glob("multirun/*/*/record.json"))}


def by_rate(place: Path) -> dict[float, Path]:
    return {r.config["optimizer"]["lr"]: p for p, r in records(place).items() if r.config}


def test_killed_it_goes_on_where_it_was(world: Path, tmp_path: Path) -> None:
    """Three trials: one ends, one fails, one is killed after its checkpoint at step 5 of 12."""
    from mlflow import MlflowClient

    study(tmp_path, {"optimizer.lr": "0.01,-1,0.02"})
    given = ["sweep", "mine", *words(world, tmp_path, "optimizer.lr"), "--json"]
    process = start(given, tmp_path)
    deadline = time.monotonic() + 300
    while (half := by_rate(tmp_path).get(0.02)) is None or steps_done(half.parent) < 7:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = records(tmp_path)
    assert sorted(r.status for r in before.values()) == ["FAILED", "FINISHED", "RUNNING"]
    whole = by_rate(tmp_path)[0.01]
    made = whole.stat().st_mtime_ns
    with (half.parent / "metrics.jsonl").open("a") as curves:  # only what goes on keeps this
        curves.write('{"step": 3, "mark": 1.0}\n')

    document = json.loads(call(given, tmp_path, code=1)[0])

    assert document["error"] == "1 of 3 trials failed."
    assert whole.stat().st_mtime_ns == made
    after = records(tmp_path)
    assert after.keys() == before.keys()
    assert {p: r.run_id for p, r in after.items()} == {p: r.run_id for p, r in before.items()}
    taken_up = after[half]
    assert taken_up.status == "FINISHED"
    assert "mark" in {point.name for point in taken_up.curves}
    assert [p.step for p in taken_up.curves if p.name == "train/loss"] == list(range(1, 13))
    (failed,) = (run for run in document["runs"] if run["status"] == "FAILED")
    assert "optimizer.lr" in failed["error"]
    assert [run["status"] for run in document["runs"]].count("FINISHED") == 2

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "myosotis")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    assert parent.info.run_id == document["sweep"]["run_id"]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert {c.info.run_id for c in children} == {r.run_id for r in after.values()}
    assert sorted(c.info.status for c in children) == ["FAILED", "FINISHED", "FINISHED"]
    (lost,) = (c for c in children if c.info.status == "FAILED")
    assert "optimizer.lr" in lost.data.tags["myosotis.reason"]
    one = next(c for c in children if c.info.status == "FINISHED")
    assert {"sweep", "method", "update", "objective", "seed", "config_hash"} <= set(one.data.tags)
    assert one.data.tags["sweep"] == parent.data.tags["sweep"]
    assert {"update.r", "optimizer.lr", "seed"} <= set(one.data.params)
    assert not any(
        key.endswith("_target_") or key.startswith("data.source") for key in one.data.params
    )
    (trained_on,) = one.inputs.dataset_inputs
    assert trained_on.dataset.digest == taken_up.data.hash[:36]
    assert parent.info.status == "FAILED"
    assert parent.data.metrics["sweep/finished"] == 2 and parent.data.metrics["sweep/failed"] == 1
    assert parent.data.metrics["best/quality"] < 0
    assert "2 of 3 trials finished" in parent.data.tags["mlflow.note.content"]
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} == {"scorecard.html"}
    assert "update" in {a.path for a in client.list_artifacts(one.info.run_id)}


def test_a_failed_trial_is_run_again_and_no_other(world: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk, which only the large trial fills."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    study(tmp_path, {"update.r": "256,2"})
    few = {"trainer.max_steps": 3, "trainer.checkpoint_every": 2}
    given = ["sweep", "mine", "tracking=none", *words(world, tmp_path, **few), "--json"]
    out, err = call(given, tmp_path, code=1, preexec_fn=limit)
    assert [run["status"] for run in json.loads(out)["runs"]] == ["FAILED", "FINISHED"]
    assert "could not be written" in err and "1/2" in err and "2/2" in err
    small = Path(json.loads(out)["runs"][1]["out"])
    made = (small / "record.json").stat().st_mtime_ns
    out, err = call(given, tmp_path)
    document = json.loads(out)
    assert [run["status"] for run in document["runs"]] == ["FINISHED"] * 2
    assert (small / "record.json").stat().st_mtime_ns == made
    assert "finished already: 1 trials" in err
    page = Path(document["scorecard"]).read_text()
    assert all(run["run_name"] in page for run in document["runs"])


def test_a_sweep_is_called_by_its_study_and_overrides() -> None:
    assert sweep_name("rank_lr", []) == "rank_lr"
    one, other = sweep_name("rank_lr", ["a=1", "b=2"]), sweep_name("rank_lr", ["b=2", "a=1"])
    assert one == other != sweep_name("rank_lr", ["a=1", "b=3"])
    assert one.startswith("rank_lr-")
