"""Two settings compared item by item: by hand, by simulation, and from files beside records."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from myosotis.records.items import TaskItems, example_items
from myosotis.records.schema import RunRecord, SuiteVerdict, TaskQuality
from myosotis.report.contrast import Measure, contrast, p_alike, told_apart
from myosotis.report.crossed import Task, shared_items
from myosotis.report.grouping import study
from myosotis.report.seeds import Estimate, difference_p, over_seeds, t_tails
from myosotis.report.selection import choose, group_stats, learned
from tests.report.test_crossed import columns, normal


def test_items_on_which_seeds_agree_are_a_paired_t_test() -> None:
    """Where the seeds of a setting are alike, V_B and V_E are 0: what is left is the difference of
    the items, mean .5 and variance (4 * .16 + 2 * .04) / 5 = .144 over 6 items:
    t = .5 / sqrt(.144 / 6) with 5 degrees of freedom."""
    d = np.array([0.1, 0.1, 0.9, 0.9, 0.3, 0.7])
    zero = np.zeros((6, 2))
    base = np.array([[0.1], [0.4], [0.2], [0.9], [0.5], [0.3]])
    p = contrast([Task.of(columns(base + zero))], [Task.of(columns(base + d[:, None] + zero))])
    assert p == pytest.approx(t_tails(0.5 / math.sqrt(0.144 / 6), 5), rel=1e-6)


def test_a_few_items_say_nothing_of_the_rest() -> None:
    """4 of 40 items differ: the variance of so few is not to be trusted. 6 do."""
    few, more = np.zeros((40, 2)), np.zeros((40, 2))
    few[:4], more[:6] = 1.0, 1.0
    base = Task.of(columns(np.zeros((40, 2))))
    assert contrast([base], [Task.of(columns(few))]) is None
    assert contrast([base], [Task.of(columns(more))]) is not None


@pytest.mark.parametrize("seeds", [2, 3])
def test_alike_settings_are_told_apart_in_one_of_twenty_and_others_are_found(seeds: int) -> None:
    """48 examples of very different difficulty (sd 1), which both settings share; examples in a run
    .1, seeds .02. Of 800 draws two standard errors are .016. A true difference of .08
    is never seen in the intervals of the settings; item by item in a quarter of the draws with two
    seeds and in three quarters with three, whose degrees of freedom are the limit."""
    rng, n = np.random.default_rng(0), 48
    wrong, found, added = 0, 0, 0
    for _ in range(800):
        hard = rng.standard_normal((n, 1))

        def setting(gain: float, hard: np.ndarray = hard) -> np.ndarray:
            noise = 0.1 * rng.standard_normal((n, seeds)) + 0.02 * rng.standard_normal(seeds)
            return gain + hard + noise

        a, b, c = setting(1.0), setting(1.0), setting(1.08)
        tasks = [[Task.of(columns(x))] for x in (a, b, c)]
        same, other = contrast(tasks[0], tasks[1]), contrast(tasks[0], tasks[2])
        assert same is not None and other is not None
        wrong, found = wrong + (same < 0.05), found + (other < 0.05)
        estimates = [over_seeds(normal(x)) for x in (a, c)]
        assert estimates[0] is not None and estimates[1] is not None
        added += difference_p(estimates[0], estimates[1]) < 0.05
    assert wrong / 800 <= 0.066
    assert added == 0
    assert found / 800 >= (0.22 if seeds == 2 else 0.7)


def test_the_fewest_items_are_shared_with_their_weights() -> None:
    """Rounds ask one run 2 items and another 3: the first two are a draw of two."""
    short = TaskItems(
        ("a", "b"), ("selection", "report"), (None, None), (1.0, 3.0), (0, 0), (0.1, 0.2)
    )
    long = TaskItems(
        ("b", "c", "a"),
        ("report", "report", "selection"),
        (None,) * 3,
        (1.0,) * 3,
        (1, 1, 1),
        (2, 3, 4),
    )
    found = shared_items([short, long])
    assert [c.items for c in found] == [("a", "b")] * 2
    assert [c.changes for c in found] == [(0.1, 0.2), (3, 1)]
    assert [c.weights for c in found] == [(1.0, 3.0)] * 2
    other = TaskItems(("a", "x"), ("selection", "report"), (None,) * 2, (1.0,) * 2, (0, 0), (0, 0))
    assert shared_items([short, other]) == shared_items([short, None]) == []


def run(folder: Path, rank: int, seed: int, gains: np.ndarray, *, files: bool) -> RunRecord:
    path, n = folder / f"r{rank}s{seed}", len(gains)
    path.mkdir(parents=True)
    table: dict[str, list[object]] = {
        "task": ["loglik"] * n,
        "item": [f"{i}" for i in range(n)],
        "half": ["selection", "report"] * (n // 2),
        "cluster": [None] * n,
        "base": [-3.0] * n,
        "tuned": (gains - 3).tolist(),
    }
    if files:
        pq.write_table(pa.table(table), path / "task_items.parquet")
    mean, half = float(gains.mean()), 1.96 * float(gains.std(ddof=1)) / math.sqrt(n)
    record = RunRecord(
        f"{rank}-{seed}",
        status="FINISHED",
        task=TaskQuality("loglik", True, -3, mean - 3, n, mean, mean - half, mean + half),
        suite_verdict=SuiteVerdict(0.0, -0.01, 0.01, 0.05, "retained", tasks=["a"]),
        config={"seed": seed, "update": {"name": "lora", "r": rank}},
    )
    return RunRecord.load(record.save(path / "record.json"))


@pytest.mark.parametrize("files", [True, False])
def test_the_choice_tells_settings_apart_by_their_examples(tmp_path: Path, files: bool) -> None:
    """A gain that is .08 higher on every example is a rival without the files, and none with."""
    rng = np.random.default_rng(1)
    hard = rng.standard_normal(48)
    runs = [
        run(tmp_path, rank, seed, gain + hard + 0.05 * rng.standard_normal(48), files=files)
        for rank, gain in ((4, 1.0), (16, 1.08))
        for seed in range(3)
    ]
    found = study(runs)
    choice = choose(found)
    assert choice.group is not None and choice.group.runs[0].config["update"]["r"] == 16
    assert len(choice.rivals) == (0 if files else 1)
    measures = [learned(group, group_stats(group)) for group in found.measured]
    assert all(m is not None and m.estimate.seeds == 3 for m in measures)
    assert bool(example_items(runs[0])) is files


def test_of_one_seed_nothing_is_told() -> None:
    one = Measure(Estimate(1.0, 0.99, 1.01, 1))
    many = Measure(Estimate(2.0, 1.99, 2.01, 5))
    assert p_alike(one, many) == 1.0
    assert told_apart([(one, many)]) == [False]
