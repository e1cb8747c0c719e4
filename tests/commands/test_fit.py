"""Lightning's part of a run: what it makes of being stopped."""

from __future__ import annotations

import signal

import lightning
import pytest
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.demos.boring_classes import BoringModel

from myosotis.commands.fit import stopped_at_once
from myosotis.training.callbacks import StopOnSignal
from myosotis.utils.errors import Interrupted


class Raises(Callback):
    """Ends the first step with an exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_end(self, *args: object) -> None:
        raise self.error


def fit(error: BaseException) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Raises(error)],
    )
    with stopped_at_once(trainer, StopOnSignal()):
        trainer.fit(BoringModel())


def test_a_second_ctrl_c_stops_the_run_and_is_no_failure() -> None:
    """Lightning ends with `SystemExit` and ignores Ctrl-C from there on: the next trials of a sweep
    would run, and could not be stopped."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped by SIGINT after step 1") as told:
        fit(KeyboardInterrupt())
    assert told.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_who_ends_the_program_ends_it() -> None:
    with pytest.raises(SystemExit) as told:
        fit(SystemExit(3))
    assert told.value.code == 3
