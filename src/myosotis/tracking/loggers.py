"""The loggers of the group `logger` beside MLflow: what names them in a run, and how they end."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger

from myosotis.records.schema import Status

# Of a run, in the words that Lightning's loggers know.
FINAL = {"FINISHED": "success", "FAILED": "failed", "KILLED": "aborted"}


def identity(run_name: str, run_id: str, make: Any) -> dict[str, Any]:
    """Keywords of `make` by which a run that is resumed goes on where it was; most need none."""
    if isinstance(make, type) and issubclass(make, WandbLogger):
        return {"name": run_name, "id": run_id}
    return {}


def finish(logger: Logger, status: Status) -> None:
    """End what `logger` keeps of the run. Lightning has finalized it at the end of the training."""
    logger.finalize(FINAL[status])
    if isinstance(logger, WandbLogger):  # one run a process at a time: a sweep's next needs its own
        logger.experiment.finish(exit_code=0 if status == "FINISHED" else 1)
