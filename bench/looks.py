"""Does a look at a few items see a loss, and does asking on tell it?

    python bench/looks.py RUN [RUN …]

Reads the items of finished runs (`retention_items.parquet`) and asks the models nothing. Of every
task with choices a first block is drawn without replacement; a sign is what `sequential_eval.signs`
calls one: p_gold or the bits per byte of the right answer, mean over the tasks, worse at a joint
80 %. A look that saw one goes on to 200 items of each: it raises the alarm where one of the two is
worse at a joint 95 % there, and its verdict is that of planned looks on the way, against 0 and
against the budget (5 %). A dose is the loss of mean accuracy on all items, in budgets; "none" is
the same items with base and tuned model swapped at random: two models that are exchangeable, which
is more than no loss (a model that is less sure of everything and as often right is not "none").
"""

from __future__ import annotations

import argparse
import copy
import math
from functools import partial
from pathlib import Path

import common
import numpy as np
from evidence import Floats, tasks_of

from myosotis.records.verdict import SETTLED, Verdict, verdict_of
from myosotis.retention.budget import Budget
from myosotis.retention.sequential_eval import CONTINUOUS_METRICS, SIGN, Levels, planned, worse
from myosotis.retention.statistics.paired import LEVEL, Paired, paired

FLOORS = (15, 30, 60)
ITEMS = 200
DRAWS = 400


class Suite:
    """What a run lost on each task, item by item: (items, scores) arrays, a loss is negative."""

    def __init__(self, run: Path) -> None:
        self.gains: dict[str, Floats] = {}
        base = []
        for task, items in tasks_of(run):
            columns = [(items["tuned"] - items["base"]).to_numpy(float)]
            for metric, more_is_better in CONTINUOUS_METRICS.items():
                change = (items[f"{metric}_tuned"] - items[f"{metric}_base"]).to_numpy(float)
                columns.append(change if more_is_better else -change)
            self.gains[task] = np.stack(columns, axis=1)
            base.append(items["base"].mean())
        self.epsilon = Budget().epsilon(float(np.mean(base)))

    @property
    def loss(self) -> float:
        return -float(np.mean([gains[:, 0].mean() for gains in self.gains.values()]))

    def swapped(self, dice: np.random.Generator) -> Suite:
        """The same items with the two models swapped at random: as many changes, no loss."""
        other = copy.copy(self)
        other.gains = {
            task: gains * dice.choice([-1.0, 1.0], (len(gains), 1))
            for task, gains in self.gains.items()
        }
        return other

    def sees(self, floor: int, dice: np.random.Generator) -> tuple[bool, bool]:
        """Whether the first block of a look shows a sign, and then all of it raises the alarm."""
        drawn = [dice.permutation(gains)[:ITEMS, 1:] for gains in self.gains.values()]
        sign = _worse([part[:floor] for part in drawn], SIGN)
        return sign, sign and _worse(drawn, LEVEL)

    def tells(self, dice: np.random.Generator) -> Verdict:
        """What up to `ITEMS` of each task say at planned looks."""
        drawn = [dice.permutation(gains[:, 0])[:ITEMS] for gains in self.gains.values()]
        looks, said = planned([len(d) for d in drawn], FLOORS[1]), Verdict.INCONCLUSIVE
        for share, levels in zip(looks, Levels.of(looks), strict=True):
            parts = [d[: math.ceil(share * len(d) - 1e-9)] for d in drawn]
            interval, _ = levels.read([partial(_compared, d) for d in parts])
            said = verdict_of(*interval, self.epsilon)
            if said in SETTLED:
                break
        return said


def _compared(d: Floats, level: float) -> Paired:
    return paired(d < 0, d > 0, level=level)


def _worse(drawn: list[Floats], level: float) -> bool:
    """Whether one of the continuous metrics is worse beyond chance."""
    gains = np.stack([part.mean(0) for part in drawn])
    errors = np.stack([part.std(0, ddof=1) / np.sqrt(len(part)) for part in drawn])
    return any(worse(gains[:, k], errors[:, k], level) for k in range(len(CONTINUOUS_METRICS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dice = np.random.default_rng(given.seed)
    rows = []
    for run in given.runs:
        suite = Suite(run)
        for swap in (False, True):

            def drawn(suite: Suite = suite, swap: bool = swap) -> Suite:
                return suite.swapped(dice) if swap else suite

            seen = [np.mean([drawn().sees(n, dice) for _ in range(DRAWS)], 0) for n in FLOORS]
            told = [drawn().tells(dice) for _ in range(DRAWS // 4)]
            shares = [f"{sign:.0%} · {alarm:.1%}" for sign, alarm in seen]
            for kind in (Verdict.SLIPPED, Verdict.FORGOTTEN):
                shares.append(f"{told.count(kind) / len(told):.0%}")
            dose = "none" if swap else f"{suite.loss / suite.epsilon:.1f}"
            rows.append([run.name, dose, *shares])
    common.show(
        f"Looks of {DRAWS} that saw a sign · raised the alarm; verdicts of {ITEMS} items each",
        ["run", "dose", *(f"first {n} items" for n in FLOORS), "slipped", "forgotten"],
        rows,
    )


if __name__ == "__main__":
    main()
