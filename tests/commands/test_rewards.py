"""From answers to a reward model to a policy, through the command line, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from myosotis.records.schema import RunRecord
from tests.evaluation.test_judge import Server, server
from tests.world import call, settings

__all__ = ["server"]

pytestmark = pytest.mark.slow

PAIRS = [
    {"prompt": f"the answer of {n}", "chosen": f"is {n * 7}", "rejected": f"is {n}"}
    for n in range(1, 41)
]
SAMPLES = {
    "method": "grpo",
    "reward": "length",
    "reward.length.most": 1,
    "objective.group_size": 4,
    "objective.max_new_tokens": 6,
    "objective.iterations": 2,
    "task.generate": 6,
    "task.max_new_tokens": 6,
    "retention.suite": "[]",
}


def train(world: Path, out: Path, cwd: Path, code: int = 0, **changes: Any) -> tuple[str, str]:
    given = {"task.shots": 0, "task.items": 10, "trainer.max_steps": 4, **changes}
    return call(["train", *settings(world, out, **given)], cwd, code)


@pytest.fixture(scope="module")
def stages(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Supervised tuning, a reward model and a policy on one data set: each from the run before."""
    place = tmp_path_factory.mktemp("stages")
    (place / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    data = {"data": "pairs", "data.path": place / "pairs.jsonl", "retention.suite": "[]"}
    train(world, place / "sft", place, **data)
    train(world, place / "judge", place, **data, method="reward")
    rewards = {"reward": "[model,length]", "reward.model.run": place / "judge"}
    policy = {**SAMPLES, **data, **rewards, "reward.length.weight": 0}
    train(world, place / "policy", place, **policy, **{"model.start": place / "sft"})
    return place


def test_a_reward_run_says_on_which_scale_its_numbers_are(stages: Path) -> None:
    said = json.loads((stages / "judge" / "reward.json").read_text())
    assert said.keys() == {"shift", "scale", "answers"}
    assert said["scale"] > 0 and said["answers"] == 5  # the test part: half of the quarter held out


def test_a_policy_is_measured_by_its_rewards(stages: Path) -> None:
    """The sum, and each of them; the one of weight 0 is no part of the sum."""
    record = RunRecord.load(stages / "policy" / "record.json")
    assert record.task is not None and record.task.metric == "reward" and record.task.n == 5
    rows = {row.metric: row for row in record.task.extra}
    assert {"reward_model", "reward_length", "loglik"} <= rows.keys()
    assert record.task.tuned == pytest.approx(rows["reward_model"].tuned)
    names = {point.name for point in record.curves}
    assert {"train/reward", "train/kl", "train/entropy", "val/reward", "val/words"} <= names
    losses = {p.step: p.value for p in record.curves if p.name == "val/loss"}
    watched = {p.step: p.value for p in record.curves if p.name == "val/reward_length"}
    assert losses and all(watched[step] == -loss for step, loss in losses.items())  # type: ignore[operator]
    assert record.samples
    assert 'id="policy"' in (stages / "policy" / "scorecard.html").read_text("utf-8")


def test_best_of_many(stages: Path) -> None:
    """Four are sampled; the one that is shown is worth more than their mean, or as much."""
    words = ["generate", str(stages / "policy"), "--prompt", "the answer of 3", "--json"]
    words += ["--max-new-tokens", "6", "--best-of", "4", "--reward", str(stages / "judge")]
    out, _ = call(words, stages)
    (one,) = json.loads(out)
    (told,) = one["rewards"].values()
    assert told["of"] == 4 and told["best"] >= told["mean"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--best-of", "4"], "Add --reward RUN"),
        (["--reward", "x"], "Add --best-of 8"),
        (["--best-of", "4", "--reward", "x", "--temperature", "0"], "same answer each time"),
        (["--best-of", "4", "--reward", "sft"], "makes no reward model"),
    ],
)
def test_a_choice_that_is_none_is_refused(stages: Path, words: list[str], said: str) -> None:
    words = [str(stages / "sft") if word == "sft" else word for word in words]
    _, err = call(["generate", str(stages / "policy"), "--prompt", "a", *words], stages, 2)
    assert said in " ".join(err.split())


