"""The guard of a training: which files it keeps, what survives a kill, and whole runs that breach.

The whole runs are of a random model on questions whose right answer is by definition what that
model answers: the base scores 1.0, and a training that shakes it forgets.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.retention.budget import Budget
from myosotis.training.best_checkpoint import BestCheckpoint, OnBreach
from myosotis.utils.errors import RunError
from tests.commands.test_train import stop_at
from tests.retention.small import right_by_definition
from tests.world import call, settings, start


class Weights:
    """One number that trains: the step it was set at."""

    def __init__(self) -> None:
        self.value = torch.zeros(1)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Training:
    """Steps of a training with a guard, and what `last.ckpt` would hold of it."""

    def __init__(self, folder: Path, on_breach: OnBreach = "rollback") -> None:
        self.update = Weights()
        self.folder = RunFolder(folder)
        self.guard = BestCheckpoint(self.update, self.folder, on_breach=on_breach, patience=None)  # type: ignore[arg-type]
        self.trainer: Any = SimpleNamespace(is_global_zero=True, should_stop=False, global_step=0)
        self.last: dict[str, Any] = {}

    def begin(self, checkpoint: dict[str, Any] | None = None) -> Training:
        if checkpoint is not None:
            self.guard.load_state_dict(checkpoint)
        self.guard.on_train_start(self.trainer, None)  # type: ignore[arg-type]
        return self

    def step(self, number: int, loss: float, verdict: str = "retained") -> Training:
        self.trainer.global_step = number
        self.update.value = torch.tensor([float(number)])
        self.guard.offer(loss, verdict, verdict == "retained")
        self.guard.on_train_batch_end(self.trainer, None, None, None, 0)  # type: ignore[arg-type]
        return self

    def checkpoint(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.guard.state_dict()))

    @property
    def files(self) -> list[int]:
        paths = self.folder.checkpoint.parent.glob("best-*.ckpt")
        return sorted(int(p.stem.removeprefix("best-")) for p in paths)


def test_only_the_best_is_kept_and_put_back(tmp_path: Path) -> None:
    run = Training(tmp_path).begin().step(1, 3.0).step(2, 2.0).step(3, 2.5)
    assert run.files == [2]
    warned: list[str] = []
    found = run.guard.finish(3, warned.append)
    assert run.update.value.item() == 2.0
    assert found is not None and (found.step, found.last_step, found.chosen) == (2, 3, True)
    assert (found.seen, found.loss, warned) == (3, 2.0, [])


def test_what_last_ckpt_speaks_of_is_kept_until_it_is_written_anew(tmp_path: Path) -> None:
    run = Training(tmp_path).begin().step(1, 3.0)
    run.checkpoint()
    run.step(2, 2.8).step(3, 2.6)
    assert run.files == [1, 3]
    run.checkpoint()
    run.step(4, 2.4)
    assert run.files == [3, 4]


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    run = Training(tmp_path).begin().step(1, 3.0)
    kept = run.checkpoint()
    run.step(2, 2.0)
    again = Training(tmp_path).begin(kept)
    assert again.files == [1]
    again.step(2, 2.9).step(3, 2.95)
    assert again.guard.finish(3, print) is not None
    assert again.update.value.item() == 2.0
    assert Training(tmp_path).begin().files == [], "another run in the same folder"


def test_killed_after_the_breach_it_does_not_train_on(tmp_path: Path) -> None:
    run = Training(tmp_path).begin().step(1, 3.0).step(2, 2.0, "forgotten")
    assert run.trainer.should_stop
    again = Training(tmp_path).begin(run.checkpoint())
    assert again.trainer.should_stop
    found = again.guard.finish(2, print)
    assert found is not None and (found.step, found.ended) == (1, "breach")
    assert again.update.value.item() == 1.0


def test_without_a_step_inside_the_last_weights_stay_and_it_says_so(tmp_path: Path) -> None:
    run = Training(tmp_path).begin().step(1, 3.0, "slipped").step(2, 2.0, "forgotten")
    warned: list[str] = []
    found = run.guard.finish(2, warned.append)
    assert found is not None and not found.chosen and found.step == 2
    assert run.update.value.item() == 2.0
    assert "the last weights stay" in warned[0]
    assert run.files == []


def test_stop_keeps_no_file_and_puts_nothing_back(tmp_path: Path) -> None:
    run = Training(tmp_path, "stop").begin().step(1, 3.0).step(2, 2.0, "forgotten")
    found = run.guard.finish(2, print)
    assert run.trainer.should_stop and run.files == []
    assert found is not None and (found.step, found.ended, found.chosen) == (2, "breach", False)
    untroubled = Training(tmp_path, "stop").begin().step(1, 3.0)
    assert untroubled.guard.finish(1, print) is None


def test_a_best_checkpoint_that_is_gone_is_named(tmp_path: Path) -> None:
    run = Training(tmp_path).begin().step(1, 2.0).step(2, 3.0)
    run.folder.best(1).unlink()
    with pytest.raises(RunError, match="best-000001"):
        run.guard.finish(2, print)


# Whole runs.


@pytest.fixture(scope="module")
def bench(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty questions that the world's model answers right, by definition."""
    return right_by_definition(world / "model", tmp_path_factory.mktemp("right"), 80)


