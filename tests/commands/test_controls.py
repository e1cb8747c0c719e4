"""Controls in whole runs through the command line: from training to scorecard, killed and resumed;
and the general text they read, which is never measured.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from myosotis.commands import plan
from myosotis.commands.protecting import by_step, controls_of, general_text
from myosotis.config import compose
from myosotis.controls import read, supervised
from myosotis.data.datamodule import StepLoader
from myosotis.records.schema import RunRecord
from myosotis.retention.benchmarks import build, prose
from myosotis.retention.benchmarks.requests import Encoder
from tests.commands.test_plan import config
from tests.commands.test_train import same, stop_at, tensors
from tests.data.conftest import byte_level
from tests.world import call, settings, start

SMALL = {"task.shots": 0, "task.generate": 0, "tracking": "none"}
BOTH = {
    "control": "[replay,kl]",
    "control.replay.ratio": 0.3,
    "control.replay.tokens": 32,
    "control.kl.tokens": 16,
    "control.kl.share": 0.5,
}


def test_what_is_rehearsed_is_not_what_is_measured() -> None:
    """The passages of the benchmark and of KL, with the default settings and with more."""
    for changes in ([], ["retention.seed=7", "retention.kl_items=40", "retention.items=64"]):
        cfg = compose(changes)
        left = {*general_text(cfg, "prose")}
        tokenizer = byte_level()
        suite = build.build(
            ["prose"], tokenizer, context_length=512, items=cfg.retention["items"],
            seed=cfg.retention.seed,
        )  # fmt: skip
        asked = {item.prompt for item in suite["prose"].items}
        trees = prose.texts(Encoder(tokenizer, 4096), cfg.retention.kl_items, cfg.retention.seed)
        starts = [tokenizer.decode(tree.ids[1:].tolist()) for tree in trees]
        assert len(asked) == 64 and len(starts) == cfg.retention.kl_items
        paragraphs = {part for text in asked for part in text.split("\n\n")}
        assert not [text for text in left if paragraphs & {*text.split("\n\n")}]
        assert not [text for text in left for begin in starts if text.startswith(begin)]
        assert len(left) >= 150


def test_what_is_learned_does_not_depend_on_what_is_measured() -> None:
    off = ["retention.suite=[]", "retention.kl_items=0", "retention.items=30"]
    assert general_text(compose(off), "prose") == general_text(compose([]), "prose")


def test_the_tokens_of_every_step(tiny_model: Path) -> None:
    """Against the loader's own steps, over an epoch's end, whose last step is smaller."""
    from myosotis.commands.parts import data_of

    data = data_of(config(tiny_model, "data.batch_size=8"))
    loader = StepLoader(data.train_trees, 8, data.seed)
    steps = len(loader) + 2
    for size in (supervised, read):
        wanted = [
            sum(map(size, loader.step(*divmod(number, len(loader))))) for number in range(steps)
        ]
        assert by_step(data, steps, size).tolist() == wanted
    assert wanted[len(loader) - 1] < wanted[0]


def test_coefficients_of_zero_leave_nothing_behind() -> None:
    """No term is made, no text read and no base asked: the training is the one without."""
    zeros = [
        "control=[replay,self_replay,kl,kl_task,l2sp,ewc,orthogonal,unfreeze]",
        "control.replay.ratio=0",
        "control.self_replay.ratio=0",
        *(f"control.{name}.coef=0" for name in ("kl", "kl_task", "l2sp", "ewc", "orthogonal")),
        "control.unfreeze.every=0",
    ]
    assert not controls_of(compose(zeros), None)  # type: ignore[arg-type]


def test_a_plan_counts_what_controls_read(tiny_model: Path) -> None:
    """Each example has 5 tokens, 3 of them scored. A share of a quarter of all scored tokens is a
    third of the task's: 1 token an example. KL on half as many as are
    read, which the base reads too."""
    plain = plan.make(config(tiny_model))
    found = plan.make(
        config(
            tiny_model, "control=[replay,kl]", "control.replay.ratio=0.25", "control.kl.share=.5"
        )
    )
    per_token = 4 * plain.parameters + 6 * plain.trainable
    examples = plain.steps.total * plain.steps.batch_size
    scored = plain.steps.scored_per_example
    replay = scored / 3 * per_token
    kl = plain.steps.tokens_per_example / 2 * (per_token + 2 * plain.parameters)
    extra = (found.teraflops - plain.teraflops) * 1e12
    assert extra == pytest.approx(examples * (replay + kl), rel=1e-9)
    said = dict(plan.rows(found))
    assert said["controls"] == "0.25 of the supervised tokens are replay"


def test_a_plan_of_a_policy_counts_what_controls_read_of_sampled_answers(tiny_model: Path) -> None:
    """A prompt of 2 tokens with 4 answers of 6 at most: 24 learned from and 26 read an example,
    whatever the length of the data's own answers. A third of 24, and half of 26."""
    policy = [
        "method=grpo",
        "reward=length",
        "objective.group_size=4",
        "objective.max_new_tokens=6",
    ]
    plain = plan.make(config(tiny_model, *policy))
    both = ["control=[replay,kl]", "control.replay.ratio=0.25", "control.kl.share=.5"]
    found = plan.make(config(tiny_model, *policy, *both))
    per_token = 4 * plain.parameters + 6 * plain.trainable
    examples = plain.steps.total * plain.steps.batch_size
    wanted = 8 * per_token + 13 * (per_token + 2 * plain.parameters)
    extra = (found.teraflops - plain.teraflops) * 1e12
    assert extra == pytest.approx(examples * wanted, rel=1e-9)


