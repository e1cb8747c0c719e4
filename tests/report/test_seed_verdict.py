"""The verdict over seeds: what no mean speaks for counts in it, as it does for one run."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from myosotis.records.schema import HalfResult, RetentionRow, RunRecord, SuiteVerdict, TaskQuality
from myosotis.records.verdict import over_runs, with_tasks
from myosotis.report import decision
from myosotis.report.grouping import study
from myosotis.report.selection import choose, front, group_stats

from .kept import read

FIXED_SET = Path(__file__).parent / "fixed_set"  # 60 items of a fixed set: little is settled


def test_forgotten_prose_is_forgotten_over_seeds_too():
    """The published runs at rate 5e-3, each copied to three seeds: their mean accuracy alone would
    be retained or undecided; their prose is forgotten in every one."""
    at = [record for record in read(FIXED_SET) if record.config["optimizer"]["lr"] == 5e-3]
    assert len(at) == 3 and {r.suite_verdict.verdict for r in at if r.suite_verdict} == {
        "forgotten"
    }
    copies = []
    for record in at:
        for seed in (0, 1, 2):
            copied = copy.deepcopy(record)
            copied.config["seed"], copied.run_id = seed, f"{record.run_id}-{seed}"
            copies.append(copied)
    found = study(copies)
    assert [len(group.runs) for group in found.groups] == [3, 3, 3]
    for group in found.groups:
        for part in ("all", "selection", "report"):
            assert group_stats(group, part).verdict == "forgotten"
    choice = choose(found)
    assert choice.group is None
    assert decision.headline(found, choice) == (
        "None of 3 settings stayed within the retention budget."
    )


@pytest.mark.parametrize(
    ("pooled", "runs", "expected"),
    [
        ("retained", ["retained"] * 3, "retained"),
        ("retained", ["retained", "inconclusive", "retained"], "retained"),
        ("retained", ["inconclusive", "inconclusive", "retained"], "inconclusive"),
        ("inconclusive", ["retained"] * 3, "inconclusive"),
        ("retained", ["slipped", "retained"], "retained"),  # one of two is not most of them
        ("retained", ["forgotten", "retained"], "inconclusive"),
        ("retained", ["forgotten", "forgotten", "retained"], "forgotten"),
        ("inconclusive", ["forgotten", "slipped", "retained"], "slipped"),
    ],
)
def test_never_better_than_most_of_the_runs(pooled: str, runs: list[str], expected: str):
    assert over_runs(pooled, runs) == expected
    assert over_runs(pooled, runs[::-1]) == expected


def test_tasks_that_count_by_themselves():
    tasks = {"own": "inconclusive", "prose": "slipped", "text": "forgotten", "piqa": "forgotten"}
    assert with_tasks("retained", tasks, {"own"}, {"prose"}) == ("inconclusive", ["own"])
    assert with_tasks("retained", tasks, {"own"}, {"text"}) == ("forgotten", ["own", "text"])
    assert with_tasks("retained", tasks, set(), set()) == ("retained", [])


def run(
    name: str, seed: int, gain: float, kept: float, prose: float, half: float = 0.01,
    said: str = "retained", budget: float | dict[str, float] = 0.05,
) -> RunRecord:  # fmt: skip
    """A run of a mean with budget .03 and of prose, in bits per byte, with budget .05."""
    task = TaskQuality("loglik", True, 0, gain, 100, gain, gain - 0.01, gain + 0.01)
    suite = SuiteVerdict(kept, kept - half, kept + half, 0.03, said, tasks=["a"])
    row = RetentionRow(
        "prose", "bits_per_byte", False, n=100, delta=prose, lo=prose - 0.01, hi=prose + 0.01,
        epsilon=0.05, verdict="forgotten" if prose > 0.06 else "retained",
    )  # fmt: skip
    return RunRecord(
        f"{name}{seed}", f"{name}-s{seed}", status="FINISHED", task=task, suite_verdict=suite,
        retention=[row], halves={"selection": HalfResult(task, suite)},
        config={"seed": seed, "update": {"name": name}, "retention": {"budget": budget}},
    )  # fmt: skip


def stats(runs: list[RunRecord]):
    (group,) = study(runs).groups
    return group_stats(group)


def test_prose_over_seeds_is_judged_by_its_own_interval():
    """.08 in three seeds, ± .01 each: beyond .05 in all. At .02 the mean alone speaks."""
    assert stats([run("a", s, 1, 0, 0.08, said="forgotten") for s in (0, 1, 2)]).verdict == (
        "forgotten"
    )
    assert stats([run("a", s, 1, 0, 0.02) for s in (0, 1, 2)]).verdict == "retained"


def test_a_budget_of_its_own_counts_over_seeds():
    """.045 ± .01 in three equal seeds is a loss for sure and settled on neither side of .05; with a
    budget of its own that counts, and without one only a forgotten task outside the mean would."""
    runs = [run("a", s, 1, 0, 0.045) for s in (0, 1, 2)]
    assert stats(runs).verdict == "retained"
    for r in runs:
        r.config["retention"]["budget"] = {"benchmarks/prose.jsonl": 0.05, "others": 0.05}
    assert stats(runs).verdict == "slipped"


def test_prose_is_an_axis_of_the_trade_off():
    """`kind` learned less and kept as much of the mean, and lost .04 less of the prose."""

    def marks(prose: float) -> dict[str, str]:
        runs = [run("bold", s, 1.0, 0.0, 0.05) for s in (0, 1, 2)]
        runs += [run("kind", s, 0.5, 0.0, prose) for s in (0, 1, 2)]
        found = study(runs)
        return {g.method: front(found)[g.number] for g in found.groups}

    assert marks(0.01) == {"bold": "front", "kind": "front"}
    assert marks(0.05) == {"bold": "front", "kind": "behind"}