def breaching(world: Path, out: Path, bench: Path, **changes: Any) -> list[str]:
    """Twelve steps, the learning rate rising to far too much; measured after each of them."""
    given = {
        "tracking": "none",
        "method": "full",
        "retention.suite": "[arc_easy]",
        "retention.data_dir": bench,
        "retention.items": 80,
        "retention.every": 1,
        "retention.budget": 0.3,
        "retention.on_breach": "rollback",
        "retention.gate": "true",
        "trainer.checkpoint_every": 2,
        "data.row_tokens": 512,
        "schedule.warmup": 12,
        "optimizer.lr": 0.05,
        "task.generate": 0,
        "task.shots": 0,
        **changes,
    }
    return settings(world, out, **given)


def ended(out: Path) -> tuple[RunRecord, dict[str, Any]]:
    return RunRecord.load(out), load_file(out / "update" / "update.safetensors")


@pytest.fixture(scope="module")
def rolled_back(world: Path, bench: Path) -> Path:
    out = world / "runs" / "breach"
    call(["train", *breaching(world, out, bench)], world)
    return out


@pytest.mark.slow
def test_a_breach_stops_the_run_and_the_best_step_is_put_back(rolled_back: Path) -> None:
    record, update = ended(rolled_back)
    found = record.checkpoint
    assert found is not None and found.chosen and found.ended == "breach"
    assert 1 <= found.step < found.last_step < 12
    (kept,) = (rolled_back / "checkpoints").glob("best-*.ckpt")
    assert kept.name == f"best-{found.step:06}.ckpt"
    best = torch.load(kept, weights_only=True)
    last = torch.load(rolled_back / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert update.keys() == best.keys()
    assert all(torch.equal(update[n], t) for n, t in best.items())
    assert not all(torch.equal(last[n], t) for n, t in best.items())
    (row,), suite = record.retention, record.suite_verdict
    assert row.n == 40, "the verdict rests on the half that did not choose"
    assert suite is not None and Budget(0.3).exit_code(suite.verdict) == 0, "it passed the gate"
    losses = {p.step: p.value for p in record.curves if p.name == "val/loss"}
    assert found.loss == losses[found.step]
    page = (rolled_back / "scorecard.html").read_text()
    assert f"These are the weights of step {found.step}" in page


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_checkpoint(
    world: Path, bench: Path, rolled_back: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "killed"
    process = start(["train", *breaching(world, out, bench)], tmp_path)
    stop_at(process, out, 3, lambda: os.killpg(process.pid, signal.SIGKILL))
    call(["train", "resume=last"], tmp_path)
    (record, update), (whole, wanted) = ended(out), ended(rolled_back)
    assert record.checkpoint == whole.checkpoint
    assert all(torch.equal(update[name], tensor) for name, tensor in wanted.items())


@pytest.mark.slow
def test_two_processes_stop_together_and_the_verdict_leaves_through_the_gate(
    world: Path, bench: Path, tmp_path: Path
) -> None:
    """`stop` ends with the last weights, which have forgotten: exit code 3."""
    out = tmp_path / "runs" / "two"
    changes = {
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "retention.on_breach": "stop",
        "retention.sequential_floor": "null",  # so few items settle nothing at every look
    }
    call(["train", *breaching(world, out, bench, **changes)], tmp_path, code=3)
    record = RunRecord.load(out)
    assert record.checkpoint is not None
    assert record.checkpoint.ended == "breach" and not record.checkpoint.chosen
    assert record.checkpoint.last_step < 12
    assert record.suite_verdict is not None and record.suite_verdict.verdict == "forgotten"


@pytest.mark.slow
def test_two_processes_put_the_best_step_back(world: Path, bench: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "two"
    changes = {"trainer.devices": 2, "trainer.strategy": "ddp"}
    call(["train", *breaching(world, out, bench, **changes)], tmp_path)
    record, update = ended(out)
    found = record.checkpoint
    assert found is not None and found.chosen and found.ended == "breach"
    assert 1 <= found.step < found.last_step < 12
    best = torch.load(out / "checkpoints" / f"best-{found.step:06}.ckpt", weights_only=True)
    assert update.keys() == best.keys()
    assert all(torch.equal(update[name], tensor) for name, tensor in best.items())
