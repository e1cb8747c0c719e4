"""What a run may say to MLflow, said to nobody: `tracking=none`, and the base of `MLflowLogger`.

Both offer the same methods, so a run needs no branch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from myosotis.records.schema import DataInfo, Status


class NullLogger(Logger):
    """`tracking=none`: every method of `MLflowLogger`, without effect."""

    run_id: str | None = None
    experiment_id: str | None = None
    no_files: str = ""
    """Why MLflow takes no files of this run, where it takes all the rest."""

    @property
    def name(self) -> str | None:
        return None

    @property
    def version(self) -> str | None:
        return self.run_id

    def start(self, record_id: str = "", *, again: bool = False) -> None:
        """Open the store and create or resume the run; raises ConfigError when that fails.

        `record_id` is the record's own, for it to be found by; `again`: the record was there
        before, and so may its run be.
        """

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log `metrics` (name: number or one-element tensor) at the optimiser step `step`."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log `params`, a nested mapping, as dotted keys. Log the searchable ones only."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set or replace tags."""

    def log_dataset(self, data: DataInfo) -> None:
        """What the run trains on, as an MLflow dataset input."""

    def log_artifact(self, path: str | os.PathLike[str], folder: str | None = None) -> None:
        """Copy a file, or what is in a folder, to the run's artifacts, under `folder`."""

    def flush(self) -> None:
        """Write what is buffered."""

    @property
    def incomplete(self) -> bool:
        """Whether MLflow lacks something of this run, for `myosotis sync` to bring."""
        return False

    def finish(self, status: Status, reason: str = "") -> None:
        """End the run. A later `start` with its run id takes it up again."""
