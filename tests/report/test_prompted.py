"""Prompting in the planes: baselines lie on the line of nothing forgotten, at what they gained."""

from __future__ import annotations

from myosotis.records.schema import Baseline, RunRecord, TaskQuality
from myosotis.report.curves import plane_of_run
from myosotis.report.prompted import places_of
from myosotis.report.sweep_page import view
from tests.report.made import rank_lr


def prompts() -> list[Baseline]:
    ends = {"gained": 0.5, "gained_lo": 0.4, "gained_hi": 0.6}
    return [
        Baseline("the base with 3 solved examples in its prompt", "loglik", -3.0, **ends),
        Baseline(
            "the base with 3 solved examples like the question in its prompt", "loglik", **ends
        ),
        Baseline("the base with an instruction", "loglik", gained=0.1),
        Baseline("the base with 3 solved examples in its prompt", "rougeL", 0.2, **ends),
        Baseline("from an older record", "loglik", -3.0),
    ]


def test_those_in_the_tasks_metric_with_their_gain() -> None:
    record = RunRecord("r", task=TaskQuality("loglik", base=-3.5, tuned=-2.0), baselines=prompts())
    places = places_of([RunRecord("none"), record], str)
    assert [p.name for p in places] == ["examples", "BM25", "prompt"]
    assert [(p.x, p.y) for p in places] == [(0.5, 0.0), (0.5, 0.0), (0.1, 0.0)]
    assert places[0].x_interval == (0.4, 0.6) and places[2].x_interval is None


def test_where_lower_is_better_a_gain_is_a_fall() -> None:
    task = TaskQuality("perplexity", False, base=9.0, tuned=5.0)
    base = [Baseline("an instruction", "perplexity", gained=-2.0, gained_lo=-3.0, gained_hi=-1.0)]
    (place,) = places_of([RunRecord("r", task=task, baselines=base)], str)
    assert place.x == 2.0 and place.x_interval == (1.0, 3.0)


def test_they_stand_in_the_planes_of_a_run_and_of_a_study() -> None:
    records = rank_lr()
    for record in records:
        record.baselines = prompts()
    plane = plane_of_run(records[0])
    assert plane is not None
    named = [p.name for p in plane["figure"].source.places if p.style == "prompted"]
    assert named == ["examples", "BM25", "prompt"]
    planes = view(records)["planes"]
    assert "the base, asked otherwise" in [key["said"] for key in planes["keys"]]
    for drawn in planes["drawn"]:
        assert [p.y for p in drawn["figure"].source.places if p.style == "prompted"] == [0.0] * 3
