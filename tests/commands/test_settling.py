"""The final measurement goes on until it is settled: whole runs of a random model on questions that
it answers right by definition, with few items first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from myosotis.commands import parts
from myosotis.config.compose import compose
from myosotis.records.run_folder import SweepFolder, SweepInfo
from myosotis.records.verdict import MIN_ITEMS
from myosotis.utils.errors import ConfigError
from tests.retention.small import right_by_definition
from tests.world import call, settings


@pytest.fixture(scope="module")
def questions(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return right_by_definition(world / "model", tmp_path_factory.mktemp("questions"), 200)


def trained(world: Path, questions: Path, out: Path, **changes: Any) -> tuple[dict[str, Any], Any]:
    """The record of a run that asks 40 of 200 questions first, and its items."""
    given = {
        "retention.suite": "[arc_easy]",
        "retention.data_dir": questions,
        "retention.items": 40,
        "trainer.max_steps": 2,
        "optimizer.lr": 1e-9,
        "task.generate": 0,
        "tracking": "none",
        **changes,
    }
    call(["train", *settings(world, out, **given)], out.parent)
    record = json.loads((out / "record.json").read_text())
    return record, pq.read_table(out / "retention_items.parquet").to_pandas()


def test_rounds_until_the_ceiling(world: Path, questions: Path, tmp_path: Path) -> None:
    """A loss of a thousandth cannot be excluded by 120 items: 40, 60, 90 and 120 are asked, the
    same 40 first. The base, asked again after the training, is what it was: right everywhere."""
    strict = {"retention.budget": 0.001}
    dialled = {"retention.dial": "[0.5]"}
    record, items = trained(world, questions, tmp_path / "rounds", **strict, **dialled)
    assert [point["alpha"] for point in record["dial"]] == [0.5, 1.0], "on all that was asked"
    (row,) = record["retention"]
    assert row["n"] == len(items) == items["item"].nunique() == 120
    assert "40, then 60, then 90, then 120 items" in record["suite_verdict"]["note"]
    assert (items["base"] == 1).all()
    assert len(record["suite"]["tasks"][0]["items"]) == 120
    _, fixed = trained(
        world, questions, tmp_path / "fixed", **strict, **{"retention.settle": "false"}
    )
    assert fixed["item"].tolist() == items["item"].tolist()[:40]
    assert fixed["half"].tolist() == items["half"].tolist()[:40]


def test_a_settled_verdict_ends_it(world: Path, questions: Path, tmp_path: Path) -> None:
    record, items = trained(world, questions, tmp_path / "run", **{"retention.budget": 0.9})
    assert record["suite_verdict"]["verdict"] == "retained"
    assert len(items) == 40
    assert "Asked in rounds: 40 items" in record["suite_verdict"]["note"]


def test_a_trial_goes_on_until_each_half_is_settled(
    world: Path, questions: Path, tmp_path: Path
) -> None:
    """A sweep chooses on one half and claims on the other. 40 items settle the whole at this
    budget, but halves of 20 have no verdict; of 60, each half has `MIN_ITEMS`."""
    budget = {"retention.budget": 0.9}
    place = tmp_path / "sweep" / "trial"
    SweepFolder(place.parent).save(SweepInfo("mine", [], "2026-11-30"))
    record, items = trained(world, questions, place, **budget)
    assert items["half"].value_counts().tolist() == [MIN_ITEMS, MIN_ITEMS]
    halves = [half["suite"]["verdict"] for half in record["halves"].values()]
    assert halves == ["retained", "retained"]


def test_evaluate_goes_on_too(world: Path, questions: Path, tmp_path: Path) -> None:
    """An update against its base, and a model against another (here itself)."""
    run = tmp_path / "run"
    trained(world, questions, run, **{"retention.budget": 0.9})
    asked = [
        "retention.suite=[arc_easy]",
        f"retention.data_dir={questions}",
        "retention.items=40",
        "retention.budget=0.001",
        "retention.max_items=60",
        "tracking=none",
    ]
    for name, models in (
        ("update", [str(run)]),
        ("two", [str(world / "model"), "--base", str(world / "model")]),
    ):
        call(["evaluate", *models, *asked, f"out={tmp_path / name}"], tmp_path)
        (row,) = json.loads((tmp_path / name / "record.json").read_text())["retention"]
        assert (row["n"], row["base"]) == (60, 1.0)


def test_too_low_a_ceiling_is_refused_before_anything_loads(world: Path, tmp_path: Path) -> None:
    args = settings(world, tmp_path / "run", **{"retention.max_items": 20})
    _, err = call(["train", *args], tmp_path, code=2)
    assert "retention.max_items=20 is fewer than retention.items=30" in err
    assert not (tmp_path / "run" / "record.json").exists()


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ([], 600),
        (["retention.settle=false"], None),
        (["retention.items=null"], None),
        (["retention=none"], None),
        (["model.start=last"], None),
        (["model.start=last", "retention.against=start"], 600),
        (["retention.max_items=250"], 250),
    ],
)
def test_when_a_fixed_set_is_asked(changes: list[str], most: int | None) -> None:
    assert parts.most_items(compose(changes)) == most


def test_a_ceiling_below_the_first_round_has_one_message() -> None:
    with pytest.raises(ConfigError, match="is fewer than"):
        parts.most_items(compose(["retention.max_items=3"]))
