"""From two sittings to the rows and sentences of a record."""

from __future__ import annotations

import numpy as np
import pytest

from myosotis import findings
from myosotis.examination import Prompted, Sitting
from myosotis.quality import Quality
from myosotis.record import RunRecord
from myosotis.retention.scorer import Measurement


def loglik(*scores: float) -> Quality:
    return Quality("loglik", True, "nats per token", np.array(scores))


def sitting(quality: Quality, prompted: Prompted | None = None) -> Sitting:
    return Sitting(Measurement({}), {"loglik": quality}, prompted=prompted)


def test_the_tuned_model_against_the_base_with_examples_in_its_prompt() -> None:
    """Base −3, prompted −2 on average, tuned −1.1: the prompt is beaten by 0.9, not by 1.9."""
    prompted = Prompted(3, 1, {"loglik": loglik(*[-1.9, -2.1] * 20)})
    base = sitting(loglik(*[-3.0] * 40), prompted)
    tuned = sitting(loglik(*[-1.0, -1.2] * 20))
    (baseline,) = findings.baselines(base, tuned)
    assert baseline.value == pytest.approx(-2.0)
    assert baseline.delta == pytest.approx(0.9)
    assert baseline.n == 40
    assert "3 solved examples" in baseline.name
    assert baseline.note.startswith("1 where")
    record = RunRecord("r", task=findings.task_summary(base, tuned, "loglik"))
    record.baselines = [baseline]
    said = findings.in_words(record)
    assert said[0].startswith("Task: better")
    assert said[1].startswith("Better than the base with 3 solved examples")
    (worse,) = findings.baselines(base, sitting(loglik(*[-2.6, -2.4] * 20)))
    record.baselines = [worse]
    assert findings.in_words(record)[1].startswith("Worse than")


def test_no_examples_no_baseline() -> None:
    assert findings.baselines(sitting(loglik(-1.0, -2.0)), sitting(loglik(-1.0, -2.0))) == []
