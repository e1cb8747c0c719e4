"""What curves and held-out scores say has gone wrong."""

from __future__ import annotations

import numpy as np
import pytest

from myosotis.data.kinds import Pairs
from myosotis.evaluation import results
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.records.schema import CurvePoint, TaskQuality
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.training import diagnostics
from myosotis.trees.tree import Tree


def curve(**values: list[float]) -> list[CurvePoint]:
    """Curves by name ("__" stands for "/"), a point every ten steps."""
    return [
        CurvePoint(10 * k, name.replace("__", "/"), value)
        for name, points in values.items()
        for k, value in enumerate(points)
    ]


def test_memorising() -> None:
    """Held-out 2.0, 1.5, 1.8 while training falls to 0.5."""
    found = diagnostics.memorises(curve(val__loss=[2.0, 1.5, 1.8], train__loss=[2.0, 1.0, 0.5]))
    assert "lowest at step 10" in found
    assert not diagnostics.memorises(curve(val__loss=[2.0, 1.5, 1.5], train__loss=[2, 1, 0.5]))
    assert not diagnostics.memorises(curve(val__loss=[2.0, 1.5, 1.8], train__loss=[2, 1.8, 1.7]))


def test_over_optimised() -> None:
    """Ranked best (80 %) at step 20, 70 % at the end; the margin went from about 1 to 3."""
    margins = [0.0, 0.5, 1.0, 1.6, 2.4, 3.0]
    accuracy = [0.5, 0.7, 0.8, 0.78, 0.74, 0.70]
    given = {"train__reward_margin": margins, "val__reward_accuracy": accuracy}
    found = diagnostics.over_optimised(curve(**given))
    assert "step 20 (80% right), 70% at the end" in found
    assert "from 1.00 to 3.00" in found
    still = {**given, "val__reward_accuracy": [0.5, 0.7, 0.75, 0.78, 0.8, 0.79]}
    assert not diagnostics.over_optimised(curve(**still))
    flat = {**given, "train__reward_margin": [0.0, 0.5, 1.0, 1.0, 1.0, 1.1]}
    assert not diagnostics.over_optimised(curve(**flat))


def row(metric: str, delta: float, half: float) -> TaskQuality:
    return TaskQuality(metric, delta=delta, lo=delta - half, hi=delta + half)


def test_the_chosen_answer_falls_while_the_margin_grows() -> None:
    """Only when both are sure."""
    task = TaskQuality("accuracy", extra=[row("margin", 5.0, 1.0), row("loglik", -0.3, 0.1)])
    assert "less likely (-0.300 nats per token, -0.400 to -0.200)" in diagnostics.chosen_falls(task)
    unsure = TaskQuality("accuracy", extra=[row("margin", 5.0, 1.0), row("loglik", -0.3, 0.4)])
    assert not diagnostics.chosen_falls(unsure)
    assert not diagnostics.chosen_falls(TaskQuality("loglik"))


def pairs(*sizes: tuple[int, int]) -> list[Tree]:
    return [Tree.fork([3, 4], [[5] + [6] * (a - 1), [7] + [8] * (b - 1)]) for a, b in sizes]


def test_a_rule_that_picks_by_length() -> None:
    """Longer in one of four, equal in one: the shorter is right in (2 + ½) of 4."""
    ((name, scores),) = Pairs().rules(pairs((3, 5), (3, 5), (4, 2), (3, 3))).items()
    assert name == "a rule that picks the shorter answer"
    assert scores.mean() == pytest.approx(2.5 / 4)


def test_length_bias_of_the_data() -> None:
    """27 of 36 chosen answers are longer: said; half of them: not."""
    (said,) = Pairs().warnings([(6, 3)] * 27 + [(2, 4)] * 9)
    assert said.startswith("in 75% of the pairs the chosen answer is the longer one (5 tokens")
    assert not Pairs().warnings([(6, 3)] * 18 + [(2, 4)] * 18)
    assert not Pairs().warnings([(6, 3)] * 10)


def sitting(margins: list[float], accuracy: list[float], **more: TaskScore) -> EvalResult:
    def of(name: str, values: list[float]) -> TaskScore:
        return TaskScore(name, True, "", np.array(values))

    found = {"accuracy": of("accuracy", accuracy), "margin": of("margin", margins)}
    return EvalResult(Measurement({}), found, rules=dict(more))


