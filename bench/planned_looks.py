"""How often do looks while training settle, and how often are they wrong? Simulated.

    python bench/planned_looks.py
    python bench/planned_looks.py --draws 600 --trainings only

Items of 0 and 1, 10 % of which change sides; the base is right in 45 %, the budget 5 % of that.
The subjects' own losses differ (an item's change is its subject's with a correlation of .02).
First, one evaluation: what a measurement of all items says, and what planned looks at growing
shares say, of a true loss in budgets. Then a whole training that ends at the first "forgotten": how
often it ends where the loss is exactly the budget at every evaluation (2.5 % are promised), and
where it is three times that. Changes of an item at two evaluations have a correlation of one half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import common
import numpy as np

from myosotis.records.verdict import SETTLED, Verdict, verdict_of
from myosotis.retention.sequential_eval import Levels, deal, planned
from myosotis.retention.statistics.multiple_testing import At
from myosotis.retention.statistics.paired import Paired, paired

EPSILON = 0.05 * 0.45
DISCORDANT = 0.10
FLOOR = 30


@dataclass(frozen=True)
class Design:
    """Tasks of so many clusters of so many items."""

    name: str
    tasks: int
    clusters: int
    size: int

    @property
    def items(self) -> int:
        return self.clusters * self.size

    def evaluations(self, loss: float, count: int, dice: np.random.Generator) -> list[np.ndarray]:
        """(tasks, items) changes at each of `count` evaluations, `-loss` on average."""

        def changes() -> np.ndarray:
            shape = self.tasks, self.items
            shared = np.repeat(dice.random((self.tasks, self.clusters)), self.size, axis=1)
            own = dice.random(shape)
            u = np.where(dice.random(shape) < 0.02**0.5, shared, own) if self.size > 1 else own
            lost = (DISCORDANT + loss) / 2
            return np.where(u < lost, -1.0, np.where(u < DISCORDANT, 1.0, 0.0))

        always = changes()
        stays = [dice.random(always.shape) < 0.5**0.5 for _ in range(count)]
        return [np.where(stay, always, changes()) for stay in stays] if count > 1 else [always]

    def look(self, d_TN: np.ndarray, share: float, seed: int) -> list[At]:
        """The comparison of each task on its first items."""
        found = []
        for task, d_N in enumerate(d_TN):
            cluster = np.repeat(np.arange(self.clusters), self.size)
            order = deal([str(c) for c in cluster], str(task), seed)
            rows = np.array(order[: int(np.ceil(share * self.items - 1e-9))])
            d, names = d_N[rows], cluster[rows] if self.size > 1 else None
            found.append(partial(_paired, d, names))
        return found

    def says(self, d_TN: np.ndarray, looks: list[float], evaluations: int) -> tuple[Verdict, float]:
        """The verdict and the share of items that it took."""
        said, share = Verdict.INCONCLUSIVE, 1.0
        for share, levels in zip(looks, Levels.of(looks, evaluations), strict=True):
            interval, clusters = levels.read(self.look(d_TN, share, 0))
            said = verdict_of(*interval, EPSILON, None, clusters)
            if said in SETTLED:
                break
        return said, share


def _paired(d: np.ndarray, names: np.ndarray | None, level: float) -> Paired:
    return paired(d < 0, d > 0, clusters=names, level=level)


DESIGNS = (
    Design("3 tasks of 200 items", 3, 200, 1),
    Design("57 subjects of 10 items", 1, 57, 10),
)


def one_evaluation(draws: int, seed: int) -> None:
    rows = []
    for design in DESIGNS:
        looks = planned([design.items], FLOOR)
        for loss in (0, 1, 2, 3):
            dice = np.random.default_rng(seed)
            fixed, said = [], []
            for _ in range(draws):
                (d,) = design.evaluations(loss * EPSILON, 1, dice)
                fixed.append(design.says(d, [1.0], 1)[0])
                said.append(design.says(d, looks, 1))
            verdicts = [verdict for verdict, _ in said]
            shares = [
                f"{each.count(kind) / draws:.1%}"
                for kind in (Verdict.RETAINED, Verdict.FORGOTTEN)
                for each in (fixed, verdicts)
            ]
            items = np.mean([share for _, share in said])
            rows.append([design.name, loss, *shares, f"{items:.0%}"])
    columns = ["retained, all items", "looks", "forgotten, all items", "looks", "items asked"]
    common.show(f"One evaluation, {draws} draws", ["design", "loss, budgets", *columns], rows)


def whole_training(draws: int, seed: int, designs: Sequence[Design], floor: int) -> None:
    rows = []
    for design in designs:
        looks = planned([design.items], floor)
        for count in (5, 10):
            shares = []
            for loss in (1, 3):
                dice = np.random.default_rng(seed)
                ended = np.zeros((draws, 2), bool)
                for i in range(draws):
                    measured = design.evaluations(loss * EPSILON, count, dice)
                    for k, spent in enumerate((1, count)):
                        ended[i, k] = any(
                            design.says(d, looks, spent)[0] == Verdict.FORGOTTEN for d in measured
                        )
                shares += [f"{share:.1%}" for share in ended.mean(0)]
            rows.append([design.name, count, *shares])
    columns = ["at the budget: unspent", "spent", "at three budgets: unspent", "spent"]
    common.show(
        f"Trainings that end at the first “forgotten”, {draws} draws",
        ["design", "evaluations", *columns],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    choices = ("at-once", "only", "looks")
    said = "whole trainings that ask everything at once; those alone; or also with looks (hours)"
    parser.add_argument("--trainings", choices=choices, default="at-once", help=said)
    given = parser.parse_args()
    if given.trainings != "only":
        one_evaluation(given.draws, given.seed)
    at_once = Design("400 items, all asked", 1, 400, 1)
    whole_training(given.draws, given.seed, [at_once], at_once.items)
    if given.trainings == "looks":
        whole_training(given.draws, given.seed, DESIGNS, FLOOR)


if __name__ == "__main__":
    main()