def test_the_answers_of_any_model_are_worth_something(world: Path, stages: Path) -> None:
    """An update against its base, and a model that has none."""
    words = ["task.metric=reward", "reward=model", f"reward.model.run={stages / 'judge'}"]
    words += ["data=pairs", f"data.path={stages / 'pairs.jsonl'}", "data.val_fraction=0.25"]
    words += ["retention.suite=[prose]", "retention.items=30", "retention.settle=false"]
    words += ["task.max_new_tokens=6", "trainer.num_threads=1", "tracking.enabled=false"]
    call(["evaluate", str(stages / "policy"), *words, "out=both"], stages)
    both = RunRecord.load(stages / "both" / "record.json").task
    assert both is not None and both.delta is not None and both.lo is not None
    call(["evaluate", str(world / "model"), *words, "out=alone"], stages)
    alone = RunRecord.load(stages / "alone" / "record.json").task
    assert alone is not None and alone.tuned is not None and alone.delta is None
    words += ["task.metric=pass_at_k", "reward=exact", "task.k=2", "task.samples=3"]
    words += ["task.metrics=[best_of_k]"]
    words = [
        word for word in words if not word.startswith(("task.metric=r", "reward=m", "reward."))
    ]
    call(["evaluate", str(world / "model"), *words, "out=attempts"], stages)
    passed = RunRecord.load(stages / "attempts" / "record.json").task
    assert passed is not None and passed.metric == "pass_at_k" and passed.tuned == 0
    assert [(best.metric, best.tuned) for best in passed.extra] == [("best_of_k", 0)]


def test_a_policy_that_is_stopped_in_mid_round_goes_on(
    world: Path, tmp_path: Path, server: Server
) -> None:
    """Two steps a round: stopped after the third, and taken up again, as through the command line
    (a limit of steps stands for the signal). A judge's replies are kept: it is asked nothing twice,
    and all it gives is 3 or 8 of 10."""
    server.grades = {"e": "Score: 8", "": "Score: 3"}
    judge = {"reward.judge.url": server.url, "reward.judge.model": "m"}
    rewards = {"reward": "[length,judge]", **judge}
    for out, steps in (("whole", 6), ("parts", 3)):
        train(world, tmp_path / out, tmp_path, **{**SAMPLES, **rewards, "schedule": "constant",
              "schedule.warmup": 0, "trainer.max_steps": steps})  # fmt: skip
    call(["train", f"resume={tmp_path / 'parts'}", "trainer.max_steps=6"], tmp_path)
    whole, parts = (
        load_file(next((tmp_path / out / "update").glob("*.safetensors")))
        for out in ("whole", "parts")
    )
    assert all(bool((whole[name] == parts[name]).all()) for name in whole)
    asked = [one["messages"][0]["content"] for one in server.asked]
    assert asked and len(asked) == len({*asked})
    task = RunRecord.load(tmp_path / "whole" / "record.json").task
    assert task is not None
    (row,) = (row for row in task.extra if row.metric == "reward_judge")
    assert row.tuned is not None and 0.3 <= row.tuned <= 0.8


def test_a_reward_run_that_is_none_is_refused_before_weights_load(
    world: Path, stages: Path, tmp_path: Path
) -> None:
    words = {**SAMPLES, "reward": "model", "reward.model.run": stages / "sft"}
    del words["reward.length.most"]
    _, err = train(world, tmp_path / "out", tmp_path, 2, **words)
    assert "makes no reward model" in " ".join(err.split())


def test_prompts_without_room_for_an_answer_are_refused(world: Path, tmp_path: Path) -> None:
    _, err = train(
        world, tmp_path / "out", tmp_path, 2, **{**SAMPLES, "objective.max_new_tokens": 505}
    )
    assert "only 7 are left for one" in " ".join(err.split())