def test_reward_accuracy_and_the_rule_to_beat() -> None:
    """Margins −2, 1, 3, 0 become −1, 2, 2, 0: two gain, one loses, one ties: 2½ of 4."""
    rule = TaskScore("accuracy", True, "", np.array([1.0, 1.0, 0.0, 0.5]))
    base = sitting([-2, 1, 3, 0], [0, 1, 1, 0.5], **{"a rule": rule})
    tuned = sitting([-1, 2, 2, 0], [0, 1, 1, 0.5])
    for one in (base, tuned):  # a reward model has none, and its accuracy is this one
        one.quality["loglik"] = TaskScore("loglik", True, "", np.zeros(4))
    task = results.task_summary(base, tuned, "accuracy")
    rewards = {r.metric: r for r in task.extra}["reward_accuracy"]
    assert rewards.base == 0.5
    assert rewards.tuned == pytest.approx(2.5 / 4)
    (against,) = results.baselines(base, tuned)
    assert against.name == "a rule"
    assert against.value == pytest.approx(2.5 / 4)
    assert against.delta == pytest.approx(0.0)


def looks(lost: int, gained: int = 0, others: int = 1) -> dict[int, dict[str, list[float]]]:
    """Twenty prompts: of the watched reward 10 are right at first, 16 at each of `others` looks
    (the first is the best of equals) and then `lost` fewer and `gained` more; the reward that is
    learned from is .2, .5 and .9."""
    before = [1.0] * 16 + [0.0] * 4
    after = [0.0] * lost + [1.0] * (16 - lost + gained) + [0.0] * (4 - gained)
    found = {0: {"reward": [0.2] * 20, "watched": [1.0] * 10 + [0.0] * 10}}
    for k in range(others):
        found[10 * (k + 1)] = {"reward": [0.5] * 20, "watched": before}
    found[10 * (others + 1)] = {"reward": [0.9] * 20, "watched": after}
    return found


def test_a_reward_that_is_over_optimised() -> None:
    """The watched reward was highest at step 10, .8, and fell to .2, on 12 prompts of 20, while the
    one that is learned from went on from .5 to .9; the KL was 9 nats at the end."""
    kl = curve(train__kl=[0.0, 4.0, 9.0])
    found = diagnostics.hacked(kl, looks(12))
    assert "highest at step 10 (0.80) and fell to 0.20 (-0.60, " in found
    assert "on 20 held-out prompts" in found
    assert "from 0.50 to 0.90, 9.0 nats per answer" in found
    falls = looks(12)
    falls[20]["reward"] = [0.4] * 20
    assert not diagnostics.hacked(kl, falls)
    alone = {step: {"reward": one["watched"]} for step, one in looks(12).items()}
    assert not diagnostics.hacked(kl, alone)  # a single reward watches over nothing
    assert not diagnostics.memorises(curve(val__reward=[0.1, 0.2], val__loss=[1.0, 2.0],
                                           train__loss=[1.0, -9.0]))  # fmt: skip


def test_a_watched_reward_that_only_varies_is_no_warning() -> None:
    """Lost 3 and won 1, a fall of a tenth: by the score test z = 2/√4 = 1, below 1.96. A reward
    near 0 whose mean falls to minus a tenth of its spread is none, either."""
    kl = curve(train__kl=[0.0, 4.0, 9.0])
    assert not diagnostics.hacked(kl, looks(3, 1))
    draw = np.random.default_rng(0)
    noise = [draw.normal(0, 1, 64) for _ in range(2)]
    noise = [one - one.mean() + to for one, to in zip(noise, (0.01, -0.09), strict=True)]
    near = {step: {"reward": [float(step)] * 64, "watched": one.tolist()}
            for step, one in zip((0, 10), noise, strict=True)}  # fmt: skip
    assert not diagnostics.hacked(kl, near)


def test_the_highest_of_many_looks_has_to_fall_further() -> None:
    """Six lost and none won: z = 6/√6 = 2.45. Where 5 % are shared by two looks before, 2.24 is
    asked; by ten, 2.81."""
    kl = curve(train__kl=[0.0, 4.0, 9.0])
    assert diagnostics.hacked(kl, looks(6))
    assert not diagnostics.hacked(kl, looks(6, others=9))


def test_looks_at_other_prompts_are_not_compared() -> None:
    found = looks(12)
    found[20]["watched"] = found[20]["watched"][:10]
    assert not diagnostics.hacked(curve(train__kl=[0.0, 4.0, 9.0]), found)
