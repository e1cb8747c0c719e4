"""The price in KL, shown: a curve for each measure, and what a run is expected to lose by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myosotis.records.schema import RunRecord
from myosotis.report import phrases
from myosotis.report.figure import Figure
from myosotis.report.kl_price import MEAN, Forecast, Price, kl_of, loss_of, prices
from myosotis.report.phrases import Scale
from myosotis.report.svg.charts import Chart, Series

STEPS = 40
"""Places at which a curve is drawn."""

MOST_DOTS = 100
"""Runs that are drawn at most."""


def of_runs(records: Sequence[RunRecord]) -> dict[str, Any] | None:
    """The section of a study's page; None where its runs are too few for a curve."""
    known = prices(records)
    if not known:
        return None
    rates = "learning rate" if known[0].by_rate else "setting"
    return {
        "rates": rates,
        "panels": [_panel(one) for one in known],
        "rows": [_row(one) for one in known],
    }


def measure(price: Price) -> str:
    """What was lost, in words."""
    return "Mean accuracy" if price.lost == MEAN else phrases.task_title(price.lost)


def scale_of(price: Price) -> Scale:
    metric = "acc" if price.lost == MEAN else "bits_per_byte"
    return phrases.scale(metric, "", -price.error, price.error)


def _text(price: Price) -> str:
    return {"general": "general text", "task": "the task's answers"}[price.text]


def _panel(price: Price) -> dict[str, Any]:
    s, most = scale_of(price), float(max(price.x))
    at = [most * i / STEPS for i in range(STEPS + 1)]
    curve = [(x, price.at(x)) for x in at]
    lines = [
        Series(
            "expected",
            [(x, found.value) for x, found in curve],
            [(x, found.lo, found.hi) for x, found in curve],
            "main",
        ),
        *(Series("a run", [point], (), "quiet", dots=True) for point in _runs(price)),
    ]
    name = f"KL on {_text(price)}, nats per token"
    unit = f"lost, {s.of}"
    chart = Chart(
        measure(price), lines, s.change, name, unit=unit, height=220, x_value=phrases.general
    )
    figure = Figure.of(f"kl-{price.lost}", chart)
    return {"title": measure(price), "unit": f"{unit}, by {name}", "note": "", "figure": figure}


def _runs(price: Price) -> list[tuple[float, float]]:
    """The runs by their KL; of very many, evenly chosen ones."""
    every = sorted(zip(price.x.tolist(), price.y.tolist(), strict=True))
    return every[:: -(-len(every) // MOST_DOTS)]


def _row(price: Price) -> dict[str, str]:
    s = scale_of(price)
    beyond = 1 - price.error**2 / price.error_of_mean**2 if price.error_of_mean else 0.0
    return {
        "measure": measure(price),
        "text": _text(price),
        "runs": phrases.count(len(price.x)),
        "error": s.amount(price.error),
        "mean": s.amount(price.error_of_mean),
        "r2": phrases.fixed(beyond, 2),
    }


def forecast(record: RunRecord, known: Sequence[Price]) -> list[dict[str, Any]]:
    """What a run is expected to lose by its KL, and what it lost where that was measured. `beyond`:
    no run of the study moved as far."""
    found = []
    for price in known:
        kl = kl_of(record, price.text)
        if kl is None:
            continue
        expected: Forecast = price.at(kl)
        found.append(
            {
                "measure": price.lost,
                "text": price.text,
                "kl": kl,
                "expected": expected.value,
                "lo": expected.lo,
                "hi": expected.hi,
                "beyond": kl > max(price.x),
                "measured": loss_of(record, price.lost),
            }
        )
    return found


def sentences(record: RunRecord, known: Sequence[Price]) -> list[str]:
    """The same in words, a sentence a measure."""
    told = []
    by_name = {price.lost: price for price in known}
    for one in forecast(record, known):
        price = by_name[one["measure"]]
        s = scale_of(price)
        said = (
            f"{measure(price)}: at a KL of {phrases.general(one['kl'])} on {_text(price)} a loss "
            f"of {s.change(one['expected'])} {s.of} is expected (90 % interval "
            f"{phrases.interval(s, one['lo'], one['hi'])})"
        )
        if one["beyond"]:
            said += ", although no run of the study moved as far"
        if one["measured"] is not None:
            said += f"; measured: {s.change(one['measured'])}"
        told.append(f"{said}.")
    return told
