"""The section on how the weights moved."""

from __future__ import annotations

import pytest

from myosotis.records.schema import RunRecord, WeightChange
from myosotis.report.scorecard import render_html
from myosotis.report.weights import of_run
from tests.report.test_scorecard import Page


def matrix(layer: int, kind: str, moved: float, **given: float) -> WeightChange:
    name = f"layers.{layer}.{kind}.weight"
    return WeightChange(name=name, kind=kind, layer=layer, relative_norm=moved, **given)  # type: ignore[arg-type]


@pytest.fixture
def moved(record: RunRecord) -> RunRecord:
    """Three layers of two kinds; the first and last are decomposed."""
    numbers = {"rank": 4, "effective_rank": 3.2, "rank_90": 2, "top_share": 0.05, "intruders": 1}
    record.weights = [
        matrix(layer, kind, 0.01 * (layer + 1), **(numbers if layer != 1 else {}))
        for layer in range(3)
        for kind in ("q_proj", "up_proj")
    ]
    return record


def test_it_says_how_far_and_in_how_many_directions(moved: RunRecord) -> None:
    found = of_run(moved)
    assert found is not None
    assert found["said"] == (
        "6 weights moved, by 2.0 % of the base's length (median), at most by 3.0 % "
        "(layers.2.q_proj.weight). Of 4 matrices in layers 0 and 2: rank 4 at most; 90 % of the "
        "change lies in 2 directions (median), 5.0 % of it inside the base's first 16; 4 of 40 "
        "leading directions of the tuned matrices are like none of the base's."
    )
    assert [panel["title"] for panel in found["panels"]] == ["q_proj", "up_proj"]
    text = Page(render_html([moved])).text
    assert "How the weights moved" in text
    assert "The matrices of layers 0 and 2" in text


def test_a_record_without_them_has_no_section(record: RunRecord) -> None:
    assert of_run(record) is None
    assert "How the weights moved" not in Page(render_html([record])).text


def test_what_a_stranger_wrote_does_no_harm(moved: RunRecord) -> None:
    moved.weights[0].relative_norm = float("nan")
    moved.weights[1].relative_norm = 1e300
    moved.weights[2].name = "<script>alert(1)</script>"
    moved.weights[2].relative_norm = 9.0
    moved.weights[4].top_share = float("inf")
    page = render_html([moved])
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    moved.weights = [WeightChange("x", relative_norm=None)]
    assert of_run(moved) is None
