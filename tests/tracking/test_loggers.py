"""Loggers beside MLflow in a run: told everything, ended with the run's own status."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

from myosotis.tracking.jsonl_logger import JsonlLogger
from myosotis.tracking.loggers import finish, identity
from myosotis.tracking.null_logger import NullLogger
from myosotis.tracking.run_tracker import track
from myosotis.utils.errors import Interrupted, RunError


class Ends(Logger):
    """Keeps what it is told."""

    name = version = ""  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.told.append((step, metrics))

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def finalize(self, status: str) -> None:
        self.told.append(status)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "success"),
        (RunError("diverged"), "failed"),
        (ZeroDivisionError(), "failed"),
        (Interrupted(15, 3), "aborted"),
    ],
)
def test_a_logger_hears_how_the_run_ended(
    error: BaseException | None, status: str, tmp_path: Path
) -> None:
    logger = Ends()
    try:
        with track(
            tmp_path, NullLogger(), run_name="a", command=[], config={}, config_hash=""
        ) as kept:
            kept.loggers.append(logger)
            kept.log({"val/loss": 2.0}, step=7)
            if error:
                raise error
    except (RunError, ZeroDivisionError, Interrupted) as caught:
        assert caught is error
    assert logger.told == [(7, {"val/loss": 2.0}), status]


def test_csv_goes_on_after_lightning_has_finalized_it(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="csv", flush_logs_every_n_steps=1)
    logger.log_hyperparams({"optimizer.lr": 0.1})
    logger.log_metrics({"train/loss": 3.0}, step=1)
    logger.finalize("success")
    logger.log_metrics({"val/loss": 2.0}, step=1)
    finish(logger, "FINISHED")
    with (tmp_path / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "1", "train/loss": "3.0", "val/loss": ""},
        {"step": "1", "train/loss": "", "val/loss": "2.0"},
    ]
    assert "0.1" in (tmp_path / "csv" / "version_0" / "hparams.yaml").read_text()


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)
def test_tensorboard_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore
        EventAccumulator,
    )

    for step in (1, 2):  # the second is a run that is resumed
        logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
        logger.log_hyperparams({"optimizer.lr": 0.1})
        logger.log_metrics({"train/loss": 3.0 - step}, step=step)
        finish(logger, "FINISHED")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]


def test_wandb_goes_on_in_the_run_of_the_same_id() -> None:
    assert identity("a name", "an id", WandbLogger) == {"name": "a name", "id": "an id"}
    assert identity("a name", "an id", CSVLogger) == {}


def test_values_item_by_item_lie_beside_the_curves_and_are_rewound_with_them(
    tmp_path: Path,
) -> None:
    """They are no points of a curve; of two measurements at a step the last counts."""
    kept = JsonlLogger(tmp_path / "metrics.jsonl")
    for step in (4, 8):
        kept.log_metrics({"val/reward": step / 10}, step)
        kept.log_values(step, {"reward": [step, 0.0], "cluster": ["a", None]})
    kept.log_values(8, {"reward": [9, 0.0]})
    assert [(p.step, p.name, p.value) for p in kept.points()] == [
        (4, "val/reward", 0.4),
        (8, "val/reward", 0.8),
    ]
    assert kept.values()[8] == {"reward": [9, 0.0], "cluster": ["a", None]}
    kept.rewind(4)
    assert kept.values() == {4: {"reward": [4, 0.0], "cluster": ["a", None]}}
