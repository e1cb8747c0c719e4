"""Which items of a benchmark are asked, and how often: more where an answer can flip.

A light tuning flips the answers of which the base was least sure: 83 to 93 % of the flips lie in
the 30 % of the items with the smallest margin (the score of the right choice minus that of the best
other). So a pool of a benchmark's items is cut into strata by the size of the base's margin, and
the strata are drawn from at different rates: to 70 % by

    W_h * mean over h of sqrt(q (1 - q)),     q = Phi(-|margin| / sigma)

(Neyman's allocation, Cochran 1977, section 5.5, for the chance q that a change of the margin with
standard deviation sigma turns the answer), and to 30 % by W_h, the stratum's share of the pool.
With 15 % and a sigma of half the truth the outer strata get so few items that intervals miss on
one side in 4 %; 30 % costs next to nothing (docs/science.md, section 3). Scores are weighted back
by W_h (`statistics/stratified.py`), so that whatever the margins and sigma are, the mean is
unbiased: a design need not be exact, a poor one only takes more items.

The designs in `designs/` belong to models by the hash of their content; `bench/design.py` makes
them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from myosotis.retention.benchmarks.task import Half

STRATA = 6
NEYMAN = 0.7
"""Part of the draw that follows Neyman's allocation; the rest is proportional to the strata."""

VARIANCE = 0.6
"""Variance of a light tuning's change under a design, over that of a simple sample, which a plan
expects: .31, .62 and .71 on hellaswag, arc_easy and piqa (bench/design.py)."""

Floats = NDArray[np.float64]


class Drawn(NamedTuple):
    """One row of a benchmark that is to be asked."""

    row: int
    half: Half
    stratum: int  # -1: all rows are drawn alike


@dataclass(frozen=True)
class SamplingDesign:
    """How one benchmark is drawn from.

    `rows` are the pool, `strata` the stratum of each, `rates` the share of a draw that comes from
    each stratum. `population` is the number of rows the design was made for.
    """

    population: int
    rows: tuple[int, ...]
    strata: tuple[int, ...]
    rates: tuple[float, ...]

    @classmethod
    def of(
        cls, population: int, rows: Sequence[int], margins: Floats, sigma: float
    ) -> SamplingDesign:
        """From the margins of the base on the pool's rows and the standard deviation of their
        change; (n,) each. Boundaries by the cumulative root of the flip variance (Dalenius & Hodges
        1959): each stratum has the same sum of sqrt(q (1 - q))."""
        q = special.ndtr(-np.abs(margins) / sigma)
        spread = np.sqrt(q * (1 - q))
        order = np.argsort(-spread, kind="stable")
        along = np.cumsum(spread[order] + spread.mean() * (1 - NEYMAN)) - 1e-12
        strata = np.empty(len(rows), np.int64)
        strata[order] = np.minimum(along / along[-1] * STRATA, STRATA - 1).astype(np.int64)
        share = np.bincount(strata, minlength=STRATA) / len(rows)
        neyman = np.bincount(strata, spread, minlength=STRATA)
        rates = NEYMAN * neyman / neyman.sum() + (1 - NEYMAN) * share
        return cls(
            population,
            tuple(int(row) for row in rows),
            tuple(int(stratum) for stratum in strata),
            tuple(float(rate) for rate in rates),
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """(strata,) W_h: the share of each stratum in the pool."""
        count = np.bincount(self.strata, minlength=len(self.rates))
        return tuple(float(share) for share in count / len(self.rows))

    def draw(self, name: str, items: int, seed: int) -> list[Drawn]:
        """The first `items` rows of the draw of `seed`, alternately for one half and the other.

        The first k of a longer draw are a draw of k: the j-th row of a stratum stands where a
        share `rates` of all rows before it comes from that stratum.
        """
        order = list(range(len(self.rows)))
        random.Random(f"myosotis items {seed} {name}").shuffle(order)
        taken = [0] * len(self.rates)
        places: list[tuple[float, int, Drawn]] = []
        for i in order:
            stratum = self.strata[i]
            place = (taken[stratum] + 0.5) / self.rates[stratum]
            half: Half = "selection" if (taken[stratum] + stratum) % 2 == 0 else "report"
            places.append((place, stratum, Drawn(self.rows[i], half, stratum)))
            taken[stratum] += 1
        return [drawn for _, _, drawn in sorted(places)[:items]]


class Designs(dict[str, SamplingDesign]):
    """The designs of one model, by the name of the benchmark."""

    @classmethod
    def read(cls, text: str) -> Designs:
        """From the file that `written` made."""
        return cls(
            {
                name: SamplingDesign(
                    one["population"],
                    tuple(one["rows"]),
                    tuple(int(digit) for digit in one["strata"]),
                    tuple(one["rates"]),
                )
                for name, one in json.loads(text)["benchmarks"].items()
            }
        )

    def written(self, about: dict[str, Any]) -> str:
        """The file of these designs: `about` says of which model they are and how they came about.
        A stratum is one digit."""
        benchmarks = {
            name: {
                "population": one.population,
                "rates": [round(rate, 4) for rate in one.rates],
                "rows": list(one.rows),
                "strata": "".join(map(str, one.strata)),
            }
            for name, one in sorted(self.items())
        }
        return json.dumps({**about, "benchmarks": benchmarks}, separators=(",", ":")) + "\n"


@lru_cache
def designs_of(model: str) -> Designs:
    """The designs that ship for a model, by the id of its preset; none for others."""
    folder = resources.files("myosotis.retention.benchmarks") / "designs"
    file = folder / f"{model}.json"
    return Designs.read(file.read_text()) if file.is_file() else Designs()
