"""Verdicts of several tasks and of their mean, and the refusal to compare what differs."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from myosotis.records.schema import RetentionRow, RunRecord, SuiteVerdict
from myosotis.records.verdict import Verdict
from myosotis.retention.benchmarks.scores import TaskScores
from myosotis.retention.budget import Budget
from myosotis.retention.compare import compare, reachable_verdicts
from myosotis.retention.statistics import intervals
from myosotis.retention.statistics.multiple_testing import items_to_settle, judge
from myosotis.retention.statistics.paired import holm, mean_clusters, paired
from myosotis.utils.errors import DataError


def measured(
    scores: dict[str, np.ndarray],
    metric: str = "acc",
    *,
    higher_is_better: bool = True,
    accuracy_like: bool = True,
    **given: Any,
) -> TaskScores:
    """One task of one measurement; without `gold`, `logp` and `offsets` it has no choices."""
    n = len(scores[metric])
    return TaskScores(
        task="task", metric=metric, higher_is_better=higher_is_better, accuracy_like=accuracy_like,
        scores=scores, choice=np.full(n, -1),
        **{
            "chance": None, "items_of": 10_000, "note": "", "identity": {}, "aggregates": {},
            "items": [f"item {i}" for i in range(n)], "clusters": [None] * n,
            "halves": ["selection", "report"] * (n // 2) + ["selection"] * (n % 2),
            "weights": np.ones(n), "gold": np.full(n, -1), "logp": np.zeros(0),
            "lengths": np.zeros(0), "offsets": np.zeros(n + 1, int), **given,
        },
    )  # fmt: skip


def accuracy(n: int, right: int, lost: int = 0, gained: int = 0) -> tuple[TaskScores, TaskScores]:
    """Base right on the first `right` of `n` items; the tuned model loses and gains some."""
    base = (np.arange(n) < right).astype(float)
    tuned = base.copy()
    tuned[:lost] = 0
    tuned[n - gained :] = 1
    return measured({"acc": base}), measured({"acc": tuned})


def both(
    **tasks: tuple[TaskScores, TaskScores],
) -> tuple[dict[str, TaskScores], dict[str, TaskScores]]:
    return {k: v[0] for k, v in tasks.items()}, {k: v[1] for k, v in tasks.items()}


def test_one_row_by_hand() -> None:
    """500 items, 250 right, 30 lost and 10 gained: 50 % to 46 %, budget 2.5 pp.

    d has mean -.04 and variance (40/500 - .0016) * 500/499 = .0785571; SE = .0125346;
    McNemar's mid-p on 30:10: the exact .002221 less 40-choose-10 / 2^40 = .000771."""
    found = compare(*both(piqa=accuracy(500, 250, lost=30, gained=10)))
    (row,) = found.rows
    assert (row.task, row.n, row.items_of, row.metric) == ("piqa", 500, 10_000, "acc")
    assert (row.base, row.tuned, row.delta) == pytest.approx((0.5, 0.46, -0.04))
    assert (row.epsilon, row.se) == pytest.approx((0.025, 0.0125346), abs=1e-6)
    assert row.mde == pytest.approx(2.801585 * row.se)
    assert (row.right_to_wrong, row.wrong_to_right) == (30, 10)
    assert row.p_mcnemar == row.p_holm == pytest.approx(0.001450, abs=1e-5)
    assert row.lo < -row.epsilon < row.hi < 0
    assert row.verdict == "slipped"
    # Variance an item .0785571, with 50 items of .05: (500 * .0785571 + 2.5) / 550 = .0759610;
    # 7.848879 * that / .025^2 = 954 were nothing lost, / .015^2 = 2,650 were the loss really 4 pp.
    assert (row.needed_items, row.needed_items_most) == (954, 2650)
    assert found.suite is not None
    assert (found.suite.lo, found.suite.hi) == pytest.approx((row.lo, row.hi))


