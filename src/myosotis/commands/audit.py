"""`myosotis audit`: what the model will read, and what in it does harm, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis.commands.parts import benchmarks, data_module, most_items
from myosotis.commands.vocabulary import require_row
from myosotis.config import check, instantiate
from myosotis.data import audit as counted
from myosotis.data import audit_view
from myosotis.data.content import whole
from myosotis.data.datamodule import ExampleModule
from myosotis.report.audit_page import write_page
from myosotis.retention import contamination
from myosotis.utils.console import console, progress, results
from myosotis.utils.escape import terminal
from myosotis.utils.own_files import require_place


def audit(cfg: DictConfig, html: Path | None = None) -> dict[str, Any]:
    """Check `cfg`, show the audit of its data, and return it as plain data; loads no weights.

    With `html` the audit is also written there, as a page. Raises `DataError` for data that cannot
    be trained on.
    """
    check(cfg)
    if html is not None:
        require_place(html)
    data = data_module(cfg)
    report = counted.inspect(data, row_tokens=cfg.data.row_tokens)
    require_row(data, instantiate.model_source(cfg), *report["largest_id"])
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
    train = data.dataset.train
    with progress("benchmark items in the training data", None):
        found = contamination.contaminated(suite, map(whole, train), [e.where for e in train])
    report["contamination"] = contamination.plain(found)
    report["benchmarks"] = [
        f"benchmark items in the training data: {one.task} {one.said()}" for one in found
    ]
    report["warnings"] += contamination.warnings(
        found, excluded=cfg.retention.contaminated == "exclude"
    )
