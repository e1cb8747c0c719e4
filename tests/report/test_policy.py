"""The section of rewards: what rounds of sampling left in a record, and in words."""

from __future__ import annotations

from myosotis.records.schema import CurvePoint, RunRecord
from myosotis.report import policy
from myosotis.report.curves import more_curves
from myosotis.report.scorecard import scorecard
from tests.report import made


def sampled(**changes: list[float]) -> RunRecord:
    """Ten steps: the reward rises from 0 to .9, by .1 a step, and the KL by 1 a step."""
    record = made.trial("lora", 16, 1e-4, 0)
    curves: dict[str, list[float]] = {
        "train/reward": [k / 10 for k in range(10)],
        "train/kl": [float(k) for k in range(10)],
        "train/truncated": [0.0] * 10,
        "train/alike": [0.1] * 10,
        "train/entropy": [3.0] * 10,
        "train/length": [12.0] * 10,
        "train/seconds/sampling": [6.0] * 10,
        "train/seconds/scoring": [1.0] * 10,
        "train/seconds/learning": [3.0] * 10,
        **{name.replace("__", "/"): values for name, values in changes.items()},
    }
    record.curves = [
        CurvePoint(k + 1, name, value)
        for name, values in curves.items()
        for k, value in enumerate(values)
    ] + [CurvePoint(0, "val/reward", 0.1), CurvePoint(0, "val/words", 20.0)]
    record.curves += [CurvePoint(10, "val/reward", 0.8), CurvePoint(10, "val/words", 19.0)]
    return record


def test_in_words() -> None:
    """A fifth of ten steps are two: .05 at the beginning and .85 at the end; KL 8.5."""
    section = policy.of_run(sampled())
    assert section is not None
    first, second = section["said"]
    assert "rose from 0.05 to 0.85" in first and "8.50 nats per answer" in first
    assert second == "Time went to: 60 % sampling, 10 % scoring, 30 % learning."
    titles = [panel["title"] for panel in section["panels"]]
    assert titles == ["Reward", "KL to the start", "Reward against KL", "Length", "Entropy"]


def test_what_went_wrong_is_said() -> None:
    wrong = sampled(train__truncated=[0.9] * 10, train__alike=[0.8] * 10)
    wrong.curves = [p for p in wrong.curves if (p.step, p.name) != (10, "val/words")]
    wrong.curves.append(CurvePoint(10, "val/words", 5.0))
    said = " ".join(policy.of_run(wrong)["said"])  # type: ignore[index]
    assert "90 % of the last answers were cut" in said
    assert "In 80 % of the last groups" in said
    assert "much shorter (20.0 to 5.00 words)" in said


def test_over_kl_instead_of_steps() -> None:
    """Held-out rewards of steps 0 and 10: the KL of step 10 is 9; step 0 is at the first one."""
    kl = [(float(step), step - 1.0) for step in range(1, 11)]
    assert policy.against(kl, [(0.0, 0.1), (10.0, 0.8)]) == [(0.0, 0.1), (9.0, 0.8)]
    assert policy.against([], [(0.0, 0.1)]) == []


def test_a_second_reward_has_a_curve_of_its_own() -> None:
    section = policy.of_run(sampled(train__reward_judge=[0.5] * 10))
    assert section is not None
    assert "Reward: judge" in [panel["title"] for panel in section["panels"]]


def test_a_reward_that_is_watched_is_drawn_over_kl_too() -> None:
    """Beside the one that is learned from: they part where it is over-optimised."""
    record = sampled(train__reward_judge=[0.5] * 10)
    for step, value in ((0, 0.6), (10, 0.2)):
        record.curves.append(CurvePoint(step, "val/reward_judge", value))
    section = policy.of_run(record)
    assert section is not None
    (panel,) = [one for one in section["panels"] if one["title"] == "Reward against KL"]
    assert "held-out prompts: judge" in str(panel)
    assert policy.against([(10.0, 9.0)], [(0.0, 0.6), (10.0, 0.2)]) == [(9.0, 0.2), (9.0, 0.6)]


def test_the_page_shows_it_once(tmp_path: object) -> None:
    """Not among the other curves, too; and no run that sampled nothing has the section."""
    from pathlib import Path

    record = sampled()
    assert not {panel["title"] for panel in more_curves(record)} & {"train/reward", "train/kl"}
    page = Path(str(tmp_path)) / "page.html"
    scorecard([record], page)
    text = page.read_text("utf-8")
    assert text.count("Reward against KL") >= 1 and 'id="policy"' in text
    assert policy.of_run(made.preferences()[0]) is None
