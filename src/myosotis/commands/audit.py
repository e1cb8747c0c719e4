"""`myosotis audit`: what the model will read, and what in it does harm."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis.commands.parts import benchmarks, data_module, most_items
from myosotis.commands.screening import Screening
from myosotis.commands.vocabulary import require_known
from myosotis.config import check, instantiate
from myosotis.data import audit as counted
from myosotis.data import audit_view
from myosotis.data.datamodule import ExampleModule
from myosotis.data.kept import FEW
from myosotis.report.audit_page import write_page
from myosotis.utils.console import console, results
from myosotis.utils.escape import terminal
from myosotis.utils.forked import cores
from myosotis.utils.own_files import require_place


def audit(cfg: DictConfig, html: Path | None = None) -> dict[str, Any]:
    """Check `cfg`, show the audit of its data, and return it as plain data; loads no weights.

    With `html` the audit is also written there, as a page. Raises `DataError` for data that cannot
    be trained on.
    """
    check(cfg, here=False)
    if html is not None:
        require_place(html)
    data = data_module(cfg)
    report = counted.inspect(data, row_tokens=cfg.data.row_tokens)
    require_known(data, instantiate.model_source(cfg))
    _contamination(cfg, data, report)
    results.print(audit_view.show(report))
    if html is not None:
        write_page(html, report, audit_view.content_lines(report))
        console.print(f"Written to {terminal(html)}.", highlight=False, soft_wrap=True)
    return report


def _contamination(cfg: DictConfig, data: ExampleModule, report: dict[str, Any]) -> None:
    """Every item that the run could ask, against the training text."""
    if not cfg.retention.suite:
        return
    source = instantiate.model_source(cfg)
    suite = benchmarks(cfg, None, source, data.template.tokenizer, most_items(cfg))
    screening = Screening.of(cfg, data.dataset.train)
    screening.screened(suite, cores(len(data.dataset.train) // FEW))
    report["contamination"] = [asdict(row) for row in screening.rows.values()]
    report["benchmarks"] = [
        f"{row.task}: {len(row.items)} of {row.judged} items stand in the training data"
        for row in screening.rows.values()
    ]
    report["warnings"] += screening.warnings()
