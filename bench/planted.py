"""Known damage in doses of the budget: how often is each verdict given, and is it ever wrong?

    python bench/planted.py RUN [RUN …]

Reads the items of finished runs that lost something (`retention_items.parquet`) and asks the models
nothing. All items of a task are the truth: what was lost on them is the loss. `DRAWS` samples of n
items are drawn with replacement and judged as a run is, against a budget of the loss divided by the
dose. Dose 0 is the same items with base and tuned model swapped at random: as many changes, no
loss, and the budget of dose 1; there it is wrong to speak of any loss. Up to dose 1 "forgotten" is
wrong, and from dose 1 on "retained" is. Each may happen in 2.5 % of the samples (one side of a 95 %
interval).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
from evidence import Floats, shown, tasks_of

from myosotis.records.verdict import Verdict
from myosotis.retention.statistics.multiple_testing import judge
from myosotis.retention.statistics.paired import paired

LOST = (Verdict.FORGOTTEN, Verdict.SLIPPED)
WRONG = {
    0.0: [LOST],
    0.5: [(Verdict.FORGOTTEN,)],
    1.0: [(Verdict.FORGOTTEN,), (Verdict.RETAINED,)],
    2.0: [(Verdict.RETAINED,)],
}
"""By dose, what may not be said; of several the worst counts."""
SIZES = (12, 60, 200, 600)
DRAWS = 200


class Damaged(NamedTuple):
    """The scores of one task before and after, item by item, and what was lost on all of them."""

    name: str
    base: Floats
    tuned: Floats

    @property
    def loss(self) -> float:
        return float((self.base - self.tuned).mean())


def damaged(run: Path) -> Iterator[Damaged]:
    """The tasks of a run on which the score of the items fell beyond chance."""
    for task, items in tasks_of(run):
        base, tuned = items["base"].to_numpy(float), items["tuned"].to_numpy(float)
        if shown((tuned - base)[None])[0]:
            yield Damaged(f"{run.name}, {task}", base, tuned)


def verdicts(task: Damaged, dose: float, n: int, dice: np.random.Generator) -> Counter[Verdict]:
    """What is said of `DRAWS` samples of n items."""
    budget = task.loss / (dose or 1.0)
    said: Counter[Verdict] = Counter()
    for _ in range(DRAWS):
        drawn = dice.integers(0, len(task.base), n)
        pair = np.stack([task.base[drawn], task.tuned[drawn]])
        if dose == 0:
            pair = np.where(dice.random(n) < 0.5, pair, pair[::-1])
        (found,) = judge([lambda level, pair=pair: paired(*pair, level=level)], [budget])
        said[found.verdict] += 1
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tasks = [task for run in given.runs for task in damaged(run)]
    if not tasks:
        parser.error("on no task of these runs did the score fall beyond chance")
    common.show(
        "The damage",
        ["run and task", "items", "lost"],
        [(task.name, len(task.base), f"{task.loss:.3f}") for task in tasks],
    )
    dice = np.random.default_rng(given.seed)
    rows = []
    for dose in WRONG:
        for n in SIZES:
            said: Counter[Verdict] = Counter()
            for task in tasks:
                said += verdicts(task, dose, n, dice)
            rates = {kind: said[kind] / said.total() for kind in Verdict}
            worst = max(sum(rates[kind] for kind in kinds) for kinds in WRONG[dose])
            rows.append([dose, n, *(f"{rates[k]:.1%}" for k in Verdict), f"{worst:.1%}"])
    common.show(
        f"{len(tasks)} tasks, {DRAWS} samples each",
        ["dose", "items", *(kind.value for kind in Verdict), "wrong"],
        rows,
    )


if __name__ == "__main__":
    main()
