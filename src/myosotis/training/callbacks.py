"""The callbacks of every run: when to seed, time, measure, save and stop.

What happens then is decided by plain functions elsewhere, and what the user's own callbacks hear of
it by `user_callbacks.py`. None of these callbacks leaves a trace in the training: the random
numbers of a step are a function of the seed, the step and the rank, and measuring restores what it
changes.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from myosotis.tracking.jsonl_logger import JsonlLogger
from myosotis.training.user_callbacks import UserCallbacks
from myosotis.training.work_estimate import Work
from myosotis.utils import distributed
from myosotis.utils.atomic_write import replacing
from myosotis.utils.console import console, progress
from myosotis.utils.errors import RunError


def write(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Write what the module has logged to every logger, once, at the current optimiser step.

    Not left to Lightning's `self.log(logger=True)`, which repeats the last value of what is
    measured now and then at every step after it, and counts steps from 0.
    """
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=trainer.global_step)
    seen = trainer.callback_metrics
    trainer.logged_metrics.update({name: seen[name] for name in metrics if name in seen})


class StepSeed(Callback):
    """Random numbers (dropout) as a function of seed, step and rank: nothing to save or restore."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(
            (self.seed * 1_000_003 + trainer.global_step) * 4099 + trainer.global_rank
        )


class Throughput(Callback):
    """Times the steps alone (not what is measured between them), logs them and draws the bar."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self.seconds = 0.0
        self.examples = 0
        self.work = Work()  # read by the model on all ranks
        self._before = Work()  # of this, before the run was resumed
        self._stack = ExitStack()
        self._advance: Callable[..., Any] = lambda *_: None
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, JsonlLogger):
                logger.rewind(trainer.global_step)  # a resumed run measures the rest again
        if trainer.global_step and trainer.is_global_zero:
            console.print(
                f"resuming from step {trainer.global_step} of {self.total_steps}", highlight=False
            )
        if trainer.progress_bar_callback is None:  # the user's own is drawn instead
            bar = progress("training", total=self.total_steps)
            self._advance = self._stack.enter_context(bar)
            self._advance(trainer.global_step)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seconds += time.perf_counter() - self._began
        self.examples += len(batch) * trainer.world_size
        now: Work = pl_module.work  # type: ignore[assignment]
        self.work = Work(*(sum(both) for both in zip(self._before, now, strict=True)))
        write(trainer, outputs)
        said = pl_module.progress(outputs)  # type: ignore[operator]
        self._advance(1, f"training, {said}")

    def state_dict(self) -> dict[str, Any]:
        counted = {"seconds": self.seconds, "examples": self.examples}
        return counted | self.work._asdict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.examples = state_dict["seconds"], state_dict["examples"]
        # A checkpoint of before pairs were counted has none.
        self.work = self._before = Work(state_dict["tokens"], state_dict.get("pairs", 0.0))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stack.close()


@dataclass
class ScheduledEval:
    """Something to measure at some steps: `measure(step)` returns metrics by name. `seconds` so
    far."""

    name: str
    measure: Callable[[int], dict[str, float]]
    steps: Set[int]
    seconds: float = 0.0


class PeriodicEval(Callback):
    """Measures at its evaluators' steps; weights and modes stay as they are. The first rank's
    numbers count, the others help it.

    What was measured is logged through the module on every rank, and `users` hear of it.
    """

    def __init__(self, evaluators: Sequence[ScheduledEval], users: UserCallbacks) -> None:
        self.evaluators = list(evaluators)
        self.users = users
        self._not_yet = {each.name for each in self.evaluators if each.steps}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = [each for each in self.evaluators if trainer.global_step in each.steps]
        if not due:
            return
        self.users.start_measuring(trainer, pl_module)
        names = set[str]()
        for evaluator in due:
            began = time.perf_counter()
            # On other ranks this is what helps the first one.
            metrics = evaluator.measure(trainer.global_step)
            metrics = trainer.strategy.broadcast(metrics)
            pl_module.say(metrics)  # type: ignore[operator]
            write(trainer, metrics)
            evaluator.seconds += time.perf_counter() - began
            names |= metrics.keys()
            self._not_yet.discard(evaluator.name)
        self.users.end_measuring(trainer, pl_module, names, complete=not self._not_yet)

    def state_dict(self) -> dict[str, Any]:
        return {evaluator.name: evaluator.seconds for evaluator in self.evaluators}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for evaluator in self.evaluators:
            evaluator.seconds = state_dict[evaluator.name]


class SaveLast(Callback):
    """Writes `last.ckpt` at its steps, at the end, and when the run is asked to stop."""

    def __init__(self, path: Path, steps: Iterable[int]) -> None:
        self.path = path
        self.steps = frozenset(steps)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step in self.steps or trainer.should_stop:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Raises `RunError` when the disk is full; the checkpoint before is still whole."""
        with telling_of_a_full_disk(self.path):
            trainer.save_checkpoint(self.path)


@contextmanager
def telling_of_a_full_disk(path: Path) -> Iterator[None]:
    """Raises `RunError` where writing the checkpoint `path` fails."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"the checkpoint {path} could not be written: {error.strerror or error}",
            "the checkpoint before it is kept; free space, then resume=last",
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint and swaps: a kill at any moment leaves a whole one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        try:
            beside = path.with_name(path.name + ".partial")
            with replacing(path, partial=beside), beside.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch wraps the operating system's error
            raise OSError(str(error)) from error


class StopOnSignal(Callback):
    """Ctrl-C and SIGTERM finish the step and stop; a second one stops at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.stopping = False  # this rank was told, or hears from another that the run stops
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def handle(signum: int, frame: FrameType | None) -> None:
            if self.received is not None:
                raise KeyboardInterrupt
            self.received = signum
            console.print("[yellow]stopping after this step (again: at once)[/]")

        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, handle)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # All ranks stop after the same step, whichever of them was told.
        told = self.received is not None or trainer.should_stop
        if distributed.on_any(told):
            self.stopping = self.received is not None or not trainer.should_stop
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()