@pytest.mark.parametrize(
    ("lost", "gained", "expected"),
    [
        (0, 0, "retained"),
        (10, 12, "retained"),
        (100, 10, "forgotten"),
        (30, 10, "slipped"),
        (50, 40, "inconclusive"),
    ],
)
def test_the_four_verdicts(lost: int, gained: int, expected: str) -> None:
    (row,), suite = compare(*both(task=accuracy(500, 250, lost, gained)))
    assert row.verdict == expected
    assert suite is not None
    assert suite.verdict == expected
    for part in (row, suite):
        open_items = (part.needed_items, part.needed_items_most)
        assert (open_items == (None, None)) == (expected in ("retained", "forgotten"))


@pytest.mark.parametrize(("n", "lost"), [(5, 0), (5, 5), (20, 0), (20, 20), (29, 29)])
def test_a_tiny_sample_is_never_settled(n: int, lost: int) -> None:
    for budget in (0.0, 0.05, 0.9):
        (row,), suite = compare(*both(task=accuracy(n, n, lost)), Budget(budget))
        assert row.verdict == "inconclusive"
        assert "Fewer than 30" in row.note
        assert suite is not None
        assert suite.verdict == "inconclusive"


def test_a_task_with_a_budget_of_its_own_is_judged_beside_the_mean() -> None:
    """30 of 1,000 lost on one of two tasks: -3 pp there, -1.5 pp in the mean.

    Budgets of 1 % of .5 there and 10 % of .5 elsewhere: .005 and .05, in the mean .0275. The mean
    is inside; the task is not, and the worst verdict is that of the whole.
    """
    tasks = both(near=accuracy(1000, 500, lost=30), far=accuracy(1000, 500))
    rows, suite = compare(*tasks, Budget.of({"near": 0.01, "others": 0.1}, "retained"))
    assert suite is not None
    assert [row.epsilon for row in rows] == pytest.approx([0.005, 0.05])
    assert [row.verdict for row in rows] == ["forgotten", "retained"]
    assert suite.epsilon == pytest.approx(0.0275)
    assert suite.lo > -suite.epsilon
    assert suite.verdict == "forgotten"
    assert "The mean alone is retained" in suite.note and "near" in suite.note
    _, alone = compare(*tasks, Budget(0.055))
    assert alone is not None
    assert (alone.verdict, alone.epsilon, alone.note) == ("retained", pytest.approx(0.0275), "")
    _, kept = compare(*tasks, Budget.of({"far": 0.01, "others": 0.1}, "retained"))
    assert kept is not None and kept.verdict == "retained", "only tasks that are named count alone"
    found = reachable_verdicts(tasks[0], Budget.of({"near": 0.01, "others": 0.1}, "retained"))
    assert [r.epsilon for r in found] == pytest.approx([0.005, 0.05, 0.0275])


def test_rows_are_the_run_records_rows() -> None:
    """A comparison is made of the record's own rows: what is compared is what is kept."""
    (row,), suite = compare(*both(task=accuracy(50, 25)))
    assert isinstance(row, RetentionRow) and isinstance(suite, SuiteVerdict)
    assert suite.tasks == ["task"]
    kept = RunRecord("r", retention=[row], suite_verdict=suite)
    assert RunRecord.from_json(kept.to_json()) == kept


def test_the_suite_is_the_mean_of_the_accuracy_like_tasks() -> None:
    """-10 pp and +2 pp: mean -4 pp of a base of 60 %. Equal halves of a mean of two have, of tasks
    with errors s and t, the error sqrt(s^2 + t^2) / 2; bits per byte stand apart."""
    rng = np.random.default_rng(0)
    bits = rng.uniform(0.8, 1.2, 100)
    prose = [
        measured({"bpb": b}, metric="bpb", higher_is_better=False, accuracy_like=False)
        for b in (bits, bits + 0.5 + 0.1 * rng.standard_normal(100))
    ]
    rows, suite = compare(
        *both(
            one=accuracy(200, 100, lost=24, gained=4),
            two=accuracy(400, 280, lost=4, gained=12),
            prose=(prose[0], prose[1]),
        )
    )
    assert suite is not None
    assert suite.tasks == ["one", "two"]
    assert (suite.base, suite.delta) == pytest.approx((0.6, (-0.1 + 0.02) / 2))
    assert suite.epsilon == pytest.approx(0.03)
    assert suite.mde == pytest.approx(2.801585 * np.hypot(rows[0].se, rows[1].se) / 2)
    below = np.hypot(rows[0].delta - rows[0].lo, rows[1].delta - rows[1].lo) / 2
    assert suite.lo == pytest.approx(suite.delta - below)
    assert rows[2].verdict == "forgotten"
    assert rows[2].delta == pytest.approx(0.5, abs=0.05)
    assert rows[2].p_mcnemar is None
    assert rows[2].right_to_wrong is None


