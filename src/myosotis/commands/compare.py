"""`myosotis compare`: paired evidence for two logs that exist; no model, no GPU."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis.config import instantiate
from myosotis.records.schema import ModelInfo, RunRecord
from myosotis.report import flip_table, terminal
from myosotis.report.scorecard import Format, is_one, scorecard
from myosotis.retention.benchmarks.task import fingerprint
from myosotis.retention.budget import Budget
from myosotis.retention.compare import compare as compare_scores
from myosotis.retention.logs import files, find
from myosotis.retention.logs.find import Both
from myosotis.retention.logs.log import Log
from myosotis.retention.logs.match import match
from myosotis.retention.logs.scores import Measured, measured
from myosotis.tracking.environment import now, versions
from myosotis.utils.console import console
from myosotis.utils.escape import redacted
from myosotis.utils.escape import terminal as escaped
from myosotis.utils.own_files import refuse_foreign, require_place


@dataclass(frozen=True)
class Wishes:
    """What a person asked for, beside the logs: see `cli/compare.py`."""

    metrics: Sequence[str] = ()
    cluster: str | None = None
    common: bool = False
    other_setup: bool = False
    own_budget: bool = False  # none was given: the one that a run had may count
    out: Path | None = None
    format: Format | None = None
    command: Sequence[str] = ()


def compare(words: Sequence[str], cfg: DictConfig, wishes: Wishes) -> tuple[RunRecord, Path]:
    """Compare the tuned model's log with the base's, item by item, and write the page.

    `words` name two logs, or one run. Raises `DataError` for logs that cannot be read or were not
    measured alike, `ConfigError` for a page that would overwrite something else.
    """
    began = time.perf_counter()
    with files.not_too_deep(" or ".join(words)):
        both = find.sides(words, wishes.cluster, wishes.metrics)
        page = _page(both, wishes)
        matched = match(both.base, both.tuned, common=wishes.common, other_setup=wishes.other_setup)
        found = measured(
            matched,
            wishes.metrics,
            common=wishes.common,
            by_member=wishes.cluster is None,
        )
    found.notes = [*both.base.notes, *both.tuned.notes, *matched.notes, *found.notes]
    record = _record(both, found, _budget(both, cfg, wishes), wishes)
    record.cost = {"total_seconds": time.perf_counter() - began}
    scorecard(record, page, wishes.format)
    _tell(record, page)
    return record, page


def _page(both: Both, wishes: Wishes) -> Path:
    """Where the page goes, before anything is computed: never over a file that is not ours."""
    if wishes.out is not None:
        page = wishes.out / "scorecard.html" if wishes.out.is_dir() else wishes.out
    else:
        names = "-".join(
            _slug(log.model or Path(log.place).name) for log in (both.base, both.tuned)
        )
        page = Path(f"compare-{names}.{wishes.format or 'html'}")
    require_place(page)
    refuse_foreign(page, is_one(page))
    return page


def _slug(name: str) -> str:
    """A model's name as a part of a file name: the last part of a path or hub id."""
    last = name.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9]+", "-", last).strip("-")[:40] or "log"


def _budget(both: Both, cfg: DictConfig, wishes: Wishes) -> Budget:
    """The budget asked for; of one run, where none was, the one it had."""
    if wishes.own_budget and both.budget is not None:
        accept = "not_forgotten" if both.accept == "not_forgotten" else "retained"
        return Budget.of(both.budget, accept)
    return instantiate.budget(cfg)


def _record(both: Both, found: Measured, budget: Budget, wishes: Wishes) -> RunRecord:
    """The comparison as the record of a run: the page, the table and every reader know it."""
    rows, suite = compare_scores(found.base, found.tuned, budget)
    names = [_name(log) for log in (both.base, both.tuned)]
    about: dict[str, Any] = {
        side: {
            "log": log.place,
            "kind": log.kind,
            "model": log.model,
            "written": log.written,
            "tool": log.tool,
            "items": log.digest,
        }
        for side, log in (("base", both.base), ("tuned", both.tuned))
    }
    about |= {
        "metric": list(wishes.metrics),
        "cluster": wishes.cluster,
        "common": wishes.common,
        "other_setup": wishes.other_setup,
    }
    moment = now()
    return RunRecord(
        run_id=fingerprint([about, [row.verdict for row in rows]]),
        run_name=f"{names[1]} against {names[0]}",
        status="FINISHED",
        started=moment,
        ended=moment,
        command=["myosotis", *map(redacted, wishes.command)],
        config={
            "compare": about,
            "retention": {
                "budget": {**budget.tasks, "others": budget.fraction}
                if budget.tasks
                else budget.fraction,
                "accept": budget.accept,
            },
        },
        versions={name: versions()[name] for name in ("python", "myosotis")},  # no model ran here
        model=ModelInfo(id=names[0]),
        suite={
            "hash": fingerprint([[name, task.items] for name, task in found.base.items()]),
            "tasks": [
                {"task": name, "metric": task.metric, "items": len(task.items)}
                for name, task in found.base.items()
            ],
        },
        retention=rows,
        suite_verdict=suite,
        flips=found.flips,
        warnings=list(dict.fromkeys(found.notes)),
    )


def _name(log: Log) -> str:
    """The model's hub id; of a folder somewhere, its last part."""
    name = log.model or log.place
    return Path(name).name if Path(name).is_absolute() else name


def _tell(record: RunRecord, page: Path) -> None:
    for warning in record.warnings:
        console.print(f"[yellow]![/] {escaped(warning)}", highlight=False)
    terminal.show(record, page)
    flip_table.show(record)
