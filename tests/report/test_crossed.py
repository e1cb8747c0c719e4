"""Seeds crossed with items: by hand, against the classical table, by simulation, and read from
files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from myosotis.records.items import TaskItems, benchmark_items
from myosotis.records.schema import HalfResult, RetentionRow, RunRecord, SuiteVerdict, TaskQuality
from myosotis.report.crossed import Task, crossed, over_items_and_seeds
from myosotis.report.grouping import study
from myosotis.report.seed_verdict import task_over_seeds
from myosotis.report.seeds import Part, over_seeds, t_quantile
from myosotis.report.selection import group_stats


def columns(d_NK: np.ndarray, clusters: list[str | None] | None = None) -> list[TaskItems]:
    n = len(d_NK)
    names = tuple(clusters or [None] * n)
    items, halves = tuple(map(str, range(n))), ("selection",) * n
    return [
        TaskItems(items, halves, names, (1.0,) * n, (0.0,) * n, tuple(d.tolist())) for d in d_NK.T
    ]


def normal(d_NK: np.ndarray) -> list[Part]:
    """What each run says by itself, with a normal interval."""
    means, errors = d_NK.mean(0), d_NK.std(0, ddof=1) / math.sqrt(len(d_NK))
    pairs = zip(means.tolist(), errors.tolist(), strict=True)
    return [(mean, mean - 1.96 * error, mean + 1.96 * error) for mean, error in pairs]


def test_it_is_the_classical_table_of_items_and_seeds() -> None:
    """Mean squares of rows, columns and what is left: the variance of the mean is
    (MS_rows + MS_columns - MS_left) / (n k), with Satterthwaite's degrees of freedom."""
    rng = np.random.default_rng(0)
    n, k = 30, 4
    d = rng.standard_normal((n, 1)) + 0.4 * rng.standard_normal(k) + rng.standard_normal((n, k))
    rows, cols = d.mean(1), d.mean(0)
    ms_rows = k * ((rows - d.mean()) ** 2).sum() / (n - 1)
    ms_cols = n * ((cols - d.mean()) ** 2).sum() / (k - 1)
    left = d - rows[:, None] - cols + d.mean()
    ms_left = (left**2).sum() / (n - 1) / (k - 1)
    total = ms_rows + ms_cols - ms_left
    degrees = total**2 / (
        ms_rows**2 / (n - 1) + ms_cols**2 / (k - 1) + ms_left**2 / (n - 1) / (k - 1)
    )
    half = t_quantile(degrees) * math.sqrt(total / n / k)
    found = crossed([Task.of(columns(d))], normal(d))
    assert found is not None and found.lo is not None and found.hi is not None
    assert (found.value, found.seeds) == (pytest.approx(d.mean()), k)
    assert found.hi - found.value == pytest.approx(half)
    assert found.value - found.lo == pytest.approx(half)


def test_clusters_and_tasks() -> None:
    """Four items that always change together are one cluster: as one item with their mean. The
    variances of items and of a run by itself are those of a mean of independent clusters."""
    rng = np.random.default_rng(1)
    d = rng.standard_normal((20, 3))
    alone = crossed([Task.of(columns(d))], normal(d))
    four = np.repeat(d, 4, axis=0)
    together = Task.of(columns(four, [f"passage {i // 4}" for i in range(80)]))
    assert crossed([together], normal(d)) == pytest.approx(alone)
    one = Task.of(columns(d))
    assert one.items == pytest.approx(d.mean(1).var(ddof=1) / 20)
    assert one.own_variance(0) == pytest.approx(d[:, 0].var(ddof=1) / 20)
    assert one.degrees == pytest.approx(19)


@pytest.mark.parametrize(
    ("seeds", "item", "seed", "both", "least", "most"),
    [
        (2, 1.0, 0.1, 1.0, 0.93, 0.985),
        (3, 1.0, 0.3, 1.0, 0.925, 0.97),
        (3, 1.0, 0.1, 0.3, 0.93, 0.97),
        (5, 1.0, 0.1, 1.0, 0.925, 0.97),
        (5, 0.3, 0.05, 1.0, 0.94, 0.985),
    ],
)
def test_the_interval_covers(
    seeds: int, item: float, seed: float, both: float, least: float, most: float
) -> None:
    """60 items, standard deviations of items, seeds and both. Of 600 draws two standard errors are
    .018. It is shorter than spread and items added, which cover 97 % and more."""
    rng, n = np.random.default_rng(2), 60
    covered, width, added = 0, 0.0, 0.0
    for _ in range(600):
        d = item * rng.standard_normal((n, 1)) + seed * rng.standard_normal(seeds)
        d = d + both * rng.standard_normal((n, seeds))
        found, plain = crossed([Task.of(columns(d))], normal(d)), over_seeds(normal(d))
        assert found is not None and found.lo is not None and found.hi is not None
        assert plain is not None and plain.lo is not None and plain.hi is not None
        covered += found.lo <= 0 <= found.hi
        width, added = width + found.hi - found.lo, added + plain.hi - plain.lo
    assert least <= covered / 600 <= most
    assert width < 0.9 * added


