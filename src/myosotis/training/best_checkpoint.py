"""The best checkpoint of a training, and when a training should end.

The best one has the lowest held-out loss among those whose benchmarks are inside the budget
(`Budget.accepts`). `SelectionState` is the rule, on numbers; `BestCheckpoint` keeps the weights and
puts them back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import Checkpoint
from myosotis.records.verdict import Verdict
from myosotis.training.callbacks import AtomicCheckpointIO, telling_of_a_full_disk
from myosotis.updates.base import Update
from myosotis.utils import distributed
from myosotis.utils.errors import RunError

OnBreach = Literal["warn", "stop", "rollback"]


@dataclass(frozen=True)
class EvalPoint:
    """One measurement while training."""

    step: int
    loss: float  # of held-out examples; lower is better
    verdict: str  # of the benchmarks; empty where there is none
    inside: bool  # the budget accepts that verdict


@dataclass
class SelectionState:
    """What the measurements of a run came to; kept in its checkpoint, for a resumed run.

    `ended` says why the training should end: `breach` (the benchmarks have forgotten more than the
    budget allows), `patience` (too many measurements without a better checkpoint), or nothing.
    """

    best: EvalPoint | None = None
    seen: int = 0
    since: int = 0  # measurements since the best one, or since the beginning
    ended: str = ""

    def see(self, now: EvalPoint, *, on_breach: OnBreach, patience: int | None) -> bool:
        """Take a measurement in; returns whether it is the best so far."""
        self.seen += 1
        better = now.inside and math.isfinite(now.loss)
        better = better and (self.best is None or now.loss < self.best.loss)
        if better:
            self.best = now
        self.since = 0 if better else self.since + 1
        if now.verdict == Verdict.FORGOTTEN and on_breach != "warn":
            self.ended = "breach"
        elif patience is not None and self.since >= patience:
            self.ended = "patience"
        return better

    def state(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any]) -> SelectionState:
        """Read `state` back."""
        found = cls(**{name: value for name, value in state.items() if name != "best"})
        found.best = EvalPoint(**state["best"]) if state["best"] else None
        return found


class BestCheckpoint(Callback):
    """Takes the measurements of the first rank in (`offer`), between `PeriodicEval` and `SaveLast`.

    With `on_breach=rollback` the tensors that train are kept, as they were at the best step, in a
    file beside `last.ckpt`. The file of the step that `last.ckpt` speaks of stays until the next
    `last.ckpt` is written, so that a kill at any moment leaves both.
    """

    def __init__(
        self, update: Update, folder: RunFolder, *, on_breach: OnBreach, patience: int | None
    ) -> None:
        self.update, self.folder = update, folder
        self.on_breach: OnBreach = on_breach
        self.patience = patience
        self.course = SelectionState()
        self._offered: tuple[float, str, bool] | None = None
        self._saved: int | None = None  # the best step that last.ckpt speaks of

    @property
    def chooses(self) -> bool:
        """Whether the run ends with the best checkpoint instead of the last."""
        return self.on_breach == "rollback"

    @property
    def needs_loss(self) -> bool:
        """Whether a measurement is to come with the held-out loss."""
        return self.chooses or self.patience is not None

    def offer(self, loss: float, verdict: str, inside: bool) -> None:
        """What was measured after this step."""
        self._offered = loss, verdict, inside

    def agree(self) -> None:
        """After a measurement, on every rank: all know what the first one was offered."""
        if distributed.several():
            self._offered = distributed.told(self._offered)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._saved = self.course.best.step if self.course.best else None
            self._drop_others()  # what was measured after last.ckpt is measured again
        if self.course.ended:  # killed after the training had ended
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._offered is None:
            return
        now, self._offered = EvalPoint(trainer.global_step, *self._offered), None
        better = self.course.see(now, on_breach=self.on_breach, patience=self.patience)
        if better and self.chooses:
            tensors = self.update.state_dict()  # of all ranks, where it is spread over them
            if trainer.is_global_zero:
                path = self.folder.best(now.step)
                with telling_of_a_full_disk(path):
                    AtomicCheckpointIO().save_checkpoint(tensors, path)
                self._drop_others()
        if self.course.ended:
            trainer.should_stop = True

    def _drop_others(self) -> None:
        kept = {self._saved, self.course.best.step if self.course.best else None}
        paths = {self.folder.best(step) for step in kept if step is not None}
        for path in self.folder.checkpoint.parent.glob("best-*.ckpt"):
            if path not in paths:
                path.unlink()

    def state_dict(self) -> dict[str, Any]:
        self._saved = self.course.best.step if self.course.best else None
        return self.course.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.course = SelectionState.of(state_dict)

    def finish(self, last_step: int, warn: Callable[[str], None]) -> Checkpoint | None:
        """After training: put the best weights back where they were asked for, and say so.

        None where neither a checkpoint was chosen nor the training ended before its time.
        """
        best = self.restore(last_step) if self.chooses else None
        if self.chooses and best is None:
            warn("no checkpoint was shown to be inside the budget: the last weights stay")
        if not (self.chooses or self.course.ended):
            return None
        return Checkpoint(
            step=best.step if best else last_step,
            last_step=last_step,
            ended=self.course.ended,
            seen=self.course.seen,
            chosen=best is not None,
            loss=best.loss if best else None,
        )

    def restore(self, last_step: int) -> EvalPoint | None:
        """Put the best weights back; None when no measurement was inside the budget.

        Raises `RunError` when their file is gone.
        """
        best = self.course.best
        if best is None or best.step == last_step:
            return best
        path = self.folder.best(best.step)
        try:
            self.update.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except OSError as error:
            raise RunError(
                f"the best checkpoint {path} cannot be read: {error.strerror}",
                "retention.on_breach=stop ends with the last weights instead",
            ) from None
        return best