@pytest.fixture(scope="module")
def finished(world: Path) -> Path:
    out = world / "runs" / "protected"
    call(["train", *settings(world, out, **SMALL, **BOTH)], world)
    return out


@pytest.mark.slow
def test_a_run_tells_what_its_controls_did(finished: Path) -> None:
    record = RunRecord.load(finished)
    assert record.status == "FINISHED"
    replay, kl = record.controls
    values: dict[str, Any] = {}
    for point in record.curves:
        values.setdefault(point.name, []).append(point.value)
    terms, shares = values["train/control/replay"], values["train/control/replay_share"]
    assert len(terms) == 12 and replay.term == pytest.approx(np.mean(terms))
    assert replay.gradient_share == pytest.approx(np.mean(shares)) and 0 <= shares[0] <= 1
    assert replay.texts == record.cost["replay_tokens"] // 32  # read behind the end-of-text token
    # 0.3/0.7 of the task's tokens, exact to half a text.
    task = 12 * record.data.manifest["rows"]["train"]
    assert replay.supervised_tokens == 32 * replay.texts and task
    assert kl.term is not None and kl.term > 0 and kl.texts
    page = (finished / "scorecard.html").read_text()
    assert "Control replay" in page and "replay and kl" in page


@pytest.mark.slow
def test_a_ratio_is_exact_over_the_run(world: Path, finished: Path) -> None:
    """Supervised tokens of replay against those of the steps, within half a text."""
    from myosotis.commands.parts import data_of

    words = settings(world, finished, **SMALL, **BOTH)
    task = by_step(data_of(compose(words)), 12, supervised).sum()
    replay = RunRecord.load(finished).controls[0]
    assert abs((replay.supervised_tokens or 0) - 0.3 / 0.7 * task) <= 16


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_same_weights(
    world: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "killed"
    process = start(["train", *settings(world, out, **SMALL, **BOTH)], tmp_path)
    stop_at(process, out, 6, lambda: os.killpg(process.pid, signal.SIGKILL))
    assert RunRecord.load(out).status == "RUNNING"
    call(["train", "resume=last"], tmp_path)
    assert same(tensors(out), tensors(finished))
    again, whole = RunRecord.load(out), RunRecord.load(finished)
    assert [vars(one) for one in again.controls] == [vars(one) for one in whole.controls]


@pytest.mark.slow
def test_every_control_runs_and_none_at_zero_is_none(world: Path, tmp_path: Path) -> None:
    """Three steps each: with all coefficients 0 the weights are those without, bit for bit; with
    all of them at work they are others."""
    short = {**SMALL, "trainer.max_steps": 3, "retention.suite": "[]", "retention.kl_items": 0}
    names = ["self_replay", "kl_task", "l2sp", "ewc", "orthogonal"]
    zero = {f"control.{name}.coef": 0 for name in names[1:]} | {"control.self_replay.ratio": 0}
    few = {"control.self_replay.items": 2, "control.ewc.items": 2, "control.self_replay.tokens": 16}
    all_of_them = {"control": f"[{','.join(names)}]"}
    ends: dict[str, Any] = {}
    for name, changes in (
        ("without", {}),
        ("zero", all_of_them | zero),
        ("protected", all_of_them | few | {"control.self_replay.ratio": 0.5}),
    ):
        call(["train", *settings(world, tmp_path / name, **short, **changes)], tmp_path)
        ends[name] = tensors(tmp_path / name)
    assert same(ends["without"], ends["zero"])
    assert not same(ends["without"], ends["protected"])
    lines = (tmp_path / "protected" / "metrics.jsonl").read_text().splitlines()
    logged = {key for line in lines for key in json.loads(line)}
    assert logged >= {f"train/control/{name}" for name in names}
