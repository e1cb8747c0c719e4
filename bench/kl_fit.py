"""Does KL to the base predict what general text lost? Fitted, and at a rate that was left out.

    python bench/kl_fit.py
    python bench/kl_fit.py reports/rank_lr/records.jsonl

Reads run records (a JSON object a line) and fits the change of bits per byte of prose on KL(base ||
tuned), as a line and as a parabola. An R² on the runs that made the fit says how well the curve can
be drawn through them; where a few runs hold most of the variance, that is nearly always well. So
each learning rate is also left out in turn, and its runs are predicted from the others': by the
curve, and by the others' mean. R² is then 1 - squared errors of the one over those of the other;
below 0 the mean predicts better.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import common
import numpy as np

from myosotis.records.schema import RunRecord

COMMITTED = Path(__file__).parents[1] / "reports/rank_lr/records.jsonl"
SHAPES = {"line": 1, "parabola": 2}


def table(records: list[RunRecord], text: str, task: str) -> np.ndarray:
    """(runs, 3): learning rate, KL on `text`, what `task` lost."""
    rows = []
    for record in records:
        kl = next((s.kl for s in record.shift if s.text == text), None)
        lost = next((r.delta for r in record.retention if r.task == task), None)
        rate = (record.config.get("optimizer") or {}).get("lr")
        if kl is not None and lost is not None and rate is not None:
            rows.append((float(rate), kl, lost))
    return np.array(rows)


def r_squared(y: np.ndarray, predicted: np.ndarray, mean: np.ndarray | float) -> float:
    """1 - squared errors of `predicted` over those of `mean`."""
    return float(1 - ((y - predicted) ** 2).sum() / ((y - mean) ** 2).sum())


def left_out(found: np.ndarray, degree: int) -> np.ndarray:
    """Each run predicted from those of the other learning rates."""
    rate, x, y = found.T
    predicted = np.empty_like(y)
    for one in np.unique(rate):
        out = rate == one
        predicted[out] = np.polyval(np.polyfit(x[~out], y[~out], degree), x[out])
    return predicted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("records", nargs="?", type=Path, default=COMMITTED)
    parser.add_argument("--task", default="prose")
    given = parser.parse_args()
    lines = given.records.read_text(encoding="utf-8").splitlines()
    records = [RunRecord.from_json(json.dumps(json.loads(line))) for line in lines if line.strip()]
    rows = []
    for text in ("general", "task"):
        found = table(records, text, given.task)
        for shape, degree in SHAPES.items():
            _, x, y = found.T
            fitted = r_squared(y, np.polyval(np.polyfit(x, y, degree), x), y.mean())
            beyond = r_squared(y, left_out(found, degree), left_out(found, 0))
            rows.append([text, shape, len(found), f"{fitted:.2f}", f"{beyond:.2f}"])
    spread = np.sort((y - y.mean()) ** 2)[::-1]
    held = spread[:3].sum() / spread.sum()
    common.show(
        f"KL and {given.task}: three runs hold {held:.0%} of the variance",
        ["KL on", "shape", "runs", "R² of these runs", "R² at a rate left out"],
        rows,
    )


if __name__ == "__main__":
    main()
