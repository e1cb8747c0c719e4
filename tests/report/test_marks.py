"""Names in a plane have room, and verdicts are told apart without colour, and by colour alone."""

from __future__ import annotations

import random
import re
from itertools import combinations
from pathlib import Path

import pytest

from myosotis.records.verdict import VERDICTS
from myosotis.report.svg import labels
from myosotis.report.svg.strips import verdict_mark
from myosotis.report.svg.tradeoff import Place, Plane, draw_plane

CSS = Path(labels.__file__).parents[1] / "template" / "style.css"


def crowded(seed: int) -> Plane:
    """Fifteen settings, most of them in one corner."""
    rng = random.Random(seed)
    places = [Place(0.0, 0.0, "base", "", "base")]
    for n in range(1, 16):
        x, y = 0.8 + rng.gauss(0, 0.05), 0.02 + rng.gauss(0, 0.004)
        style = ("chosen", "front", "tied", "behind", "over")[min(n - 1, 4) if n < 5 else n % 3 + 2]
        places.append(Place(x, y, str(n), "", style, (x - 0.1, x + 0.1), (y - 0.05, y + 0.05)))
    return Plane("", places, 0.025, str, str)


@pytest.mark.parametrize("width", [288, 500, 900])
@pytest.mark.parametrize("seed", range(5))
def test_no_name_stands_in_another(seed: int, width: int):
    """Read from the drawing: an anchor in per cent, an offset in pixels, 7.6 pixels a letter."""
    drawn = draw_plane(crowded(seed))
    found = re.findall(
        r'<svg x="([\d.]+)%" y="([\d.]+)" overflow="visible"><text x="(-?[\d.]+)" '
        r'y="(-?[\d.]+)" text-anchor="(\w+)" class="name">([^<]+)</text>',
        drawn,
    )
    assert len(found) > 5
    boxes = []
    for share, top, dx, dy, anchor, name in found:
        mark = labels.Named(float(share) / 100, float(top), 0, name)
        boxes.append(labels.box(mark, labels.Spot(float(dx), float(dy), anchor), width))
    assert all(labels.apart(one, other) for one, other in combinations(boxes, 2))
    assert "1" in [name for *_, name in found], "the choice is named before all others"


def test_boxes_by_hand():
    """Three letters, 22.8 pixels: to the left of a mark in the middle of 200, 10 away."""
    mark = labels.Named(0.5, 50, 4, "abc")
    assert labels.box(mark, labels.Spot(-10, 5, "end"), 200) == pytest.approx((67.2, 44, 90, 58))
    assert labels.apart((0, 0, 1, 1), (1, 0, 2, 1)) and not labels.apart((0, 0, 2, 2), (1, 1, 3, 3))


def test_each_verdict_has_a_shape_of_its_own():
    shapes = {verdict_mark("50%", 10, verdict) for verdict in VERDICTS}
    assert len(shapes) == len(VERDICTS) == 4
    assert verdict_mark("5%", 1, "worse") == verdict_mark("5%", 1, "forgotten")


# -- colours, as a deuteranope sees them --------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, deuteranomaly of severity 1.0, on linear sRGB.
DEUTERANOPE = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


def linear(colour: str) -> list[float]:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]


def times(matrix: tuple[tuple[float, ...], ...], colour: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, colour, strict=True)) for row in matrix]


def lab(colour: list[float]) -> tuple[float, float, float]:
    def f(t: float) -> float:
        return t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116

    x, y, z = times(TO_XYZ, colour)
    x, y, z = f(x / 0.95047), f(y), f(z / 1.08883)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def distance(one: str, other: str) -> float:
    """CIE76 between two colours as a deuteranope sees them: 2.3 is just noticeable."""
    seen = [
        lab([min(max(c, 0.0), 1.0) for c in times(DEUTERANOPE, linear(colour))])
        for colour in (one, other)
    ]
    return sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5


def palettes() -> list[dict[str, str]]:
    """The colours of the page: light, dark, printed."""
    blocks = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.S)
    assert len(blocks) == 3
    return [dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", block)) for block in blocks]


def test_the_simulation_knows_a_pair_that_is_confused():
    """What the page once drew: the red of "lost" and the tan of "slow", 3.9 apart."""
    assert distance("#e3acab", "#c4bca2") == pytest.approx(3.9, abs=0.1)
    assert distance("#000000", "#ffffff") == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("palette", range(3))
def test_a_deuteranope_tells_the_colours_of_verdicts_apart(palette: int):
    colours = palettes()[palette]
    verdicts = [colours[name] for name in ("good", "warn", "bad", "open")]
    assert min(distance(*pair) for pair in combinations(verdicts, 2)) > 15


@pytest.mark.parametrize("palette", range(3))
def test_no_two_colours_of_maps_mean_different_things_and_look_alike(palette: int):
    """What was learned is blue, what was lost red; there is no third colour."""
    colours = palettes()[palette]
    kinds = {name.rstrip("012345") for name in colours if name[-1] in "012345"} - {"s"}
    assert kinds == {"good", "bad"}
    assert distance(colours["good5"], colours["bad5"]) > 15
