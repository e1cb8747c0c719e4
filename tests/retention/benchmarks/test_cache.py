"""The baseline cache: measured once, never for another key, never from a damaged file."""

from __future__ import annotations

import dataclasses
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from myosotis.retention.benchmarks.build import build
from myosotis.retention.benchmarks.cache import BaselineKey, cached, folder, measured
from myosotis.retention.benchmarks.measure import measure
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from tests.retention.small import benchmark_folder, byte_tokenizer, tiny_scorer

KEY = BaselineKey(
    model="m0",
    tokenizer="t0",
    task="hellaswag",
    version="1.0",
    data="wheel",
    items="i0",
    requests="r0",
    num_fewshot=0,
    template="none",
    dtype="float32",
    backend="dense",
    scorer="scorer 1",
)
OF: dict[str, Any] = {"model": "m0", "dtype": "float64", "backend": "dense"}


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    # Built before the cache moves: the index of lm-eval's names is kept there as well.
    locator = DataLocator(benchmark_folder(tmp_path / "data", 6))
    return build(["hellaswag", "arc_easy"], byte_tokenizer(), context_length=512, locator=locator)


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if "suite" in request.fixturenames:
        request.getfixturevalue("suite")
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "baselines"


class Compute:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Measurement:
        self.times += 1
        return Measurement({})


def test_no_forward_the_second_time(suite: Suite) -> None:
    scorer, advanced = tiny_scorer(), []
    first = measured(suite, scorer, **OF, advance=advanced.append)
    assert scorer.forwards > 0
    scorer.forwards = 0
    second = measured(suite, scorer, **OF, advance=advanced.append)
    assert scorer.forwards == 0
    assert sum(advanced) == 2 * len(suite.only(["hellaswag"]).request_trees.trees) + 2 * len(
        suite.only(["arc_easy"]).request_trees.trees
    )
    direct = measure(suite, scorer)
    for name, task in direct.tasks.items():
        assert np.allclose(task.primary, first[name].primary)
        assert np.array_equal(first[name].logp, second[name].logp)


def test_a_task_more_measures_only_that_task(suite: Suite) -> None:
    scorer = tiny_scorer()
    measured(suite.only(["hellaswag"]), scorer, **OF)
    alone, scorer.forwards = scorer.forwards, 0
    measured(suite, scorer, **OF)
    assert 0 < scorer.forwards < alone + 10
    scorer.forwards = 0
    measured(suite.only(["arc_easy"]), scorer, **OF)
    assert scorer.forwards == 0


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(BaselineKey)])
def test_any_changed_field_is_a_new_measurement(field: str) -> None:
    compute = Compute()
    cached(KEY, compute)
    cached(KEY, compute)
    assert compute.times == 1
    old = getattr(KEY, field)
    cached(
        dataclasses.replace(KEY, **{field: old + 1 if isinstance(old, int) else f"{old}x"}), compute
    )
    assert compute.times == 2


def test_the_key_holds_everything_of_the_issue() -> None:
    """Model, tokenizer, task version, data, items, few-shot, template, dtype, backend, scorer."""
    assert len(dataclasses.fields(BaselineKey)) == 12


@pytest.mark.parametrize("setting", [{"num_fewshot": 1}, {"items": 3}, {"seed": 9, "items": 3}])
def test_settings_of_a_suite_reach_the_key(
    suite: Suite, tmp_path: Path, setting: dict[str, Any]
) -> None:
    locator = DataLocator(tmp_path / "data")
    other = build(["arc_easy"], byte_tokenizer(), context_length=512, locator=locator, **setting)
    names = {BaselineKey.of(s, s["arc_easy"], **OF).name for s in (suite, other)}
    assert len(names) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_file_is_measured_again(suite: Suite, cache: Path, damage: str) -> None:
    part, scorer = suite.only(["arc_easy"]), tiny_scorer()
    good = measured(part, scorer, **OF)
    (file,) = cache.glob("*.scores")
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "other": b"not an archive",
        }[damage]
    )
    scorer.forwards = 0
    again = measured(part, scorer, **OF)
    assert scorer.forwards > 0
    assert np.array_equal(again["arc_easy"].logp, good["arc_easy"].logp)
    scorer.forwards = 0
    measured(part, scorer, **OF)
    assert scorer.forwards == 0


def _slow_compute(log: Path) -> Measurement:
    with log.open("a") as file:
        file.write("computed\n")
    time.sleep(0.5)
    return Measurement({})


def _in_process(log: Path) -> None:
    cached(KEY, lambda: _slow_compute(log))


def test_two_processes_compute_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_in_process, args=(log,)) for _ in range(3)]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
        assert process.exitcode == 0
    assert log.read_text() == "computed\n"


def test_two_threads_compute_once() -> None:
    compute = Compute()
    threads = [threading.Thread(target=cached, args=(KEY, compute)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compute.times == 1


def test_a_failed_measurement_leaves_nothing(cache: Path) -> None:
    def fail() -> Measurement:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cached(KEY, fail)
    assert list(cache.glob("*.scores")) == []
    compute = Compute()
    cached(KEY, compute)
    assert compute.times == 1


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "file" / "cache"))
    compute = Compute()
    cached(KEY, compute)
    cached(KEY, compute)
    assert compute.times == 2
    assert folder().name == "baselines"


def test_a_measurement_whose_selection_half_was_called_select_is_read(suite: Suite) -> None:
    """What earlier versions kept is not measured again: it has the same halves by today's names."""
    now = measure(suite.only(["arc_easy"]), tiny_scorer())
    former = {"selection": "select"}
    then = Measurement(
        {
            name: dataclasses.replace(task, halves=[former.get(half, half) for half in task.halves])
            for name, task in now.tasks.items()
        }
    )
    back = Measurement.from_bytes(then.to_bytes())
    assert "select" in then["arc_easy"].halves
    assert back["arc_easy"].halves == now["arc_easy"].halves
    assert back.half("selection")["arc_easy"].items == now.half("selection")["arc_easy"].items