def test_without_an_accuracy_like_task_there_is_no_suite() -> None:
    text = measured({"bpb": np.linspace(1, 2, 40)}, metric="bpb", accuracy_like=False)
    assert compare({"prose": text}, {"prose": text}).suite is None


def test_a_suite_without_any_change_is_not_a_point() -> None:
    """3 tasks of 200 items, none changed: each end is .018845 / sqrt(3) away, by MOVER."""
    _, suite = compare(*both(**{name: accuracy(200, 100) for name in "abc"}))
    assert suite is not None
    assert (suite.lo, suite.hi) == pytest.approx((-0.010880, 0.010880), abs=1e-6)


def test_the_suites_interval_covers() -> None:
    """Three tasks of 200 items, 10, 5 and 1 % discordant, losing 2, 0 and 1 points: mean -1 pp."""
    rng, missed = np.random.default_rng(0), 0
    changes = ((0.04, 0.06), (0.025, 0.025), (0.0, 0.01))
    for _ in range(600):
        pairs = {}
        for name, (gain, loss) in zip("abc", changes, strict=True):
            u = rng.random(200)
            base, tuned = np.where(u < gain, 0.0, 1.0), np.where(u > 1 - loss, 0.0, 1.0)
            pairs[name] = measured({"acc": base}), measured({"acc": tuned})
        _, suite = compare(*both(**pairs))
        assert suite is not None
        missed += not suite.lo <= -0.01 <= suite.hi
    assert 0.03 <= missed / 600 <= 0.07


def test_items_are_paired_by_their_ids() -> None:
    base, tuned = accuracy(100, 50, lost=10)
    order = np.random.default_rng(0).permutation(100)
    shuffled = measured({"acc": tuned.scores["acc"][order]}, items=[tuned.items[i] for i in order])
    assert compare({"t": base}, {"t": shuffled}) == compare({"t": base}, {"t": tuned})


def test_what_was_not_measured_alike_is_not_compared() -> None:
    base, tuned = accuracy(100, 50)
    with pytest.raises(DataError, match="Only one of the two models was measured on: boolq, piqa"):
        compare({"piqa": base}, {"boolq": tuned})
    other = dataclasses.replace(tuned, metric="acc_norm", scores={"acc_norm": tuned.scores["acc"]})
    with pytest.raises(DataError, match="metric is 'acc' for the base, 'acc_norm'"):
        compare({"piqa": base}, {"piqa": other})
    other = dataclasses.replace(tuned, items=[f"other {i}" for i in range(100)])
    with pytest.raises(DataError, match=r"same items \(100 only of the base, 100 only"):
        compare({"piqa": base}, {"piqa": other})
    other = dataclasses.replace(tuned, items=["same"] * 100)
    with pytest.raises(DataError, match="occurs twice"):
        compare({"piqa": base}, {"piqa": other})


def test_notes_say_what_a_number_cannot() -> None:
    """A base at chance; the task's own note; clusters."""
    base, tuned = accuracy(200, 105)
    for side in (base, tuned):
        side.chance, side.note = 0.5, "Validation split."
        side.clusters = [f"passage {i // 4}" for i in range(200)]
    (row,), _ = compare({"boolq": base}, {"boolq": tuned})
    assert row.note.startswith("Validation split.")
    assert "within noise of chance" in row.note
    assert "200 items share 50 passages" in row.note


