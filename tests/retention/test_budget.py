"""The budget in the metric's unit, what is inside it, and what a number of items can show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myosotis.records.verdict import MIN_ITEMS
from myosotis.report import beforehand
from myosotis.retention.budget import Budget, chance_corrected, detectable_effect
from myosotis.utils.errors import ConfigError


def test_epsilon_is_a_share_of_the_base_score() -> None:
    """5 % of an accuracy of .45 is 2.25 pp; of 1.2 bits a byte .06; of a score of -3 nats .15."""
    budget = Budget(0.05)
    assert budget.epsilon(0.45) == pytest.approx(0.0225)
    assert budget.epsilon(1.2) == pytest.approx(0.06)
    assert budget.epsilon(-3.0) == pytest.approx(0.15)


def test_chance_corrected() -> None:
    """.0225 of the .20 that a base of .45 has above a chance of .25 is 11.25 %."""
    assert chance_corrected(0.0225, 0.45, 0.25) == pytest.approx(0.1125)
    assert chance_corrected(0.0225, 0.24, 0.25) is None
    assert chance_corrected(0.0225, 0.45, None) is None


@pytest.mark.parametrize(
    ("verdict", "strict", "loose"),
    [("retained", 0, 0), ("forgotten", 3, 3), ("slipped", 4, 0), ("inconclusive", 4, 0)],
)
def test_the_gate(verdict: str, strict: int, loose: int) -> None:
    """3 for forgotten, 4 where that is open, 0 for inside, as docs/reference/cli.md has it."""
    assert Budget().exit_code(verdict) == strict
    assert Budget(accept="not_forgotten").exit_code(verdict) == loose
    assert Budget().accepts(verdict) == (strict == 0)


@pytest.mark.parametrize("fraction", [-0.01, 1.0, 5.0, float("nan")])
def test_a_budget_is_a_fraction(fraction: float) -> None:
    with pytest.raises(ConfigError, match=r"retention\.budget"):
        Budget(fraction)


def test_a_budget_by_task() -> None:
    """2 % of .5 where it is named, `others` elsewhere; without `others` the default of 5 %."""
    budget = Budget.of({"hellaswag": 0.02, "others": 0.1}, "retained")
    assert budget.epsilon(0.5, "hellaswag") == pytest.approx(0.01)
    assert budget.epsilon(0.5, "piqa") == pytest.approx(0.05)
    assert Budget.of({"hellaswag": 0.02}, "retained").epsilon(0.5) == pytest.approx(0.025)
    assert Budget.of(0.02, "retained") == Budget(0.02)
    with pytest.raises(ConfigError, match=r"retention\.budget=2"):
        Budget.of({"hellaswag": 2.0}, "retained")


@pytest.mark.parametrize("named", ["capitals", "capitals.jsonl", "of/mine/capitals.jsonl"])
def test_a_budget_for_a_benchmark_of_ones_own(named: str) -> None:
    """2 % of .5, whether the task is named or its file; the task is called by the file's name."""
    assert Budget.of({named: 0.02}, "retained").epsilon(0.5, "capitals") == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("mean", "own", "expected"),
    [
        ("retained", "retained", ("retained", [])),
        ("retained", "inconclusive", ("inconclusive", ["own"])),
        ("inconclusive", "slipped", ("slipped", ["own"])),
        ("slipped", "forgotten", ("forgotten", ["own"])),
        ("forgotten", "retained", ("forgotten", [])),
    ],
)
def test_the_worst_verdict_counts(mean: str, own: str, expected: tuple[str, list[str]]) -> None:
    budget = Budget.of({"own": 0.02}, "retained")
    assert budget.worst(mean, {"own": own, "another": "forgotten"}) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("forgotten", ("forgotten", ["prose"])),
        ("slipped", ("retained", [])),  # no budget of its own was asked for
    ],
)
def test_what_no_mean_speaks_for_counts_when_it_is_forgotten(
    said: str, expected: tuple[str, list[str]]
) -> None:
    tasks = {"prose": said, "piqa": "forgotten"}
    assert Budget().worst("retained", tasks, outside={"prose"}) == expected


def test_an_unknown_acceptance_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"retention\.accept"):
        Budget(accept="anything")  # pyright: ignore[reportArgumentType]


def test_reach_reference_points() -> None:
    """7.848879 * .1 / .02^2 = 1962 items for "retained" at 2 pp, / .03^2 = 872; with 500 items the
    smallest loss noticed is 2.801585 * sqrt(.1 / 500) = .03962. A plan assumes half of that
    discordance: 981 and 436 items."""
    assert detectable_effect("hellaswag", 500, 0.02).retained_items == 981
    assert detectable_effect("hellaswag", 500, 0.03).retained_items == 436
    found = detectable_effect("hellaswag", 500, 0.02, discordant=0.1)
    assert found.retained_items == 1962
    assert found.slipped_from == pytest.approx(0.03962, abs=1e-5)
    assert found.forgotten_from == pytest.approx(0.05962, abs=1e-5)
    assert "retained" not in found.verdicts
    assert "about 1,962 items" in beforehand.detectable(found)
    assert "If 10 % of the items change" in beforehand.detectable(found)
    assert "retained" in detectable_effect("hellaswag", 1962, 0.02, discordant=0.1).verdicts


def test_tasks_judged_together_reach_less() -> None:
    """Holm's first step over 3 tasks: z(1 - .05/6) = 2.39398; its square with .841621: 10.46911."""
    found = detectable_effect("piqa", 500, 0.02, tasks=3)
    assert found.retained_items == round(10.46911 * 0.05 / 0.0004)


def test_a_tiny_sample_reaches_no_verdict() -> None:
    found = detectable_effect("copa", MIN_ITEMS - 1, 0.5)
    assert found.verdicts == ("inconclusive",)
    assert "Too few" in beforehand.detectable(found)


@given(st.integers(1, 100_000), st.floats(0.0, 0.2), st.floats(0.01, 0.5), st.integers(1, 20))
def test_more_items_reach_no_less(items, epsilon, discordant, tasks) -> None:
    few = detectable_effect("t", items, epsilon, discordant=discordant, tasks=tasks)
    many = detectable_effect("t", 2 * items, epsilon, discordant=discordant, tasks=tasks)
    assert set(few.verdicts) <= set(many.verdicts)
    assert many.slipped_from < few.slipped_from
    assert beforehand.detectable(few)
