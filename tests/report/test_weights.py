"""The section on how the weights moved."""

from __future__ import annotations

from typing import Any

import pytest

from myosotis.records.schema import RunRecord, WeightChange
from myosotis.report.scorecard import render_html
from myosotis.report.weights import of_run
from tests.report.test_scorecard import Page


def matrix(layer: int, kind: str, moved: float, **given: Any) -> WeightChange:
    name = f"layers.{layer}.{kind}.weight"
    return WeightChange(name=name, kind=kind, layer=layer, relative_norm=moved, **given)


NUMBERS = {"rank": 4, "effective_rank": 3.2, "rank_90": 2}
DIRECTIONS = {"top_share": 0.05, "intruders": 1, "spectrum": [1.0, 0.5, 0.25]}


def layers(record: RunRecord, ranked: set[int], looked_at: set[int], count: int) -> RunRecord:
    """Layers of two kinds: of some the ranks are known, and of some the directions too."""
    record.weights = [
        matrix(
            layer,
            kind,
            0.01 * (layer + 1),
            **(NUMBERS if layer in ranked else {}),
            **(DIRECTIONS if layer in looked_at else {}),
        )
        for layer in range(count)
        for kind in ("q_proj", "up_proj")
    ]
    return record


@pytest.fixture
def moved(record: RunRecord) -> RunRecord:
    """Three layers; the first and last are decomposed."""
    return layers(record, {0, 2}, {0, 2}, 3)


def test_it_says_how_far_and_in_how_many_directions(moved: RunRecord) -> None:
    found = of_run(moved)
    assert found is not None
    assert found["said"] == (
        "6 weights moved, by 2.0 % of the base's length (median), at most by 3.0 % "
        "(layers.2.q_proj.weight). Of 4 matrices in layers 0 and 2: rank 4 at most; 90 % of the "
        "change lies in 2 directions (median), 5.0 % of it inside the base's first 16, 4 of 40 "
        "leading directions of the tuned matrices like none of the base's."
    )
    text = Page(render_html([moved])).text
    assert "How the weights moved" in text
    assert "The matrices of layers 0 and 2" in text


def test_ranks_of_all_layers_stand_beside_directions_of_some(record: RunRecord) -> None:
    """Of a product of two factors the ranks are known everywhere."""
    found = of_run(layers(record, {0, 1, 2, 3, 4}, {0, 2, 4}, 5))
    assert found is not None and found["layers"] == "layers 0, 2 and 4" and len(found["rows"]) == 6
    assert (
        "Of 10 matrices: rank 4 at most; 90 % of the change lies in 2 directions (median). "
        in (found["said"])
    )
    assert found["said"].endswith(
        "In layers 0, 2 and 4: 5.0 % of it inside the base's first 16, 6 of 60 leading directions "
        "of the tuned matrices like none of the base's."
    )


def test_small_multiples_are_drawn_by_measure_and_by_kind(record: RunRecord) -> None:
    """Their numbers, as their files have them: an intruder in ten is 0.1; of the spectra of three
    layers those of the first, the middle and the last."""
    found = of_run(layers(record, {0, 1, 2, 3, 4}, {0, 2, 4}, 5))
    assert found is not None
    drawn = {group["title"]: group for group in found["groups"] + found["folded"]}
    assert list(drawn) == ["How far", "In how many directions", "In which of them", "How unevenly"]
    for group in drawn.values():
        assert [panel["title"] for panel in group["panels"]] == ["q_proj", "up_proj"]
    series = {
        title: {line.name: list(line.points) for line in group["panels"][0]["figure"].source.series}
        for title, group in drawn.items()
    }
    assert series["How far"]["moved by"][0] == (0, 0.01) and len(series["How far"]["moved by"]) == 5
    assert series["In how many directions"] == {
        "effective rank": [(layer, 3.2) for layer in range(5)],
        "90 % in": [(layer, 2) for layer in range(5)],
    }
    assert series["In which of them"] == {
        "in the first 16": [(layer, 0.05) for layer in (0, 2, 4)],
        "intruders": [(layer, 0.1) for layer in (0, 2, 4)],
    }
    spectrum = [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert series["How unevenly"] == {f"layer {layer}": spectrum for layer in (0, 2, 4)}
    for title in ("In which of them", "How unevenly"):
        assert "ayers 0, 2 and 4." in drawn[title]["note"]
    page = render_html([record])
    assert "q_proj, directions of Δθ. effective rank: 3.2 at layer 0, 3.2 at layer 4" in page


def test_what_is_not_known_is_not_drawn(record: RunRecord) -> None:
    """One layer is no line; a record of before there were spectra has none."""
    one = of_run(layers(record, {0}, {0}, 1))
    assert one is not None and one["groups"] == []
    assert [group["title"] for group in one["folded"]] == ["How unevenly"]
    for weight in record.weights:
        weight.spectrum = []
    nothing = of_run(record)
    assert nothing is not None and nothing["folded"] == [] and len(nothing["rows"]) == 2


def test_a_record_without_them_has_no_section(record: RunRecord) -> None:
    assert of_run(record) is None
    assert "How the weights moved" not in Page(render_html([record])).text


def test_what_a_stranger_wrote_does_no_harm(moved: RunRecord) -> None:
    moved.weights[0].relative_norm = float("nan")
    moved.weights[1].relative_norm = 1e300
    moved.weights[2].name = "<script>alert(1)</script>"
    moved.weights[2].relative_norm = 9.0
    moved.weights[4].top_share = float("inf")
    moved.weights[5].spectrum = [float("nan")] * 3
    moved.weights[5].effective_rank = -1.0
    page = render_html([moved])
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    moved.weights = [WeightChange("x", relative_norm=None)]
    assert of_run(moved) is None