def of_chance(pair: tuple[TaskScores, TaskScores], chance: float) -> tuple[TaskScores, TaskScores]:
    for side in pair:
        side.chance = chance
    return pair


def test_a_task_whose_base_is_at_chance_is_out_of_the_mean() -> None:
    """Four choices, 300 items: chance .25, and 1.96 * sqrt(.25 * .75 / 300) = .0490, so that 89
    right (.2967) are not above it and 90 (.3000) are. It "loses" 60 of its guesses: in the
    mean that would be 10 points, beyond any budget. What the base knows lost nothing."""
    assert of_chance(accuracy(300, 89), 0.25)[0].at_chance
    assert not of_chance(accuracy(300, 90), 0.25)[0].at_chance
    guessed = of_chance(accuracy(300, 80, lost=60), 0.25)
    known = of_chance(accuracy(300, 200), 0.25)
    tasks = both(guessed=guessed, known=known)
    (row, other), suite = compare(*tasks)
    assert suite is not None
    assert (suite.tasks, suite.delta, suite.verdict) == (["known"], 0.0, "retained")
    assert row.verdict == "forgotten" and "is not in the mean" in row.note
    assert "chance" not in other.note
    assert suite.base == pytest.approx(2 / 3)
    (reachable,) = reachable_verdicts(tasks[0])
    assert reachable.task == "known"
    _, own = compare(*tasks, Budget.of({"guessed": 0.05}, "retained"))
    assert own is not None and own.verdict == "forgotten", "unless a budget of its own asks for it"


def test_the_halves_ask_all_items_whether_the_base_is_at_chance() -> None:
    """110 of 300 right, all on even items: at chance on the odd half alone, not on all."""
    base = measured({"acc": ((np.arange(300) % 2 == 0) & (np.arange(300) < 220)).astype(float)})
    base.chance = 0.25
    half = base.half("report")
    assert half.mean == 0 and half.whole == (pytest.approx(110 / 300), 300)
    assert not half.at_chance and not half.taking(half.items[:5]).at_chance


def test_where_no_task_is_above_chance_the_mean_stands_and_says_so() -> None:
    (row,), suite = compare(*both(guessed=of_chance(accuracy(300, 80), 0.25)))
    assert suite is not None and suite.tasks == ["guessed"]
    assert row.note == (
        "The base is within noise of chance: this task can hardly show a loss, "
        "as no other here can."
    )
    assert not of_chance(accuracy(29, 0), 0.25)[0].at_chance, "of so few items nothing is said"


def test_few_clusters_get_no_verdict() -> None:
    """200 items of 7 subjects, all lost: no verdict, though the interval is far beyond any budget;
    8 subjects of 25 items have one. A note says why."""
    for subjects, expected in ((7, "inconclusive"), (8, "forgotten")):
        base, tuned = accuracy(200, 200, lost=180)
        for side in (base, tuned):
            side.clusters = [f"subject {i % subjects}" for i in range(200)]
        found = compare({"t": base}, {"t": tuned})
        (row,) = found.rows
        assert found.suite is not None
        assert (row.verdict, found.suite.verdict) == (expected, expected)
        for note in (row.note, found.suite.note):
            assert ("worth 7.0 of equal size" in note) == (subjects == 7)


def test_a_task_of_few_clusters_beside_a_large_one() -> None:
    """The mean's effective clusters go by what each task makes uncertain: of 5 and 500,
    (v1 + v2)^2 / (v1^2 / 5 + v2^2 / 500); for v1 = v2 that is 4 / (.2 + .002) = 19.8."""
    few = paired(np.zeros(8), np.arange(8.0))
    one = dataclasses.replace(few, se=0.1, effective_clusters=5.0)
    other = dataclasses.replace(few, se=0.1, effective_clusters=500.0)
    assert mean_clusters([one, other]) == pytest.approx(4 / 0.202)
    assert mean_clusters([one]) == pytest.approx(5)


