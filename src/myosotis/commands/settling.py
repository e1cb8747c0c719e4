"""The final measurement of a run or of `evaluate`: asked on until its verdict is settled.

What belongs here: the rounds that a configuration asks for, and asking both models what each round
adds. The statistics are in `retention/settle.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from omegaconf import DictConfig

from myosotis.commands.parts import most_items
from myosotis.config import instantiate
from myosotis.evaluation import results
from myosotis.records.schema import SuiteVerdict
from myosotis.records.verdict import OPEN, Outlook, Verdict
from myosotis.retention import settle
from myosotis.retention.benchmarks.measure import as_drawn
from myosotis.retention.benchmarks.sampling_design import VARIANCE
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Half, Suite, Task
from myosotis.retention.compare import Comparison
from myosotis.retention.statistics.paired import LEVEL


@dataclass(frozen=True)
class Asked:
    """Both models on all that was asked, and what comparing them says at `level`.

    `seconds` is what the rounds after the first took.
    """

    suite: Suite
    base: Measurement
    tuned: Measurement
    found: Comparison
    level: float = LEVEL
    seconds: float = 0.0


def rounds_of(cfg: DictConfig, sizes: Mapping[str, int]) -> settle.Rounds | None:
    """The rounds that `cfg` plans, `sizes` being the items that there are of each benchmark in the
    mean; None for a fixed set."""
    most = most_items(cfg)
    if most is None or not sizes:
        return None
    return settle.Rounds.of(int(cfg.retention["items"]), most, sizes)


def outlook_of(cfg: DictConfig, tasks: Mapping[str, Task], epsilon: float) -> Outlook | None:
    """How likely the rounds settle the verdict on the mean over `tasks` at the budget `epsilon`;
    None for a fixed set."""
    sizes = {name: task.population for name, task in tasks.items()}
    if (rounds := rounds_of(cfg, sizes)) is None:
        return None
    variance = [VARIANCE if task.shares else 1.0 for task in tasks.values()]
    return settle.outlook(rounds, epsilon, sizes, variance=sum(variance) / len(variance))


def ask_until_settled(
    cfg: DictConfig,
    suite: Suite,
    base: Measurement,
    tuned: Measurement,
    *,
    build: Callable[[int], Suite],
    ask: Callable[[Suite], tuple[Measurement, Measurement]],
    half: Half | None = None,
    chosen_among: bool = False,
) -> Asked:
    """Go on from the first round, of which `base` and `tuned` are the measurements.

    `build` makes the suite of a number of items per benchmark, `ask` measures both models on what
    is new. Where one `half` of the items alone is compared, that half has to be settled. A run
    that is `chosen_among` others is chosen on one half and claimed on the other (docs/science.md,
    section 3): unless it has forgotten, each of the halves has to be settled.
    """
    began, budget = time.perf_counter(), instantiate.budget(cfg)
    fixed = settle.Rounds.fixed(int(cfg.retention["items"] or 0))
    rounds = rounds_of(cfg, settle.items_there_are(base)) or fixed

    def compared(part: Half | None, level: float) -> tuple[Comparison, str]:
        sides = (base, tuned) if part is None else (base.half(part), tuned.half(part))
        found = results.retention_rows(*sides, budget, level=level)
        return found, found.suite.verdict if found.suite else ""

    def judge(level: float) -> tuple[Comparison, str]:
        found, verdict = compared(half, level)
        if verdict == Verdict.RETAINED and chosen_among:
            parts = [compared(part, level)[1] for part in get_args(Half)]
            verdict = next((open for open in parts if open in OPEN), verdict)
        return found, verdict

    def further(items: int) -> None:
        nonlocal suite, base, tuned
        known = {(item.task, item.id) for item in suite.items}
        suite = build(items)
        new = suite.where(lambda item: (item.task, item.id) not in known)
        base, tuned = (
            Measurement(
                {
                    task.name: as_drawn(asked[task.name].taking([i.id for i in task.items]), task)
                    for task in suite
                }
            )
            for asked in map(Measurement.joined, (base, tuned), ask(new))
        )

    found, asked = settle.run_rounds(rounds, judge, further)
    note = settle.asked_text(rounds.planned[:asked])
    if found.suite is not None and note:
        found = Comparison(found.rows, _noted(found.suite, note))
    level = rounds.planned[asked - 1].level
    return Asked(suite, base, tuned, found, level, time.perf_counter() - began)


def _noted(suite: SuiteVerdict, note: str) -> SuiteVerdict:
    return replace(suite, note=f"{note} {suite.note}".strip())
