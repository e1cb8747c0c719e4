"""Telling MLflow what was added to a run that is finished: its record and its page, anew."""

from __future__ import annotations

from omegaconf import DictConfig

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.utils.console import console
from myosotis.utils.errors import MyosotisError
from myosotis.utils.escape import terminal


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
