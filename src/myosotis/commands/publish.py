"""What is added to a run that is finished: into its record and page, and to MLflow."""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import scorecard
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.utils.console import console
from myosotis.utils.errors import MyosotisError
from myosotis.utils.escape import terminal


def keep(place: RunFolder, change: Callable[[RunRecord], None]) -> RunRecord:
    """Let `change` add to the record as it is now, save it with its page, and return it.

    Minutes may lie between opening a run and knowing more of it, and another command may have added
    to its record meanwhile. Waits while another process writes the folder.
    """
    if place.in_use:
        told = f"Waiting until {place.path}, which another process writes, is free."
        console.print(terminal(told), highlight=False, soft_wrap=True)
    with place.held():
        record = place.load()
        change(record)
        record.save(place.record)
        scorecard(record, place.scorecard)
    return record


def publish(place: RunFolder, record: RunRecord, cfg: DictConfig) -> None:
    """Record and scorecard to MLflow, too; what lies on disk is the truth."""
    if not cfg.tracking.enabled:
        return
    mlflow = MLflowLogger(cfg.tracking.uri, cfg.tracking.experiment, run_id=record.run_id)
    try:
        for path in (place.record, place.scorecard):
            mlflow.log_artifact(path)
        mlflow.finish(record.status, record.error)
    except MyosotisError as error:
        told = f"[yellow]![/] MLflow was not updated: {terminal(error.message)}"
        console.print(told, highlight=False)
