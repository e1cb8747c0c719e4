"""Policies in whole runs through the command line: looked at and protected while they train, killed
in the midst of a round and resumed.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from myosotis.records.schema import RunRecord
from myosotis.tracking.jsonl_logger import JsonlLogger
from tests.commands.test_train import same, stop_at, tensors
from tests.training.test_best_checkpoint import right_by_definition
from tests.world import call, settings, start

pytestmark = pytest.mark.slow

POLICY = {
    "method": "grpo",
    "reward": "length",
    "reward.length.most": 1,
    "objective.group_size": 4,
    "objective.max_new_tokens": 6,
    "task.generate": 6,
    "task.max_new_tokens": 6,
    "task.shots": 0,
    "task.items": 6,
    "tracking": "none",
    "retention.suite": "[]",
    "retention.kl_items": 0,
}
PROTECTED = {
    "control": "[replay,kl]",
    "control.replay.ratio": 0.3,
    "control.replay.tokens": 16,
    "control.kl.tokens": 16,
    "control.kl.share": 0.2,
}


def values(out: Path, name: str) -> dict[int, float]:
    """A curve of a run, by step."""
    curves = RunRecord.load(out).curves
    return {p.step: p.value for p in curves if p.name == name and p.value is not None}


def test_killed_in_the_midst_of_a_round_it_ends_in_the_same_weights(
    world: Path, tmp_path: Path
) -> None:
    """Two steps a round, a checkpoint after the third, killed after the fourth. What the controls
    owe is kept, too: over the whole run .3/.7 of the tokens that were sampled are replayed, within
    half a text, whatever the length of the data's own answers."""
    given = {**POLICY, **PROTECTED, "objective.iterations": 2, "trainer.max_steps": 8,
             "trainer.checkpoint_every": 3}  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "runs" / "parts"
    call(["train", *settings(world, whole, **given)], tmp_path)
    process = start(["train", *settings(world, parts, **given)], tmp_path)
    stop_at(process, parts, 4, lambda: os.killpg(process.pid, signal.SIGKILL))
    assert RunRecord.load(parts).status == "RUNNING"
    _, err = call(["train", "resume=last"], tmp_path)
    assert "resuming from step 3 of 8" in err
    assert same(tensors(parts), tensors(whole))
    done, again = RunRecord.load(whole), RunRecord.load(parts)
    assert [vars(one) for one in again.controls] == [vars(one) for one in done.controls]
    replay, kl = done.controls
    sampled = 4 * 4 * sum(values(whole, "train/length").values())  # of 4 groups of 4 a step
    assert replay.supervised_tokens is not None and replay.term
    assert abs(replay.supervised_tokens - 0.3 / 0.7 * sampled) <= 16 / 2 + 1
    assert kl.texts and kl.term


def test_a_round_without_a_pair_is_a_step_of_no_control(world: Path, tmp_path: Path) -> None:
    """Online DPO, all answers worth the same: nothing is learned, nothing is owed."""
    given: dict[str, Any] = {
        **POLICY,
        **PROTECTED,
        "method": "online_dpo",
        "reward.length.most": 1000,
        "control": "[replay,kl,kl_task]",
        "trainer.max_steps": 2,
    }
    out = tmp_path / "none"
    call(["train", *settings(world, out, **given)], tmp_path)
    assert set(values(out, "train/alike").values()) == {1.0}
    for one in RunRecord.load(out).controls:
        assert one.term == 0 and not one.texts


def test_a_policy_that_is_looked_at_ends_with_the_best_by_the_watched_reward(
    world: Path, tmp_path: Path
) -> None:
    """One word is learned, two are watched: from three words at the start the answers pass two on
    their way. The budget is wide, so every look is inside, and the run ends with the one at which
    the watched reward, minus the held-out loss, was highest."""
    out = tmp_path / "looked"
    given = {
        **POLICY,
        "+reward.watched._target_": "myosotis.rewards.rules.Length",
        "+reward.watched.least": 2,
        "+reward.watched.most": 2,
        "+reward.watched.weight": 0,
        "trainer.max_steps": 6,
        "optimizer.lr": 0.001,
        "retention.suite": "[arc_easy]",
        "retention.data_dir": right_by_definition(world / "model", tmp_path / "right", 60),
        "retention.items": 60,
        "data.row_tokens": 512,
        "retention.every": 2,
        "retention.budget": 0.9,
        "retention.on_breach": "rollback",
        "retention.settle": "false",
    }
    call(["train", *settings(world, out, **given)], tmp_path)
    record = RunRecord.load(out)
    assert record.checkpoint is not None and record.checkpoint.chosen
    assert record.checkpoint.seen == 3
    looked, losses = values(out, "forgetting/mean"), values(out, "val/loss")
    assert sorted(looked) == [2, 4, 6]
    best = min(sorted(looked), key=lambda step: losses[step])
    assert (record.checkpoint.step, record.checkpoint.loss) == (best, losses[best])
    assert record.retention and record.task is not None
    rows = {row.metric: row for row in (record.task, *record.task.extra)}
    kept = JsonlLogger(out / "metrics.jsonl").values()
    assert kept.keys() == losses.keys()
    for step, loss in losses.items():  # what each of five prompts' answers was worth
        assert len(kept[step]["watched"]) == 5 and sum(kept[step]["watched"]) / 5 == -loss
    assert rows["reward_watched"].n == 5 and record.task.tuned == rows["reward_length"].tuned
