"""Asked until it is settled, against a fixed set: how often is the verdict given, after how much?

    python bench/settle.py RUN [RUN …]

Scores base and tuned model on a pool of each benchmark (as bench/design.py does) and then draws
from it again and again as runs with other seeds of the items would: in planned rounds with the
sampling design that ships, and simply, a fixed set of as many items as the first round has. What
all items of the pool say is taken for the truth. The change of a run can also be shifted to a loss
of a multiple of the budget (`--losses`): of the items that both models answer rightly some, chosen
at random, are then lost, those of small margin first, as training loses them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import common
import numpy as np
from design import TASKS, margins, row_numbers, scored

from myosotis.records.verdict import Verdict
from myosotis.retention.benchmarks.sampling_design import SamplingDesign, designs_of
from myosotis.retention.benchmarks.scores import Measurement, TaskScores
from myosotis.retention.budget import Budget
from myosotis.retention.compare import compare
from myosotis.retention.settle import Rounds, run_rounds


class Pool:
    """Both models on all items of the pool, and the design cut down to it."""

    def __init__(self, base: Measurement, tuned: Measurement, model: str) -> None:
        self.base, self.tuned = base, tuned
        self.rows = {task: row_numbers(base[task]) for task in TASKS}
        self.designs = {
            task: _within(design, self.rows[task]) for task, design in designs_of(model).items()
        }
        self.ids = {
            task: dict(zip(self.rows[task], base[task].items, strict=True)) for task in TASKS
        }
        self.sizes = {task: len(rows) for task, rows in self.rows.items()}
        self.epsilon = Budget().epsilon_of_mean({task: base[task].mean for task in TASKS})

    @property
    def loss(self) -> float:
        return float(np.mean([self.base[t].mean - self.tuned[t].mean for t in TASKS]))

    def losing(self, loss: float, dice: np.random.Generator) -> Pool:
        """The same with `loss` of the mean more lost (negative: less)."""
        tuned = {}
        for task in TASKS:
            scores, before = self.tuned[task], self.base[task].primary
            right = scores.primary.copy()
            count = round(abs(loss) * len(right))
            from_, to = (1.0, 0.0) if loss > 0 else (0.0, 1.0)
            able = np.flatnonzero((right == from_) & (before == 1))
            small = np.exp(-np.abs(margins(self.base[task])[able]) / 0.05) + 0.02
            taken = dice.choice(able, min(count, len(able)), replace=False, p=small / small.sum())
            right[taken] = to
            tuned[task] = replace(scores, scores={**scores.scores, scores.metric: right})
        other = Pool.__new__(Pool)
        other.__dict__ = {**self.__dict__, "tuned": Measurement(tuned)}
        return other

    def settled(self, rounds: Rounds, seed: int) -> tuple[str, int]:
        """The verdict of one measurement in rounds, and the items of each benchmark it took."""
        most = rounds.planned[-1].items
        drawn = {task: self.designs[task].draw(task, most, seed) for task in TASKS}
        items = rounds.planned[0].items

        def ask(more: int) -> None:
            nonlocal items
            items = more

        def judge(level: float) -> tuple[tuple[str, int], str]:
            sides: list[dict[str, TaskScores]] = []
            for side in (self.base, self.tuned):
                sides.append({})
                for task in TASKS:
                    taken = drawn[task][:items]
                    part = side[task].taking([self.ids[task][one.row] for one in taken])
                    sides[-1][task] = replace(
                        part,
                        stratum=[one.stratum for one in taken],
                        shares=list(self.designs[task].shares),
                        whole=None,
                    )
            suite = compare(*sides, Budget(), level=level).suite
            assert suite is not None
            return (suite.verdict, items), suite.verdict

        return run_rounds(rounds, judge, ask)[0]

    def fixed(self, items: int, dice: np.random.Generator) -> str:
        """The verdict of a simple draw of `items` of each benchmark."""
        sides: list[dict[str, TaskScores]] = [{}, {}]
        for task in TASKS:
            ids = dice.permutation(self.base[task].items)[:items].tolist()
            sides[0][task], sides[1][task] = (
                self.base[task].taking(ids),
                self.tuned[task].taking(ids),
            )
        suite = compare(sides[0], sides[1], Budget()).suite
        assert suite is not None
        return suite.verdict


def _within(design: SamplingDesign, rows: list[int]) -> SamplingDesign:
    """The design of these rows alone."""
    stratum = dict(zip(design.rows, design.strata, strict=True))
    kept = tuple(row for row in rows if row in stratum)
    return replace(design, rows=kept, strata=tuple(stratum[row] for row in kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pool", type=int, default=800)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--max-items", type=int, default=600)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--losses", type=float, nargs="*", default=[0.0, 2.0], help="in budgets")
    given = parser.parse_args()
    rows = []
    for run in given.runs:
        base, tuned = scored(run, given.pool)
        assert tuned is not None
        pool = Pool(base, tuned, given.model)
        dice = np.random.default_rng(0)
        rounds = Rounds.of(given.items, given.max_items, pool.sizes)
        for loss in [None, *given.losses]:
            one = pool if loss is None else pool.losing(loss * pool.epsilon - pool.loss, dice)
            found = [one.settled(rounds, seed) for seed in range(given.draws)]
            fixed = Counter(one.fixed(given.items, dice) for _ in range(given.draws))
            said = Counter(verdict for verdict, _ in found)
            rows.append(
                [
                    Path(run).name,
                    f"{one.loss / pool.epsilon:+.2f}" + ("" if loss is None else " (shifted)"),
                    *(
                        f"{said[v] / given.draws:.0%}"
                        for v in (Verdict.RETAINED, Verdict.FORGOTTEN)
                    ),
                    f"{np.mean([items for _, items in found]):.0f}",
                    *(
                        f"{fixed[v] / given.draws:.0%}"
                        for v in (Verdict.RETAINED, Verdict.FORGOTTEN)
                    ),
                ]
            )
    common.show(
        f"{given.draws} measurements: in rounds from {given.items} to {given.max_items} items of "
        f"each benchmark, and a fixed set of {given.items}",
        [
            "run",
            "loss in budgets",
            "retained",
            "forgotten",
            "items",
            "fixed: retained",
            "forgotten",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
