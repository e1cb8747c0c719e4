"""How many items does it take to see a real loss: by accuracy, and by its continuous twins?

    python bench/evidence.py RUN [RUN …]

Reads the items of finished runs (`retention_items.parquet`: both models on the same items) and asks
the models nothing. For every run and task on which a score lost something beyond chance (95 %
interval of all items below 0), samples of n items are drawn with replacement; n80 is the smallest n
at which four samples in five show the loss (95 % t-interval of the paired change below 0). The
twins are p_gold, the bits per byte of the right answer, and either of the two with 97.5 % each
(Bonferroni), which is what a cheap look asks. What is beyond the sizes tried is shown as more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

SIZES = (10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1280, 1920, 2560)
DRAWS = 400
POWER = 0.8
SCORES = ("accuracy", "p_gold", "bits a byte", "either twin", "share of accuracy's")

Floats = NDArray[np.float64]


def shown(change: Floats, level: float = 0.95) -> NDArray[np.bool_]:
    """Whether the interval of each row's mean lies below 0; (draws, n) in, (draws,) out."""
    n = change.shape[1]
    error = change.std(1, ddof=1) / np.sqrt(n)
    return change.mean(1) + stats.t.ppf(0.5 + level / 2, n - 1) * error < 0


def n80(changes: list[Floats], dice: np.random.Generator) -> int | None:
    """Items at which one of some scores (Bonferroni) shows a loss with 80 % power; None beyond the
    sizes tried."""
    level = 1 - 0.05 / len(changes)
    for n in SIZES:
        drawn = dice.integers(0, len(changes[0]), (DRAWS, n))
        seen = np.any([shown(change[drawn], level) for change in changes], axis=0)
        if seen.mean() >= POWER:
            return n
    return None


def tasks_of(run: Path) -> Iterator[tuple[str, Any]]:
    """The tasks of a run with choices, each with its items as a data frame. Prose has none."""
    table = pq.read_table(run / "retention_items.parquet").to_pandas()
    for task, items in table.groupby("task"):
        if not items["p_gold_base"].isna().any():
            yield str(task), items


def rows(run: Path, seed: int) -> list[list[str]]:
    """A line for each task of a run that lost something by one of the measures."""
    found = []
    for task, items in tasks_of(run):
        accuracy = (items["tuned"] - items["base"]).to_numpy(float)
        p_gold = (items["p_gold_tuned"] - items["p_gold_base"]).to_numpy(float)
        bits = (items["bits_per_byte_base"] - items["bits_per_byte_tuned"]).to_numpy(float)
        if not any(shown(change[None])[0] for change in (accuracy, p_gold, bits)):
            continue
        dice = np.random.default_rng(seed)
        by = [n80(scores, dice) for scores in ([accuracy], [p_gold], [bits], [p_gold, bits])]
        said = [f"over {SIZES[-1]}" if n is None else str(n) for n in by]
        share = f"{by[3] / (by[0] or SIZES[-1]):.2f}" if by[3] else "—"
        lost = [f"{change.mean():+.3f}" for change in (accuracy, p_gold, bits)]
        found.append([run.name, task, str(len(items)), *lost, *said, share])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = [row for run in given.runs for row in rows(run, given.seed)]
    common.show(
        "Items that show a real loss in four samples of five",
        ["run", "task", "items", "accuracy", "p_gold", "bits a byte", *(f"by {s}" for s in SCORES)],
        found,
    )


if __name__ == "__main__":
    main()
