"""The user's own Lightning callbacks: what they are told of, and what their stopping leaves behind.

There is no validation loop: what is measured between two steps takes its place, and callbacks hear
of it through the same hooks, in Lightning's order (`on_validation_start`,
`on_validation_epoch_start`, the measurement, `on_validation_epoch_end`, `on_validation_end`). So
`EarlyStopping` and `ModelCheckpoint` count measurements of what they monitor, not epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar

from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError


def trainer_options(callbacks: Sequence[Callback]) -> dict[str, Any]:
    """What `Trainer` must be told for these callbacks to run, and for no others to be added.

    A validation by steps (not epochs), so that callbacks which leave open when they act wait for a
    measurement; and metrics of the user's own `self.log` at every step, as ours are.
    """
    return {
        "check_val_every_n_epoch": None,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "enable_checkpointing": any(isinstance(each, Checkpoint) for each in callbacks),
        "enable_progress_bar": any(isinstance(each, ProgressBar) for each in callbacks),
        "enable_model_summary": any(isinstance(each, ModelSummary) for each in callbacks),
    }


class UserCallbacks(Callback):
    """Tells `callbacks` of measurements, and keeps which of them ended the training.

    Stands after `PeriodicEval` and `BestCheckpoint` and before what saves, so that a checkpoint
    that one of them writes holds all of the step. `ended_otherwise()` says whether something else
    (the budget, a signal) ended the training. `stopped` is a sentence, empty while nothing did; a
    run resumed from a checkpoint that has one stays ended.
    """

    def __init__(self, callbacks: Sequence[Callback], ended_otherwise: Callable[[], bool]) -> None:
        self.callbacks = sorted(callbacks, key=lambda each: isinstance(each, Checkpoint))
        self.ended_otherwise = ended_otherwise
        self.stopped = ""
        self._measured_ever: set[str] = set()
        self._measured_now: set[str] | None = None
        self._complete = False

    def start_measuring(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before a measurement; on every rank."""
        for callback in self.callbacks:
            callback.on_validation_start(trainer, pl_module)
        for callback in self.callbacks:
            callback.on_validation_epoch_start(trainer, pl_module)

    def end_measuring(
        self, trainer: Trainer, pl_module: LightningModule, names: Set[str], *, complete: bool
    ) -> None:
        """After a measurement of `names`; `complete` once everything was measured at least once."""
        for callback in self.callbacks:
            callback.on_validation_epoch_end(trainer, pl_module)
        self._measured_now = set(names)
        self._measured_ever |= names
        self._complete = complete

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopped:
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(trainer, self.callbacks)  # one stopped in its own `on_train_batch_end`
        if self._measured_now is None:
            return
        for callback in self.callbacks:
            if self._concerns(callback, trainer):
                callback.on_validation_end(trainer, pl_module)
                self._note(trainer, [callback])
        self._measured_now = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note(trainer, self.callbacks)  # one stopped at the end of an epoch

    def _concerns(self, callback: Callback, trainer: Trainer) -> bool:
        """Whether what `callback` monitors is as new as this measurement.

        Raises `ConfigError` when everything was measured, and that is not among it.
        """
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str):
            return True
        known = trainer.callback_metrics
        if monitor not in known:
            if not self._complete:
                return False
            raise ConfigError(
                f"callbacks: {type(callback).__name__} monitors {monitor!r}, "
                "which nothing measures while training.",
                did_you_mean(monitor, sorted(known)),
            )
        assert self._measured_now is not None
        return monitor not in self._measured_ever - self._measured_now

    def _note(self, trainer: Trainer, suspects: Sequence[Callback]) -> None:
        if not trainer.should_stop or self.stopped or self.ended_otherwise():
            return
        who = " or ".join(type(each).__name__ for each in suspects) or "a callback"
        said = [getattr(each, "stopping_reason_message", None) for each in suspects]
        why = next((f" ({text.split('. Signaling')[0].rstrip('.')})" for text in said if text), "")
        self.stopped = f"stopped early by {who} at step {trainer.global_step}{why}"

    def state_dict(self) -> dict[str, Any]:
        return {"stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stopped = state_dict["stopped"]
