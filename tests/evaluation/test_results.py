"""From two sittings to the rows and sentences of a record."""

from __future__ import annotations

import numpy as np
import pytest

from myosotis.evaluation import results
from myosotis.evaluation.evaluator import EvalResult, PromptedBaseline
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.records.schema import RunRecord
from myosotis.report import narrator
from myosotis.retention.benchmarks.scores import Measurement, TaskScores
from myosotis.retention.budget import Budget


def loglik(*scores: float) -> TaskScore:
    return TaskScore("loglik", True, "nats per token", np.array(scores))


def sitting(quality: TaskScore, *prompted: PromptedBaseline) -> EvalResult:
    return EvalResult(Measurement({}), {"loglik": quality}, prompted=prompted)


def test_the_tuned_model_against_the_base_with_examples_in_its_prompt() -> None:
    """Base −3, prompted −2 on average, tuned −1.1: the prompt is beaten by 0.9, not by 1.9."""
    prompted = PromptedBaseline("solved", 3, 1, {"loglik": loglik(*[-1.9, -2.1] * 20)})
    base = sitting(loglik(*[-3.0] * 40), prompted)
    tuned = sitting(loglik(*[-1.0, -1.2] * 20))
    (baseline,) = results.baselines(base, tuned)
    assert baseline.value == pytest.approx(-2.0)
    assert baseline.delta == pytest.approx(0.9)
    assert baseline.n == 40
    assert baseline.gained == pytest.approx(1.0), "over the base itself"
    assert "3 solved examples" in baseline.name
    assert baseline.note.startswith("1 where")
    record = RunRecord("r", task=results.task_summary(base, tuned, "loglik"))
    record.baselines = [baseline]
    said = narrator.sentences(record)
    assert said[0].startswith("Learned its task")
    assert "It is better than the base with 3 solved examples" in said[1]
    (worse,) = results.baselines(base, sitting(loglik(*[-2.6, -2.4] * 20)))
    record.baselines = [worse]
    assert "It is worse than the base with 3" in narrator.sentences(record)[1]


def test_no_examples_no_baseline() -> None:
    assert results.baselines(sitting(loglik(-1.0, -2.0)), sitting(loglik(-1.0, -2.0))) == []


def scores(right: list[int], choices: list[int]) -> TaskScores:
    """A task of `len(right)` items, alternately of either half; item i has `choices[i]` choices."""
    n, offsets = len(right), np.concatenate([[0], np.cumsum(choices)])
    values = np.array(right, dtype=float)
    return TaskScores(
        "quiz", "acc", True, True, 0.5, n, "", {}, [f"i{k}" for k in range(n)], [None] * n,
        ["selection" if k % 2 == 0 else "report" for k in range(n)], {"acc": 0.0},
        {"acc": values, "p_gold": values / 2 + 0.25}, np.ones(n),
        np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64),
        np.arange(offsets[-1], dtype=float) - 50, np.ones(offsets[-1]), offsets,
    )  # fmt: skip


def test_a_half_holds_its_own_items_and_their_choices() -> None:
    """Choices 2, 3, 2, 4 begin at 0, 2, 5, 7: the report half is items 1 and 3."""
    half = scores([1, 0, 1, 1], [2, 3, 2, 4]).half("report")
    assert half.items == ["i1", "i3"]
    assert half.scores["acc"].tolist() == [0, 1]
    assert (half.logp + 50).tolist() == [2, 3, 4, 7, 8, 9, 10]
    assert half.offsets.tolist() == [0, 3, 7]


