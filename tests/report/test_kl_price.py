"""The price in KL: the curve and its error derived by hand, and what is said of a new run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from myosotis.records.schema import KL, DataInfo, ModelInfo, RetentionRow, RunRecord, TaskQuality
from myosotis.report import kl_curve
from myosotis.report.kl_price import coefficients, price, prices
from tests.world import call

RATES = (1e-4, 1e-3, 1e-2)


def run(number: int, rate: float, kl: float, lost: float | None) -> RunRecord:
    """A run that lost so many bits per byte of prose."""
    rows = []
    if lost is not None:
        rows = [RetentionRow("prose", "bits_per_byte", False, base=1.0, tuned=1 + lost, delta=lost)]
    return RunRecord(
        run_id=f"{number:08x}",
        run_name=f"run-{number}",
        status="FINISHED",
        started=f"2026-12-01T00:00:{number:02}+00:00",
        config={"optimizer": {"lr": rate}, "update": {"name": "lora", "r": number}},
        model=ModelInfo(content_hash="b"),
        data=DataInfo(manifest={"test_hash": "t"}),
        task=TaskQuality("loglik", base=-3.0, tuned=-2.0, delta=1.0),
        retention=rows,
        shift=[KL("general", kl), KL("task", 7.0)],
    )


def runs(slope: float = 2.0, off: float = 0.0) -> list[RunRecord]:
    """Three a rate; a loss of `slope` times KL, and `off` more and less in turn."""
    found = []
    for i, rate in enumerate(RATES):
        for j in range(3):
            kl = (i + 1) * 0.1 + j * 0.02
            found.append(run(3 * i + j, rate, kl, slope * kl + off * (-1) ** (i + j)))
    return found


def test_a_line_is_found_again_without_error() -> None:
    """A loss of 2·KL: at 0.5 it is 1.0, whichever rate is left out."""
    found = price(runs(), "prose", "general")
    assert found is not None and found.by_rate and found.error == pytest.approx(0, abs=1e-9)
    there = found.at(0.5)
    assert (there.value, there.lo, there.hi) == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)
    assert found.at(0.0).value == 0


def test_no_coefficient_is_below_zero() -> None:
    """What falls with KL has no price: the curve stays at nothing lost."""
    assert coefficients(np.array([0.1, 0.2, 0.4]), np.array([-0.1, -0.2, -0.4])).tolist() == [0] * 3
    squares = coefficients(np.array([1.0, 2.0, 3.0]), np.array([3.0, 12.0, 27.0]))
    assert squares == pytest.approx([0, 0, 3], abs=1e-9)


def test_the_error_of_the_mean_is_of_the_rates_left_out() -> None:
    """Losses are 2·KL, with means 0.24, 0.44 and 0.64 by rate. Left out, the first is predicted by
    0.54, the second by 0.44, the third by 0.34: squared errors of (each loss - that), by hand."""
    found = price(runs(), "prose", "general")
    squares = [(2 * (0.1 * (i + 1) + 0.02 * j) - m) ** 2
               for i, m in enumerate((0.54, 0.44, 0.34)) for j in range(3)]  # fmt: skip
    assert found is not None
    assert found.error_of_mean == pytest.approx((sum(squares) / 9) ** 0.5)


def test_the_interval_is_as_wide_as_the_errors_were() -> None:
    """CV+ of nine runs at 90 %: rank ceil(0.9 · 10) = 9, the largest of all predictions plus
    residual, and the smallest of those minus it."""
    found = price(runs(off=0.05), "prose", "general")
    assert found is not None and found.error > 0.04
    each = [float(np.array([0.3**0.5, 0.3, 0.09]) @ found.without[g]) for g in found.groups]
    expected = found.at(0.3)
    assert expected.hi == pytest.approx(
        max(m + r for m, r in zip(each, found.residuals, strict=True))
    )
    assert expected.lo == pytest.approx(
        min(m - r for m, r in zip(each, found.residuals, strict=True))
    )


def test_too_few_runs_have_no_price() -> None:
    assert price(runs()[:8], "prose", "general") is None
    assert prices([]) == []


def test_without_three_rates_settings_are_left_out() -> None:
    same = runs()
    for record in same:
        record.config["optimizer"]["lr"] = 1e-3
    found = price(same, "prose", "general")
    assert found is not None and not found.by_rate and len(set(found.groups)) == 9


def test_the_page_and_the_forecast(tmp_path: Path) -> None:
    """KL on the task is the same for all runs: the curve is over general text. A run without
    benchmarks and with a KL of 0.25 is expected to lose 0.5; one of 0.9 lies beyond the study."""
    shown = kl_curve.of_runs(runs())
    assert shown is not None and [row["text"] for row in shown["rows"]] == ["general text"]
    assert "lost" in shown["panels"][0]["unit"]
    (one,) = kl_curve.forecast(run(99, 1e-3, 0.25, None), prices(runs()))
    assert one["expected"] == pytest.approx(0.5) and not one["beyond"] and one["measured"] is None
    (far,) = kl_curve.forecast(run(98, 1e-3, 0.9, 2.0), prices(runs()))
    assert far["beyond"] and far["measured"] == 2.0
    study = tmp_path / "study.jsonl"
    study.write_text("".join(json.dumps(json.loads(r.to_json())) + "\n" for r in runs()))
    run(99, 1e-3, 0.25, None).save(tmp_path / "record.json")
    out, _ = call(["forecast", ".", "--study", "study.jsonl"], tmp_path)
    assert "a loss of +0.50" in out and "90 % interval" in out
    other = run(99, 1e-3, 0.25, None)
    other.model.content_hash = "another"
    other.save(tmp_path / "record.json")
    _, err = call(["forecast", ".", "--study", "study.jsonl"], tmp_path, code=2)
    assert "another base" in err
