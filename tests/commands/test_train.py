"""One run, end to end, through the command line: a tiny model and a data file of one's own.

No network and no wheel: the suite is general prose, which every Python carries.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from myosotis.records.schema import RunRecord
from tests.retention.small import right_by_definition
from tests.world import call, settings, start, steps_done

pytestmark = pytest.mark.slow
NONE = Path(__file__).parents[2] / "conf" / "callbacks" / "none.yaml"


def stop_at(process: subprocess.Popen[str], out: Path, step: int, send: Callable[[], None]) -> str:
    """Send a signal once `step` optimiser steps are done; returns what was said."""
    deadline = time.monotonic() + 300
    while steps_done(out) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.01)
    send()
    _, err = process.communicate(timeout=300)
    return err


def tensors(out: Path) -> dict[str, Any]:
    (path,) = (out / "update").glob("*.safetensors")
    return load_file(path)


def own(name: str, target: str, **words: Any) -> dict[str, Any]:
    """Overrides for one of Lightning's callbacks."""
    given = {"_target_": f"lightning.pytorch.callbacks.{target}", **words}
    return {f"+callbacks.{name}.{key}": value for key, value in given.items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(bool((a[k] == b[k]).all()) for k in a)


@pytest.fixture(scope="module")
def finished(world: Path) -> tuple[Path, dict[str, Any]]:
    """A whole run, and its JSON result."""
    out = world / "runs" / "whole"
    printed, _ = call(["train", "--json", *settings(world, out)], world)
    return out, json.loads(printed)


def test_a_run_leaves_everything_it_promises(finished: tuple[Path, dict[str, Any]]) -> None:
    out, result = finished
    record = RunRecord.load(out)
    assert record.status == result["status"] == "FINISHED"
    assert record.task is not None and record.task.delta is not None and record.task.delta > 0
    assert [row.task for row in record.retention] == ["prose"]
    assert record.retention[0].delta is not None and record.retention[0].epsilon is not None
    losses = [p.value for p in record.curves if p.name == "train/loss"]
    assert len(losses) == 12
    assert record.cost["tokens_per_second"] and record.cost["peak_memory_gb"]
    assert record.samples and record.data.hash and record.model.content_hash
    assert "<html" in (out / "scorecard.html").read_text()
    assert str(out.parent) not in (out / "update" / "adapter_config.json").read_text()


def test_mlflow_has_the_curves_the_params_and_the_artifacts(
    world: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    from mlflow import MlflowClient

    _, result = finished
    client = MlflowClient(f"sqlite:///{world}/mlflow.db")
    run = client.get_run(result["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["update.r"] == "16" and run.data.params["optimizer.lr"] == "0.01"
    assert run.data.tags["method"] == "lora"
    assert (run.data.tags["model"], run.data.tags["data"]) == ("model", "mine")
    assert run.info.run_name == "lora-r16-lr1e-2-model-mine-s0"
    assert {"val/loss", "task/loglik", "forgetting/prose_bpb"} <= run.data.metrics.keys()
    history = client.get_metric_history(result["run_id"], "train/loss")
    assert [m.step for m in history] == list(range(1, 13))
    names = {a.path for a in client.list_artifacts(result["run_id"])}
    assert {"config.yaml", "record.json", "scorecard.html", "update"} <= names


def test_killed_and_resumed_it_ends_in_the_same_weights(
    world: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """SIGKILL in mid-epoch (an epoch has 7 steps, the checkpoint stands at 5)."""
    whole, _ = finished
    out = tmp_path / "runs" / "killed"
    process = start(["train", *settings(world, out)], tmp_path)
    stop_at(process, out, 6, lambda: os.killpg(process.pid, signal.SIGKILL))
    assert RunRecord.load(out).status == "RUNNING"  # nobody was left to say otherwise
    call(["train", "resume=last"], tmp_path)
    record = RunRecord.load(out)
    assert record.status == "FINISHED"
    assert same(tensors(out), tensors(whole))
    steps = [p.step for p in record.curves if p.name == "train/loss"]
    assert steps == list(range(1, 13))


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_told_to_stop_it_stops_in_good_order_and_goes_on(
    world: Path,
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    signum: signal.Signals,
    code: int,
) -> None:
    out = tmp_path / "runs" / "stopped"
    process = start(["train", *settings(world, out)], tmp_path)
    err = stop_at(process, out, 3, lambda: os.kill(process.pid, signum))
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "resume=" in err
    record = RunRecord.load(out)
    assert record.status == "KILLED" and signum.name in record.error
    call(["train", f"resume={record.run_id[:10]}"], tmp_path)
    assert RunRecord.load(out).status == "FINISHED"
    assert same(tensors(out), tensors(finished[0]))


def test_measuring_leaves_no_trace_in_the_weights(
    world: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "watched"
    changes = {
        "retention.every": 2,
        "trainer.val_every": 1,
        "update.lora_dropout": 0.0,
        "logger": "[mlflow,csv]",
        **own("rates", "LearningRateMonitor"),
        **own("best", "ModelCheckpoint", monitor="val/loss"),
        **own("stop", "EarlyStopping", monitor="val/loss", patience=99),
    }
    call(["train", *settings(world, out, **changes)], tmp_path)
    assert same(tensors(out), tensors(finished[0]))
    (best,) = (out / "lightning" / "checkpoints").glob("*.ckpt")
    losses = {
        p.step: p.value
        for p in RunRecord.load(out).curves
        if p.name == "val/loss" and p.value is not None and 0 < p.step < 12
    }
    assert best.name.endswith(f"step={min(losses, key=lambda step: losses[step])}.ckpt")
    with (out / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert [int(row["step"]) for row in rows] == list(range(13))
    assert {int(row["step"]): float(row["val/loss"]) for row in rows}.items() >= losses.items()
    seen = {p.step for p in RunRecord.load(out).curves if p.name == "retention/prose"}
    assert {0, 2, 4, 12} <= seen


def test_the_example_of_the_callbacks_group_stops_a_run_that_gets_no_better(
    world: Path, tmp_path: Path
) -> None:
    """As conf/callbacks/none.yaml has it. At a rate that moves nothing the first measurement is the
    best, and three more end it: after step 4. Resumed with a higher limit, it trains no further."""
    (example,) = re.findall(r"(?m)^#   stop_early:\n(?:#     .*\n)+", NONE.read_text())
    mine = tmp_path / "conf" / "callbacks" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(re.sub(r"(?m)^#   ", "", example))
    out = tmp_path / "runs" / "early"
    changes = {
        "callbacks": "mine",
        "trainer.val_every": 1,
        "optimizer.lr": 1e-30,
        "logger": "csv",
    }
    call(["train", "-cd", str(mine.parents[1]), *settings(world, out, **changes)], tmp_path)
    for limit in (13, 14):
        record = RunRecord.load(out)
        assert record.status == "FINISHED" and not record.error
        (why,) = [text for text in record.warnings if "early" in text]
        assert why.startswith("stopped early by EarlyStopping at step 4 (")
        assert [p.step for p in record.curves if p.name == "train/loss"] == [1, 2, 3, 4]
        assert not list(tmp_path.rglob("mlflow.db")), "only csv was asked for"
        call(["train", "resume=last", f"trainer.max_steps={limit}"], tmp_path)
    assert {path.name for path in (out / "csv").iterdir()} >= {"version_0", "version_1"}


LOOK = """
import json
from lightning.pytorch import Callback

class Look(Callback):
    def __init__(self, path: str) -> None:
        self.path = path

    def on_validation_end(self, trainer, pl_module):
        with open(self.path, "a") as file:
            metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
            file.write(json.dumps({"step": trainer.global_step, **metrics}) + "\\n")
"""


def test_a_callback_of_anybodys_sees_what_the_record_has(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "look.py").write_text(LOOK)
    monkeypatch.setenv("MYOSOTIS_TRUSTED", "look")
    questions = right_by_definition(world / "model", tmp_path / "right", 20)
    out, seen = tmp_path / "runs" / "seen", tmp_path / "seen.jsonl"
    changes = {
        "+callbacks.look._target_": "look.Look",
        "+callbacks.look.path": seen,
        "tracking": "none",
        "retention.suite": "[arc_easy]",
        "retention.data_dir": questions,
        "retention.items": 20,
        "retention.every": 2,
        "trainer.val_every": 3,
        "trainer.max_steps": 5,
        "data.row_tokens": 512,
    }
    call(["train", *settings(world, out, **changes)], tmp_path)
    lines = [json.loads(text) for text in seen.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4]
    curves = {(p.name, p.step): p.value for p in RunRecord.load(out).curves}
    measured = {"retention/mean": 4, "forgetting/mean": 4, "val/loss": 3, "train/loss": 4}
    for name, step in measured.items():
        assert lines[-1][name] == pytest.approx(curves[name, step], rel=1e-6), name


def test_a_diverging_run_keeps_its_checkpoint_and_says_why(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "diverged"
    changes = {
        "optimizer._target_": "torch.optim.SGD",
        "~optimizer.betas": "",
        "~optimizer.eps": "",
        "trainer.gradient_clip_val": "null",
        "optimizer.lr": 1e9,
        "trainer.checkpoint_every": 1,
        "tracking": "none",
    }
    args = [a.rstrip("=") for a in settings(world, out, **changes)]
    _, err = call(["train", *args], tmp_path, code=1)
    assert "optimizer.lr" in err and "Traceback" not in err
    record = RunRecord.load(out)
    assert record.status == "FAILED" and "loss became" in record.error
    assert (out / "checkpoints" / "last.ckpt").exists()


def test_a_full_disk_keeps_the_checkpoint_before(world: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: both fail in `write`."""
    out = tmp_path / "runs" / "full"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    changes = {"update.r": 64, "tracking": "none", "trainer.checkpoint_every": 2}
    _, err = call(["train", *settings(world, out, **changes)], tmp_path, 1, preexec_fn=limit)
    assert "could not be written" in err and "Traceback" not in err
    assert RunRecord.load(out).status == "FAILED"
    assert not list(out.rglob("*.partial"))


def test_two_processes_train_what_one_does(
    world: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "two"
    changes = {"trainer.devices": 2, "trainer.strategy": "ddp"}
    call(["train", *settings(world, out, **changes)], tmp_path)
    ours, theirs = tensors(out), tensors(finished[0])
    for name, tensor in ours.items():  # Adam amplifies the rounding of a sum in another order
        assert (tensor - theirs[name]).abs().max() <= 1e-3 * theirs[name].abs().max() + 1e-5


def test_weights_spread_over_two_processes_are_measured_saved_and_exported_as_those_of_one(
    world: Path, tmp_path: Path
) -> None:
    """Full tuning: looks on the way (held-out loss, benchmarks, KL, the best step's weights), the
    end, the base with the update off, the strength between, and what is exported."""
    changes = {
        "update": "full",
        "retention.every": 4,
        "retention.on_breach": "rollback",
        "retention.dial": "[0.5]",
        "retention.settle": "false",
        "optimizer.lr": 0.001,
    }
    ends = []
    for name, more in (
        ("one", {}),
        ("two", {"trainer.devices": 2, "trainer.strategy": "fsdp2"}),
    ):
        out = tmp_path / "runs" / name
        call(["train", *settings(world, out, **changes, **more)], tmp_path)
        ends.append((RunRecord.load(out), tensors(out)))
    (one, theirs), (two, ours) = ends
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max() <= 1e-5 * theirs[name].abs().max()
    assert two.update.off_difference <= 1e-6
    assert [row.tuned for row in two.retention] == pytest.approx(
        [row.tuned for row in one.retention], rel=1e-6
    )
    assert [each.kl for each in two.shift] == pytest.approx([e.kl for e in one.shift], rel=1e-4)
    points = [[p for p in r.curves if p.name.startswith(("val/", "forg"))] for r in (one, two)]
    assert [(p.name, p.step) for p in points[0]] == [(p.name, p.step) for p in points[1]]
    assert [p.value for p in points[0]] == pytest.approx([p.value for p in points[1]], rel=1e-4)
    assert two.checkpoint == one.checkpoint
    assert [point.alpha for point in two.dial] == [0.5, 1.0]
    merged = tmp_path / "merged"
    call(
        ["export", str(tmp_path / "runs" / "two"), "--to", "merged", "--out", str(merged)], tmp_path
    )
    exported = load_file(merged / "model.safetensors")
    assert all((exported[name] == tensor).all() for name, tensor in ours.items())


def test_evaluate_generate_scorecard_of_a_run(
    world: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, result = finished
    printed, _ = call(
        ["generate", str(out), "--prompt", "the answer of 3", "--compare", "--json"], world
    )
    (answer,) = json.loads(printed)
    assert {"prompt", "base", "tuned"} == answer.keys()
    call(["scorecard", result["run_id"][:8], "--out", str(tmp_path / "card.html")], world)
    assert (tmp_path / "card.html").read_text() == (out / "scorecard.html").read_text()
    suite = ["retention.suite=[prose]", "retention.items=30", "trainer.num_threads=1"]
    printed, _ = call(
        ["evaluate", str(out), "--json", *suite, f"out={tmp_path / 'evaluated'}"], world
    )
    found = json.loads(printed)
    (row,), (before,) = found["retention"], result["retention"]
    assert row["delta"] == pytest.approx(before["delta"], abs=1e-6)
    assert row["verdict"] == before["verdict"]
    (general,) = found["shift"]
    of_run = {entry["text"]: entry["kl"] for entry in result["shift"]}
    assert general["kl"] == pytest.approx(of_run["general"], rel=1e-4)


def test_a_run_that_cannot_load_is_found_by_what_it_was_to_be(world: Path, tmp_path: Path) -> None:
    """A folder that is no model: params, tags, configuration and reason are told all the same."""
    from myosotis.tracking import mlflow_runs

    (tmp_path / "nothing").mkdir()
    out = tmp_path / "runs" / "unloadable"
    _, err = call(["train", *settings(world, out, **{"model.path": "nothing"})], tmp_path, code=2)
    record = RunRecord.load(out)
    assert record.status == "FAILED" and record.error
    assert " ".join(record.error.split()) in " ".join(err.split())
    assert record.config["model"]["path"] == "nothing"
    run = mlflow_runs.find_run(f"{tmp_path}/mlflow.db", record.run_id)
    assert (run.status, run.tags["myosotis.reason"]) == ("FAILED", record.error)
    assert run.params["update.r"] == "16" and run.params["optimizer.lr"] == "0.01"
    assert run.params["model.name"] == "nothing" and run.params["data.file"] == "mine.jsonl"
    assert run.tags["method"] == "lora" and run.tags["config_hash"] == record.config_hash
    config = mlflow_runs.download_artifact(run, "config.yaml", tmp_path / "back")
    assert config.read_text() == (out / "config.yaml").read_text()


def test_a_malformed_line_is_named_and_nothing_is_trained(world: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": 3}\n')
    out = tmp_path / "runs" / "bad"
    changes = {"data.path": bad, "tracking": "none"}
    _, err = call(["train", *settings(world, out, **changes)], tmp_path, code=2)
    assert "bad.jsonl:2" in err
    assert not (out / "checkpoints").exists()