def test_halves_share_no_item_and_each_has_its_own_verdict() -> None:
    """All of the loss is put on the even items: select −30 of 100, report none."""
    n = 200
    before = [1] * n
    after = [0 if k % 2 == 0 and k < 60 else 1 for k in range(n)]
    base = EvalResult(
        Measurement({"quiz": scores(before, [2] * n)}), {"loglik": loglik(-3.0, -1.0)}
    )
    tuned = EvalResult(
        Measurement({"quiz": scores(after, [2] * n)}), {"loglik": loglik(-1.0, -1.0, -1.0, -1.0)}
    )
    base.quality["loglik"] = loglik(-3.0, -1.0, -3.0, -1.0)
    found = results.halves(base, tuned, "loglik", Budget(0.05))
    select, report = found["selection"], found["report"]
    assert select.task is not None and report.task is not None
    assert (select.task.delta, report.task.delta) == (2.0, 0.0)
    assert select.suite is not None and report.suite is not None
    assert select.suite.delta == pytest.approx(-0.3)
    assert select.suite.verdict == "forgotten"
    assert report.suite.delta == 0
    assert report.suite.verdict == "retained"


def clustered(scores: list[float], names: list[str | None]) -> TaskScore:
    return TaskScore("loglik", True, "nats per token", np.array(scores), clusters=names)


def test_no_cluster_lies_in_both_halves() -> None:
    """Files of 3, 1, 2, 1 and 1 examples, the next always to the smaller half: 3 and 1 there, 1, 2
    and 1 here. By every other example, a and c would straddle."""
    names: list[str | None] = ["a", "a", "a", "b", "c", "c", None, None]
    found = clustered([0.0] * 8, names)
    assert found.halves() == ([0, 1, 2, 6], [3, 4, 5, 7])
    assert found.taking([3, 4]).clusters == ["b", "c"]
    assert loglik(*[0.0] * 5).halves() == ([0, 2, 4], [1, 3])


def test_the_interval_of_the_task_is_that_of_its_clusters() -> None:
    """20 files of 10 examples that change alike, half of them by 1 and half by 0: as 200 examples
    the SE is .5/sqrt(199) = .0354, as 20 files .5/sqrt(19) = .1147."""
    change = [k // 10 % 2 - 3.0 for k in range(200)]
    names: list[str | None] = [f"file {k // 10}" for k in range(200)]
    base, tuned = loglik(*[-3.0] * 200), loglik(*change)
    alone = results.task_quality(base, tuned)
    shared = results.task_quality(base, tuned.clustered(names))
    assert alone.lo is not None and shared.lo is not None
    assert (alone.note, alone.delta) == ("", shared.delta)
    assert 0.5 - alone.lo == pytest.approx(1.97 * 0.0354, rel=0.05)
    assert 0.5 - shared.lo == pytest.approx(2.093 * 0.1147, rel=0.15)
    assert shared.note == "200 examples share 20 files or groups: the interval is theirs"
    assert tuned.clustered(names[:50]).clusters is None, "not one score an example"


def test_quality_is_told_for_each_source() -> None:
    """One source gains 2 on each example, the other loses 1; of one alone there is nothing to tell,
    and what is answered in words is of the first few examples."""
    base, tuned = loglik(*[-3.0] * 6), loglik(-1.0, -4.0, -1.0, -4.0, -1.0, -1.0)
    names = ["a", "b", "a", "b", "a", "a"]
    found = results.task_sources(sitting(base), sitting(tuned), "loglik", [*names, "b"])
    assert {name: (row.delta, row.n) for name, row in found.items()} == {
        "a": (pytest.approx(2.0), 4), "b": (pytest.approx(-1.0), 2),
    }  # fmt: skip
    assert results.task_sources(sitting(base), sitting(tuned), "loglik", ["a"] * 6) == {}
    assert results.task_sources(sitting(base), sitting(tuned), "loglik", names[:5]) == {}


def test_halves_too_small_to_say_anything() -> None:
    base = EvalResult(Measurement({"quiz": scores([1, 0], [2, 2])}), {"loglik": loglik(-1.0, -2.0)})
    found = results.halves(base, base, "loglik", Budget(0.05))
    assert found["selection"].task is None
    assert found["selection"].suite is not None
    assert found["selection"].suite.verdict == "inconclusive"