def test_a_run_with_hardly_a_change_speaks_for_itself() -> None:
    """Four of 60 items changed in one run: its score interval is to be kept, not a variance of four
    items. A long own interval stretches this one: as long as 1.96 standard errors, no stretch."""
    rng = np.random.default_rng(3)
    d = (rng.random((60, 3)) < 0.3).astype(float)
    few = d.copy()
    few[:, 1] = np.arange(60) < 4
    assert crossed([Task.of(columns(few))], normal(few)) is None
    alike = np.full((60, 3), 0.5)
    assert crossed([Task.of(columns(alike))], normal(alike)) is None  # nothing varies
    plain = crossed([Task.of(columns(d))], normal(d))
    longer = [(v, v - 2 * (v - lo), hi) for v, lo, hi in normal(d)]
    stretched = crossed([Task.of(columns(d))], longer)
    assert plain is not None and stretched is not None
    assert plain.lo is not None and stretched.lo is not None
    assert stretched.value - stretched.lo == pytest.approx(2 * (plain.value - plain.lo))
    assert stretched.hi == pytest.approx(plain.hi)


def run(folder: Path, seed: int, d: np.ndarray, *, said: float | None = None) -> RunRecord:
    """A run of two tasks (a share, and bits per byte with weights), its items beside its record."""
    n, path = len(d), folder / f"s{seed}"
    path.mkdir(parents=True)
    weights = 1.0 + np.arange(n) % 3
    table: dict[str, list[object]] = {
        "task": ["a"] * n + ["prose"] * n,
        "item": [f"{i}" for i in range(2 * n)],
        "half": ["selection", "report"] * n,
        "cluster": [None] * 2 * n,
        "weight": [1.0] * n + weights.tolist(),
        "base": [0.5] * 2 * n,
        "tuned": [*(0.5 + d), *(0.5 - d)],
    }
    pq.write_table(pa.table(table), path / "retention_items.parquet")

    def suite(part: np.ndarray) -> SuiteVerdict:
        mean = float(part.mean()) if said is None else said
        half = 1.96 * float(part.std(ddof=1)) / math.sqrt(len(part))
        return SuiteVerdict(mean, mean - half, mean + half, 0.1, "retained", tasks=["a"])

    mean = -float(np.average(d, weights=weights))
    prose = RetentionRow(
        "prose", "bits_per_byte", False, n=n, delta=mean, lo=mean - 0.3, hi=mean + 0.3, epsilon=0.5
    )
    task = TaskQuality("loglik", True, 0, 1, 100, 1, 0.9, 1.1)
    record = RunRecord(
        f"r{seed}", status="FINISHED", task=task, suite_verdict=suite(d), retention=[prose],
        halves={"selection": HalfResult(task, suite(d[::2]))}, config={"seed": seed},
    )  # fmt: skip
    record.config["update"] = {"name": "lora"}
    return RunRecord.load(record.save(path / "record.json"))


@pytest.fixture
def d() -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.standard_normal((40, 1)) + rng.standard_normal((40, 3))


def test_items_beside_the_records_are_read_and_halved(tmp_path: Path, d: np.ndarray) -> None:
    runs = [run(tmp_path, seed, d[:, seed]) for seed in range(3)]
    (group,) = study(runs).groups
    for part, rows in (("all", d), ("selection", d[::2])):
        kept = group_stats(group, part).kept  # type: ignore[arg-type]
        plain = over_seeds(normal(rows))
        assert kept is not None and plain is not None and kept.lo is not None
        assert plain.lo is not None
        expected = crossed([Task.of(columns(rows))], normal(rows))
        assert expected is not None
        assert (kept.value, kept.lo) == pytest.approx((expected.value, expected.lo))
        assert kept.lo > plain.lo
    prose = task_over_seeds("prose", runs)
    assert prose is not None and prose.lo is not None
    weights = 1.0 + np.arange(40) % 3
    assert prose.value == pytest.approx(float(np.average(d.mean(1), weights=weights)))
    assert list(benchmark_items(runs[0])) == ["a", "prose"]


@pytest.mark.parametrize("lacking", ["file", "same items", "same means", "whole file"])
def test_without_common_items_the_runs_intervals_are_added(
    tmp_path: Path, d: np.ndarray, lacking: str
) -> None:
    """One run without its items, with other items, with numbers that its items do not give (they
    were not drawn alike), or with a damaged file: as without any items."""
    runs = [run(tmp_path, seed, d[:, seed]) for seed in range(2)]
    other = 0.0 if lacking == "same means" else None
    runs.append(run(tmp_path, 2, d[: 30 if lacking == "same items" else 40, 2], said=other))
    path = Path(runs[2].folder) / "retention_items.parquet"
    if lacking == "file":
        path.unlink()
    if lacking == "whole file":
        path.write_bytes(path.read_bytes()[:-20])
    suites = [r.suite_verdict for r in runs]
    parts = [(s.delta or 0.0, s.lo, s.hi) for s in suites if s is not None]
    assert over_items_and_seeds(runs, parts, ["a"]) == over_seeds(parts)


def test_where_a_record_lies_is_not_written_into_it(tmp_path: Path, d: np.ndarray) -> None:
    record = run(tmp_path, 0, d[:, 0])
    assert record.folder == str(tmp_path / "s0")
    assert "folder" not in record.to_json()
    assert RunRecord.from_json(record.to_json()).folder == ""
