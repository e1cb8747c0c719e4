"""The confidence sequence: by hand, by simulation of 10,000 nulls, and what it saves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from myosotis.retention.statistics import sequential
from myosotis.retention.statistics.sequential import ConfidenceSequence, gains, log_capital, rounds

EPSILON = 0.0225  # 5 % of a base of .45
LOOKS = (30, 45, 68, 102, 153, 200)
NULLS = 10_000


def test_bound_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten items all lost, one stake of 1/2: the factor for "below m" is 1 + (1 + m) / (1 - m) / 2.

    Its tenth power is 40 (a one-sided 2.5 %) at 1.44613; x = (1 + m) / (1 - m) = .89226, so
    m = (x - 1) / (x + 1) = -.05694. From below nothing can be refuted but -1 itself.
    """
    monkeypatch.setattr(sequential, "STAKES", np.array([0.5]))
    evidence = ConfidenceSequence({"a": [None] * 10})
    for i in range(10):
        evidence.add("a", [i], [-1.0])
    lo, hi = evidence.interval()
    assert hi == pytest.approx(-0.05694, abs=1e-4)
    assert lo == pytest.approx(-1, abs=1e-6)


def test_clusters_are_staked_on_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clusters of 1, 1 and 4 items: typical size 2, so the largest counts 2 of them.

    The cluster of four, lost: S = -4 / 2 = -2, n = 4 / 2 = 2; at m = 0 the full stake wins
    (0 * 2 + 2) / (1 * 2) = 1. A lost single: (1 / 2) / 2 = 1/4.
    """
    names = ["p", "p", "p", "p", "q", None]
    evidence = ConfidenceSequence({"a": names})
    assert evidence.largest == 2
    evidence.add("a", [0, 1, 2, 3], [-1.0] * 4)
    evidence.add("a", [5], [-1.0])
    found = gains(0.0, np.array(evidence._sums), np.array(evidence._counts), evidence.largest)
    assert found == pytest.approx([1.0, 0.25])


def test_a_part_of_several_clusters_is_their_mean() -> None:
    """Two single items at once, one lost: S = -1 / 2, n = 1."""
    evidence = ConfidenceSequence({"a": [None] * 4})
    evidence.add("a", [0, 3], [-1.0, 0.0])
    assert (evidence._sums, evidence._counts) == ([-0.5], [1.0])


def test_nothing_is_known_before_the_first_item_and_scores_are_bounded() -> None:
    evidence = ConfidenceSequence({"a": [None] * 4})
    assert evidence.interval() == (-1.0, 1.0)
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        evidence.add("a", [0], [-1.5])


def test_interval_is_where_the_capital_crosses() -> None:
    """The bounds of `interval` are the means at which either capital is 40."""
    rng = np.random.default_rng(3)
    d = rng.choice([-1.0, 0.0, 1.0], 80, p=[0.2, 0.7, 0.1])
    evidence = ConfidenceSequence({"a": [None] * 80})
    for i, value in enumerate(d):
        evidence.add("a", [i], [value])
    lo, hi = evidence.interval()
    assert -1 < lo < d.mean() < hi < 1
    ones = np.ones(80)
    assert log_capital(gains(hi, d, ones, 1)) == pytest.approx(np.log(40), abs=1e-3)
    assert log_capital(gains(-lo, -d, ones, 1)) == pytest.approx(np.log(40), abs=1e-3)
    assert evidence.interval(0.99)[0] < lo and hi < evidence.interval(0.99)[1]


def discordant(rng: np.random.Generator, shape: tuple[int, ...], mean: float) -> np.ndarray:
    """0/1 scores, 10 % discordant, with a mean difference of `mean`."""
    u = rng.random(shape)
    return np.where(u < (0.1 - mean) / 2, -1.0, np.where(u < 0.1, 1.0, 0.0))


def false_alarms(sums: np.ndarray, counts: np.ndarray, largest: float, factors: int) -> float:
    """Share of nulls (mean = -EPSILON) called retained or forgotten at any look.

    `sums` and `counts` are (nulls, rounds * factors), in the units of `ConfidenceSequence`.
    """
    called = np.zeros(len(sums), bool)
    for look in LOOKS:
        s, n = sums[:, : look * factors], counts[:, : look * factors]
        for sign in (1, -1):
            called |= log_capital(gains(-sign * EPSILON, sign * s, n, largest)) >= np.log(40)
    return float(called.mean())


def test_type_one_error_of_single_items() -> None:
    d = discordant(np.random.default_rng(0), (NULLS, LOOKS[-1]), -EPSILON)
    assert 0.002 < false_alarms(d, np.ones_like(d), 1, 1) <= 0.05


def test_type_one_error_of_tasks_that_change_differently() -> None:
    """One task better by 2 points, two worse: only the mean is at the boundary."""
    rng, changes = np.random.default_rng(1), (0.02, -0.02, -3 * EPSILON)
    d = np.stack([discordant(rng, (NULLS, LOOKS[-1]), change) for change in changes], axis=-1)
    d = d.reshape(NULLS, -1)
    assert sum(changes) / 3 == pytest.approx(-EPSILON)
    assert 0.002 < false_alarms(d, np.ones_like(d), 1, 3) <= 0.05


def test_type_one_error_of_clusters_that_move_together() -> None:
    """Passages of 1 to 5 questions whose differences are all equal: as dependent as can be."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 6, (NULLS, LOOKS[-1])).astype(float)
    sums = sizes * discordant(rng, sizes.shape, -EPSILON)
    typical = 3.0
    assert false_alarms(sums / typical, sizes / typical, 5 / 3, 1) <= 0.05
    # Taken for single items, the same data would be called far too often.
    naive = np.repeat(sums / sizes, 3, axis=1)[:, : LOOKS[-1]]
    assert false_alarms(naive, np.ones_like(naive), 1, 1) > 0.05


