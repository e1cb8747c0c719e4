"""Which checkpoint of a run is the best, and when a training should end: one rule for both.

The best one has the lowest held-out loss among those whose benchmarks are inside the budget
(`Budget.accepts`). What belongs here: the rule, on numbers. Who measures, saves and puts back is
`best_checkpoint.py`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from myosotis.retention.statistics.paired import Verdict

OnBreach = Literal["warn", "stop", "rollback"]


@dataclass(frozen=True)
class EvalPoint:
    """One measurement while training."""

    step: int
    loss: float  # of held-out examples; lower is better
    verdict: str  # of the benchmarks; empty where there is none
    inside: bool  # the budget accepts that verdict


@dataclass
class SelectionState:
    """What the measurements of a run came to; kept in its checkpoint, for a resumed run.

    `ended` says why the training should end: `breach` (the benchmarks have forgotten more than the
    budget allows), `patience` (too many measurements without a better checkpoint), or nothing.
    """

    best: EvalPoint | None = None
    seen: int = 0
    since: int = 0  # measurements since the best one, or since the beginning
    ended: str = ""

    def see(self, now: EvalPoint, *, on_breach: OnBreach, patience: int | None) -> bool:
        """Take a measurement in; returns whether it is the best so far."""
        self.seen += 1
        better = now.inside and math.isfinite(now.loss)
        better = better and (self.best is None or now.loss < self.best.loss)
        if better:
            self.best = now
        self.since = 0 if better else self.since + 1
        if now.verdict == Verdict.FORGOTTEN and on_breach != "warn":
            self.ended = "breach"
        elif patience is not None and self.since >= patience:
            self.ended = "patience"
        return better

    def state(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any]) -> SelectionState:
        """Read `state` back."""
        found = cls(**{name: value for name, value in state.items() if name != "best"})
        found.best = EvalPoint(**state["best"]) if state["best"] else None
        return found
