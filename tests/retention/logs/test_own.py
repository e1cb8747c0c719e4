"""Runs of one's own: what compare says of a run is what the run says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from myosotis.evaluation.item_files import write_benchmark_items
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import Flip, ModelInfo, RunRecord
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.budget import Budget
from myosotis.retention.compare import compare
from myosotis.retention.logs import own
from myosotis.retention.logs.find import one_side, sides
from myosotis.retention.logs.match import match
from myosotis.retention.logs.scores import measured
from myosotis.utils.errors import DataError
from tests.retention.test_compare import accuracy
from tests.retention.test_compare import measured as scored


def prose(bits: np.ndarray) -> Measurement:
    sizes = np.linspace(100, 900, len(bits))
    return Measurement(
        {
            "prose": scored(
                {"bits_per_byte": bits},
                "bits_per_byte",
                higher_is_better=False,
                accuracy_like=False,
                weights=sizes,
            )
        }
    )


def run(place: Path, *, lost: int = 30) -> RunFolder:
    """The folder of a run that measured two tasks: 500 questions and 40 passages of unlike size."""
    base, tuned = accuracy(500, 250, lost=lost, gained=10)
    base, tuned = (replace(one, chance=0.25, items_of=9000) for one in (base, tuned))
    bits = np.random.default_rng(0).uniform(0.8, 1.2, 40)
    before, after = prose(bits), prose(bits + 0.01 + 0.01 * np.sin(np.arange(40)))
    before.tasks["piqa"], after.tasks["piqa"] = base, tuned
    budget = Budget(0.1, "not_forgotten")
    rows, suite = compare(before.tasks, after.tasks, budget)
    folder = RunFolder(place)
    place.mkdir(parents=True)
    write_benchmark_items(folder.items, before, after)
    RunRecord(
        "f" * 32,
        place.name,
        status="FINISHED",
        started="2026-01-01T00:00:00+00:00",
        config={"retention": {"budget": 0.1, "accept": "not_forgotten"}},
        model=ModelInfo(id="owner/base"),
        suite={"tasks": [{"task": "piqa", "version": "1, lm-eval 0.4.13", "num_fewshot": 0}]},
        retention=rows,
        suite_verdict=suite,
        flips=[Flip("piqa", "item 0", "Which?", ["this", "that"], 1, 1, 0)],
    ).save(folder.record)
    return folder


def test_a_run_says_of_itself_what_its_record_says(tmp_path: Path) -> None:
    """Every field of every row: from the items as they were written, weights included."""
    folder = run(tmp_path / "run")
    both = sides([str(folder.path)], None, [])
    found = measured(match(both.base, both.tuned))
    rows, suite = compare(found.base, found.tuned, Budget(both.budget, "not_forgotten"))
    record = folder.load()
    assert {row.task: row for row in rows} == {row.task: row for row in record.retention}
    assert suite == record.suite_verdict
    assert (both.base.model, both.tuned.model) == ("owner/base", "run")


def test_two_runs_are_compared_by_their_tuned_models(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", lost=5), run(tmp_path / "b", lost=40)
    both = sides([str(a.path), str(b.path)], None, [])
    (row,) = [row for row in compare(*_measured(both.base, both.tuned)).rows if row.task == "piqa"]
    assert (row.base, row.tuned) == (pytest.approx(255 / 500), pytest.approx(220 / 500))
    assert both.budget is None, "a budget is of one run"
    base = one_side(f"{a.path}#base")
    assert base.digest == one_side(f"{b.path}#base").digest
    assert one_side(str(a.path)).digest == one_side(f"{a.path}#tuned").digest != base.digest


def _measured(one: own.Log, two: own.Log) -> tuple[dict, dict]:
    found = measured(match(one, two))
    return found.base, found.tuned


def test_items_alone_and_the_record_alone_are_the_run(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    assert one_side(str(folder.record)).digest == one_side(str(folder.path)).digest
    alone = sides([str(folder.items)], None, [])
    assert alone.tuned.digest == one_side(str(folder.path)).digest
    assert alone.tuned.tasks["prose"].higher_is_better("bits_per_byte") is False
    other = tmp_path / "elsewhere"
    other.mkdir()
    folder.items.rename(other / folder.items.name)
    assert sides([str(other)], None, []).base.digest == alone.base.digest
    with pytest.raises(DataError, match=r"has no retention_items\.parquet"):
        one_side(str(folder.path))


def test_lost_items_have_the_texts_of_the_record(tmp_path: Path) -> None:
    found = sides([str(run(tmp_path / "run").path)], None, [])
    (flip, *more) = measured(match(found.base, found.tuned)).flips
    assert (flip.item, flip.prompt, flip.choices) == ("item 0", "Which?", ["this", "that"])
    assert len(more) == 29 and not more[0].prompt


def test_files_without_weights_say_so(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    folder = run(tmp_path / "run")
    pq.write_table(pq.read_table(folder.items).drop_columns(["weight"]), folder.items)
    (note,) = one_side(str(folder.path)).notes
    assert "prose is a mean over items here, and over bytes in the run's own record" in note


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base": ["x"] * 540}, "base is 'x', which is no number"),
        ({"base": [None] * 540}, "base is None, which is no number"),
        ({"weight": [-1.0] * 540}, "weight is -1.0"),
        ({"item": ["same"] * 540}, "item 'same' of prose is there twice"),
        ({"metric": None}, "it has no metric"),
    ],
    ids=repr,
)
def test_items_that_are_wrong_are_refused(tmp_path: Path, change: dict, said: str) -> None:
    folder = run(tmp_path / "run")
    table = pq.read_table(folder.items)
    for name, values in change.items():
        table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, pa.array(values))
    pq.write_table(table, folder.items)
    with pytest.raises(DataError, match=said):
        one_side(str(folder.path))