def test_type_one_error_of_continuous_scores() -> None:
    """Differences spread over [-1, 1]: two draws from U-shaped distributions, mean -EPSILON."""
    rng = np.random.default_rng(4)
    base, tuned = (rng.beta(0.5, 0.5, (NULLS, LOOKS[-1])) for _ in range(2))
    d = (tuned - base) * (1 - EPSILON) - EPSILON
    assert 0.002 < false_alarms(d, np.ones_like(d), 1, 1) <= 0.05


def asked_of(mean: float, seed: int, items: int = 200, tasks: int = 3) -> tuple[str, float]:
    """The verdict on three tasks of 200 items, and the share of items it took."""
    d = discordant(np.random.default_rng(seed), (tasks, items), mean)
    evidence = ConfidenceSequence({str(t): [None] * items for t in range(tasks)})
    done = 0
    for look in LOOKS:
        for r in range(done, look):
            for t in range(tasks):
                evidence.add(str(t), [r], [d[t, r]])
        lo, hi = evidence.interval()
        done = look
        if lo > -EPSILON or hi < -EPSILON:
            return ("retained" if lo > -EPSILON else "forgotten"), look / items
    return "inconclusive", 1.0


def test_planted_damage_is_found_early() -> None:
    """A loss of four times the budget (9 points), 10 % discordant: all found, with under 3/5 of the
    items on average; nine in ten before the last look. Without damage nothing is called forgotten.
    """
    found = [asked_of(-4 * EPSILON, seed) for seed in range(30)]
    said, share = zip(*found, strict=True)
    assert Counter(said)["forgotten"] >= 29
    assert np.mean(share) < 0.6
    assert "forgotten" not in {asked_of(0.0, seed)[0] for seed in range(10)}


NAMES: list[str | None] = [*"aaaabbc", *[None] * 13]


def test_rounds_deal_every_item_once_and_clusters_whole() -> None:
    dealt = rounds({"few": NAMES, "many": [None] * 40}, seed=0)
    assert {len(of_task) for of_task in dealt.values()} == {16}  # a, b, c and 13 single items
    assert sorted(i for part in dealt["few"] for i in part) == list(range(20))
    assert sorted(i for part in dealt["many"] for i in part) == list(range(40))
    assert {len(part) for part in dealt["many"]} == {2, 3}
    assert any({0, 1, 2, 3} <= set(part) for part in dealt["few"])
    assert rounds({}, seed=0) == {}


def test_order_is_a_function_of_the_seed_and_not_of_sizes() -> None:
    names = {"few": NAMES}
    assert rounds(names, 5) == rounds(names, 5) != rounds(names, 6)
    # With another task beside it, a task's order stays.
    order = [i for part in rounds({**names, "x": [None] * 3}, 5)["few"] for i in part]
    assert order == [i for part in rounds(names, 5)["few"] for i in part]
    # The first of 16 clusters has 20 / 16 items on average; by first item it would be 34 / 20.
    first = [len(rounds(names, seed)["few"][0]) for seed in range(4000)]
    assert np.mean(first) == pytest.approx(1.25, abs=0.06)