def test_mcnemar_of_clusters_is_the_test_of_their_interval() -> None:
    """20 whole passages of 10 items, 2 of which are lost: 20 items to none, as single items a p of
    2^-20, but only 2 passages of 20 have changed."""
    base, tuned = accuracy(200, 200, lost=20)
    (alone,), _ = compare({"boolq": base}, {"boolq": tuned})
    for side in (base, tuned):
        side.clusters = [f"passage {i // 10}" for i in range(200)]
    (row,), _ = compare({"boolq": base}, {"boolq": tuned})
    assert alone.p_mcnemar == pytest.approx(2**-20)
    assert row.p_mcnemar is not None and row.lo is not None and row.hi is not None
    assert row.p_mcnemar > 0.05 and row.lo < 0 < row.hi


def test_holm_may_withhold_a_verdict_and_says_so() -> None:
    """One task settled by its own 95 % interval, and four that are open: it must meet 99 %."""
    near = accuracy(500, 250, lost=11, gained=11)
    alone = compare(*both(near=near), Budget(0.04)).rows[0]
    assert alone.verdict == "retained"  # lo = -.0198 > -.02; at 99 % it would be about -.026
    together = compare(
        *both(near=near, **{name: accuracy(500, 250, 60, 60) for name in "abcd"}), Budget(0.04)
    ).rows[0]
    assert together.lo == alone.lo
    assert together.verdict == "inconclusive"
    assert "This interval alone would say retained" in together.note


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_judging_by_intervals_is_holm_on_the_tests(seed: int, tasks: int) -> None:
    """With Student's t: settled against the budget exactly where Holm's adjusted p of "the gain is
    -epsilon" is below .05, slipped where that of "no change" is and the loss is real."""
    rng = np.random.default_rng(seed)
    epsilon = 0.1
    samples = [rng.normal(rng.uniform(-0.3, 0.1), 1.0, 400) for _ in range(tasks)]
    zeros = np.zeros(400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "FEWEST_CLUSTERS", 1000)  # Student's t alone
        found = judge(
            [lambda level, d=d: paired(zeros, d, level=level) for d in samples], [epsilon] * tasks
        )
    budget = holm([stats.ttest_1samp(d, -epsilon).pvalue for d in samples])
    change = holm([stats.ttest_1samp(d, 0).pvalue for d in samples])
    for d, judged, settled, changed in zip(samples, found, budget, change, strict=True):
        if settled <= 0.05:
            expected = Verdict.RETAINED if d.mean() > -epsilon else Verdict.FORGOTTEN
        else:
            expected = Verdict.SLIPPED if changed <= 0.05 and d.mean() < 0 else Verdict.INCONCLUSIVE
        assert judged.verdict == expected


@pytest.mark.parametrize("loss", [0.0, 0.5, 1.0, 2.0])
def test_planted_losses(loss: float) -> None:
    """Losses of 0, 0.5, 1 and 2 times the budget, on 4 tasks of 1,000 items, 10 % discordant.

    Wrong verdicts ("forgotten" within the budget, "retained" beyond it, "slipped" without a loss)
    on any of the four tasks stay within 5 % and two standard errors of 300 draws (7.5 %)."""
    rng = np.random.default_rng(0)
    epsilon = 0.05 * 0.6
    change = np.array([0.10 - loss * epsilon, 0.10 + loss * epsilon]) / 2  # gained, lost
    wrong = right = 0
    for _ in range(300):
        ats = []
        for _ in range(4):
            u = rng.random(1000)
            base, tuned = np.where(u < change[0], 0.0, 1.0), np.where(u > 1 - change[1], 0.0, 1.0)
            ats.append(partial(lambda b, t, level: paired(b, t, level=level), base, tuned))
        said = [judged.verdict for judged in judge(ats, [epsilon] * 4)]
        wrong += (
            (loss <= 1 and "forgotten" in said)
            or (loss >= 1 and "retained" in said)
            or (loss == 0 and "slipped" in said)
        )
        right += sum(v == ("forgotten" if loss > 1 else "retained") for v in said) / 4
    assert wrong / 300 <= 0.075
    if loss in (0.0, 2.0):  # the distance is 3 pp, SE 1 pp; Holm's first step is z = 2.5
        assert right / 300 > 0.6


