"""Stages one after another, through the command line: run, killed, gone on with; and what is
refused before anything loads. Two tasks of forty questions, of a random model.
"""

from __future__ import annotations

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from myosotis.records.items import example_items
from myosotis.records.schema import RunRecord
from myosotis.report.sequence import of_records
from tests.commands.test_train import same, stop_at, tensors
from tests.world import call, settings, start

TASKS = {"sums": ("the sum of", "is"), "names": ("who was", "it was")}
SMALL = {
    "task.shots": 0,
    "task.generate": 0,
    "tracking": "none",
    "trainer.max_steps": 6,
    "trainer.checkpoint_every": 2,
    "retention.suite": "[]",
    "retention.kl_items": 0,
}


def study(place: Path, **of_stage: list[str]) -> Path:
    (place / "sweeps").mkdir(exist_ok=True)
    stages: dict[str, Any] = {}
    for name, (ask, tell) in TASKS.items():
        lines = [
            json.dumps({"prompt": f"{ask} {n}", "completion": f"{tell} {n * 7}"}) for n in range(40)
        ]
        (place / f"{name}.jsonl").write_text("\n".join(lines))
        stages[name] = [f"data.path={place / name}.jsonl", *of_stage.get(name, [])]
    told = json.dumps(stages)  # which is YAML, too
    (place / "sweeps" / "two.yaml").write_text(f"defaults: [train, _self_]\nstages: {told}\n")
    return place


def words(world: Path, **changes: Any) -> list[str]:
    every = settings(world, Path("seq"), **SMALL, **changes)
    return ["sweep", "two", *(word for word in every if not word.startswith("data.path="))]


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    replay = ["control=replay", "control.replay.texts=earlier", "control.replay.ratio=0.2"]
    place = study(tmp_path_factory.mktemp("sequence"), names=replay)
    call(words(world), place)
    return place / "seq"


def records(place: Path) -> list[RunRecord]:
    return [RunRecord.load(path.parent) for path in sorted(place.glob("*/record.json"))]


def test_every_stage_is_a_run_with_its_row_of_the_matrix(finished: Path) -> None:
    first, second = records(finished)
    assert [r.status for r in (first, second)] == ["FINISHED"] * 2
    assert second.config["model"]["start"].endswith("1-sums")
    assert first.stage and second.stage and first.stage.names == ["sums", "names"]
    assert first.stage.backward is None and second.stage.backward is not None
    # The run's own measurement of its task is the entry on the diagonal.
    assert first.task and first.stage.scores[0].score == pytest.approx(first.task.tuned, abs=1e-5)
    assert second.task and second.stage.scores[1].score == pytest.approx(
        second.task.tuned, abs=1e-5
    )
    assert first.stage.scores[0].base == pytest.approx(first.task.base, abs=1e-5)
    # Two stages: BWT is the one change of the first task, forgetting its loss.
    kept = second.stage.scores[0].kept
    own, after = (r.stage.scores[0].score for r in (first, second) if r.stage)
    assert kept == pytest.approx(after - own)
    assert second.stage.backward.value == pytest.approx(kept)
    assert second.stage.forgetting and second.stage.forgetting.value == pytest.approx(-kept)
    forward = second.stage.forward
    before, base = first.stage.scores[1].score, first.stage.scores[1].base
    assert forward and forward.value == pytest.approx(before - base)


def test_what_went_before_is_rehearsed(finished: Path) -> None:
    earlier = (finished / "2-earlier.jsonl").read_text().splitlines()
    first, second = records(finished)
    assert len(earlier) == first.data.counts["train"]
    asked = {json.loads(line)["messages"][0]["content"].rpartition(" ")[0] for line in earlier}
    assert asked == {"the sum of"}
    assert second.controls[0].name == "replay" and second.controls[0].supervised_tokens


def test_the_page_shows_the_matrix_and_ships_nothing(finished: Path) -> None:
    page = (finished / "scorecard.html").read_text()
    assert "One task after another" in page and "Backward transfer" in page
    assert "Which to ship" not in page and "Ship " not in page
    shown = of_records(records(finished)[::-1])
    assert shown is not None and [len(row["cells"]) for row in shown["rows"]] == [2, 2, 2]
    assert [c["own"] for row in shown["rows"] for c in row["cells"]] == [
        *(False, False),
        *(True, False),
        *(False, True),
    ]


def test_the_same_command_runs_nothing_again(finished: Path, world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("update/*")}
    ended = [r.ended for r in records(finished)]
    out, _ = call([*words(world), "--json"], finished.parent)
    assert json.loads(out)["stage"]["number"] == 2
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("update/*")} == before
    assert [r.ended for r in records(finished)] == ended


def test_another_setting_is_refused(finished: Path, world: Path) -> None:
    _, err = call([*words(world), "optimizer.lr=0.02"], finished.parent, code=2)
    assert "1-sums holds a stage with other settings" in " ".join(err.split())


@pytest.mark.slow
def test_killed_in_each_stage_it_ends_in_the_same_weights(
    finished: Path, world: Path, tmp_path: Path
) -> None:
    """The same command each time: the second goes on in the first stage, the third in the other."""
    replay = ["control=replay", "control.replay.texts=earlier", "control.replay.ratio=0.2"]
    place = study(tmp_path, names=replay)
    for stage in ("1-sums", "2-names"):
        process = start(words(world), place)
        kill = functools.partial(os.killpg, process.pid, signal.SIGKILL)
        stop_at(process, place / "seq" / stage, 3, kill)
        assert RunRecord.load(place / "seq" / stage).status == "RUNNING"
    call(words(world), place)
    for stage in ("1-sums", "2-names"):
        assert same(tensors(place / "seq" / stage), tensors(finished / stage))
    again, whole = records(place / "seq")[1], records(finished)[1]
    assert again.stage and whole.stage and again.stage.scores == whole.stage.scores


REFUSED = {
    "a metric of its own": (["task.metric=perplexity"], "differ in task.metric"),
    "a base in four bits": (["update=qlora"], "four bits"),
    "nothing before it": (["control=replay", "control.replay.texts=earlier"], "has none before it"),
    "an update that stays apart": (["update=prefix"], "no other stage can go on from"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_a_stage_is_refused_before_anything_loads(
    what: str, world: Path, tmp_path: Path
) -> None:
    given, told = REFUSED[what]
    place = study(tmp_path, sums=given)
    _, err = call(words(world), place, code=2)
    assert told in " ".join(err.split()), err
    assert not list(place.rglob("record.json"))


def test_stages_are_no_setting_of_a_single_run(world: Path, tmp_path: Path) -> None:
    place = study(tmp_path)
    _, err = call(["train", "-cd=sweeps", "-cn=two", *words(world)[2:]], place, code=2)
    assert "myosotis sweep NAME" in err


def test_items_of_a_stage_are_those_of_its_run(finished: Path) -> None:
    """The mean of what is kept beside the stage is what the record says."""
    import pyarrow.parquet as pq

    (first, _) = records(finished)
    read = pq.read_table(finished / "1-sums" / "stage_items.parquet").to_pydict()
    mine = [s for t, s in zip(read["task"], read["score"], strict=True) if t == "sums"]
    assert first.stage and first.stage.scores[0].score == pytest.approx(np.mean(mine))
    assert len(mine) == len(example_items(first)["loglik"].items)
