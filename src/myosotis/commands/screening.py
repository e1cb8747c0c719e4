"""The benchmark items of a run against its training data: named, and left out where that is asked.

What is found is in `retention/contamination.py`. A run asks items in rounds, and an item that was
asked once stays: what is left out is decided when an item first comes up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig

from myosotis.data.content import whole
from myosotis.data.sft import Example
from myosotis.data.stored_examples import Places, Told
from myosotis.records.schema import ContaminationRow, RetentionRow
from myosotis.retention import contamination
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.contamination import Contaminated
from myosotis.utils.console import progress


@dataclass
class Screening:
    """The training examples, and what was found in them of the items that came up so far."""

    examples: Sequence[Example]
    exclude: bool
    rows: dict[str, ContaminationRow] = field(default_factory=dict)  # by benchmark
    seen: set[tuple[str, str]] = field(default_factory=set)  # (benchmark, item)

    @classmethod
    def of(cls, cfg: DictConfig, examples: Sequence[Example]) -> Screening:
        """For the run of `cfg`."""
        return cls(examples, cfg.retention.contaminated == "exclude")

    def screened(self, suite: Suite, processes: int = 1) -> Suite:
        """The suite, without contaminated items where those are to be left out."""
        new = suite.where(lambda item: (item.task, item.id) not in self.seen)
        if new.tasks:
            with progress("benchmark items in the training data", None):
                found = contamination.contaminated(
                    new, Told(self.examples, whole), Places(self.examples), processes
                )
            self._keep(found)
            self.seen |= {(item.task, item.id) for item in new.items}
        if not self.exclude:
            return suite
        return suite.where(lambda item: item.id not in self._items(item.task))

    def warnings(self) -> list[str]:
        """A sentence for each benchmark with contaminated items."""
        return contamination.warnings(
            [Contaminated(r.task, r.n, r.judged, r.items, r.where) for r in self.rows.values()],
            excluded=self.exclude,
        )

    def noted(self, rows: Iterable[RetentionRow]) -> None:
        """Say beside each benchmark's result how much of it stands in the training data."""
        for row in rows:
            if items := self._items(row.task):
                count = f"{len(items)} item{'s' * (len(items) != 1)}"
                left_out = " and left out" if self.exclude else ""
                note = f"{count} found in the training data{left_out}"
                row.note = f"{row.note.rstrip('.')}; {note}" if row.note else note

    def _items(self, task: str) -> Mapping[str, float]:
        return self.rows[task].items if task in self.rows else {}

    def _keep(self, found: Iterable[Contaminated]) -> None:
        for one in found:
            row = self.rows.setdefault(one.task, ContaminationRow(one.task))
            row.n += one.n
            row.judged += one.judged
            row.items |= one.items
            row.where |= one.where
            row.excluded = self.exclude