def test_items_to_settle_settle() -> None:
    """Twice as far needs a quarter; on the budget itself more than any number. One end is for no
    loss, which is the budget away from it."""
    near, far = (round(400 * (2.801585 * 0.015 / gap) ** 2) for gap in (0.01, 0.02))
    assert items_to_settle(400, 0.015, 0.01, 0.02) == (far, near)
    assert items_to_settle(400, 0.015, -0.02, 0.01) == (far, near)
    assert items_to_settle(400, 0.015, 0.0, 0.02) == (far, 10_000_000)
    assert items_to_settle(400, 0.015, 0.0, 0.0) is None


def test_items_to_settle_of_few_items_are_no_guess() -> None:
    """60 items, 8 % of which change sides, nothing lost, budget 2.25 points: the truth is 7.8489 *
    .08 / .0225^2 = 1,240. One number from the distance as measured went from under a fifth of it to
    ten times it and more; the end for "nothing lost" is within a factor of 2 in nine of ten."""
    rng, found, before = np.random.default_rng(0), [], []
    for _ in range(300):
        u = rng.random(60)
        p = paired(u < 0.04, u > 0.96)
        distance = 0.0225 + p.delta
        needed = items_to_settle(60, p.se, distance, 0.0225, binary=True)
        assert needed is not None
        found.append(needed.fewest if abs(distance) < 0.0225 else needed.most)
        before.append(60 * (2.801585 * p.se / distance) ** 2)
    low, high = np.quantile(found, [0.05, 0.95])
    assert 620 < low < high < 2480
    low, high = np.quantile(before, [0.05, 0.95])
    assert low < 250 and high > 12_400


def test_what_the_items_can_show_beforehand() -> None:
    """A base of 50 % on 200 items of three tasks: budget 2.5 pp; the mean of three has the standard
    error of 600 items and is judged alone."""
    base = {name: accuracy(200, 100)[0] for name in "abc"}
    base["prose"] = measured({"bpb": np.ones(50)}, metric="bpb", accuracy_like=False)
    found = reachable_verdicts(base)
    assert [r.task for r in found] == ["a", "b", "c", "suite mean"]
    assert found[-1].items == 600
    assert found[-1].retained_items == round(7.848879 * 0.05 / 0.025**2)
    assert found[-1].discordant == 0.05
    assert found[0].retained_items > found[-1].retained_items  # adjusted for four tasks


def test_calibration_and_budget_above_chance_by_hand() -> None:
    """Two choices, z = (ln 3, 0), so p = (3/4, 1/4), once right and once wrong: confidence .75,
    accuracy .5, ECE .25. The tuned model has z = (0, ln 3) on the second item: right both times,
    ECE 1 - .75.

    Base .5, budget 5 %: .025, of .5 - .25 above chance a tenth.
    """
    z = np.log(3)
    about = dict(
        chance=0.25, gold=np.array([0, 1]), lengths=np.ones(4), offsets=np.array([0, 2, 4])
    )
    base = measured(
        {"acc": np.array([1.0, 0.0]), "p_gold": np.array([0.75, 0.25])},
        logp=np.array([z, 0, z, 0]),
        **about,
    )
    tuned = measured(
        {"acc": np.array([1.0, 1.0]), "p_gold": np.array([0.75, 0.75])},
        logp=np.array([z, 0, 0, z]),
        **about,
    )
    (row,) = compare({"a": base}, {"a": tuned}, Budget()).rows
    assert (row.ece_base, row.ece_tuned) == (pytest.approx(0.25), pytest.approx(0.25))
    assert row.epsilon_above_chance == pytest.approx(0.1)
    plain, _ = accuracy(40, 20)
    (row,) = compare({"a": plain}, {"a": plain}, Budget()).rows
    assert row.ece_base is None and row.epsilon_above_chance is None
