"""The user's own callbacks: they see what is measured, when it is measured, on every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger

from myosotis.training.callbacks import (
    AtomicCheckpointIO,
    PeriodicEval,
    SaveLast,
    ScheduledEval,
    StepSeed,
    Throughput,
)
from myosotis.training.user_callbacks import UserCallbacks, trainer_options
from myosotis.utils.errors import ConfigError
from tests.ranks import on_ranks
from tests.training.test_module import Steps, module, weights

# The held-out loss of steps 1, 2, …: the best is that of step 2.
LOSSES = (3.0, 2.0, 2.5, 2.25, 2.75, 4.0, 5.0, 6.0)


class Lines(Logger):
    """Keeps every call: (step, metrics)."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    name = "lines"  # type: ignore[assignment]
    version = ""  # type: ignore[assignment]

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.lines.append((step, dict(metrics)))

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def of(self, name: str) -> dict[int | None, list[float]]:
        steps: dict[int | None, list[float]] = {}
        for step, metrics in self.lines:
            if name in metrics:
                steps.setdefault(step, []).append(metrics[name])
        return steps


class Seen(Callback):
    """What a callback finds in the trainer after each step and after each measurement."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.measured: dict[int, dict[str, float]] = {}
        self.hooks: list[str] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.steps.append({k: v.item() for k, v in trainer.callback_metrics.items()})

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.hooks.append("start")

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.hooks.append("epoch end")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.hooks.append("end")
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.measured[trainer.global_step] = metrics
        self.logged = {name: value.item() for name, value in trainer.logged_metrics.items()}


class Run:
    """A training of eight steps as `commands/train.py` puts it together; `trainer` after it."""

    def __init__(
        self, *own: Callback, losses: Iterable[int] = range(1, 9), items: Any = ()
    ) -> None:
        self.own: Sequence[Callback] = own
        self.logger = Lines()
        self.model = module()
        self.stopped_otherwise = False
        measured = [
            ScheduledEval("validation", self.loss, frozenset(losses)),
            ScheduledEval("retention", lambda step: {"retention/mean": 0.5}, frozenset(items)),
        ]
        self.users = UserCallbacks(own, lambda: self.stopped_otherwise)
        self.evaluators = PeriodicEval(measured, self.users)

    def loss(self, step: int) -> dict[str, float]:
        return {"val/loss": LOSSES[self.model.global_step - 1]}

    def fit(self, folder: Path, checkpoint: Path | None = None, resume: int = 0) -> Run:
        self.trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=8,
            max_epochs=-1,
            logger=[self.logger],
            callbacks=[
                StepSeed(0),
                Throughput(8),
                *self.own,
                self.evaluators,
                self.users,
                SaveLast(folder / "last.ckpt", []),
            ],
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            val_check_interval=8,
            **trainer_options(self.own),
        )
        path = str(checkpoint) if checkpoint else None
        self.trainer.fit(self.model, Steps(resume), ckpt_path=path, weights_only=True)
        return self


def test_callbacks_see_the_step_and_each_measurement(tmp_path: Path) -> None:
    seen = Seen()
    run = Run(seen, losses=[3, 6], items=[4, 6]).fit(tmp_path)
    of_steps = {"train/loss", "train/grad_norm", "train/lr"}
    assert [set(metrics) for metrics in seen.steps[:3]] == [of_steps] * 3
    losses = [values[0] for values in run.logger.of("train/loss").values()]
    assert [metrics["train/loss"] for metrics in seen.steps] == pytest.approx(losses)
    assert seen.measured.keys() == {3, 4, 6}
    assert set(seen.measured[3]) == of_steps | {"val/loss"}
    assert seen.measured[4]["val/loss"] == 2.5  # still that of step 3
    assert seen.measured[6]["val/loss"] == 4.0 and seen.measured[6]["retention/mean"] == 0.5
    assert seen.logged == seen.measured[6]  # `logged_metrics`
    assert seen.hooks == ["start", "epoch end", "end"] * 3


def test_each_metric_reaches_a_logger_once_and_at_its_own_step(tmp_path: Path) -> None:
    logger = Run(losses=[3, 6]).fit(tmp_path).logger
    assert {step: len(values) for step, values in logger.of("train/loss").items()} == dict.fromkeys(
        range(1, 9), 1
    )
    assert logger.of("val/loss") == {3: [2.5], 6: [4.0]}
    assert {name for _, metrics in logger.lines for name in metrics} == {
        *("train/loss", "train/grad_norm", "train/lr", "val/loss")
    }


def test_early_stopping_counts_measurements_of_what_it_monitors(tmp_path: Path) -> None:
    """2.0 at step 2 is the best; 2.5 and 2.25 are the two worse ones: it ends after step 4.

    What else is measured, at steps 1, 3 and 4, is no measurement of the loss.
    """
    stop = EarlyStopping(monitor="val/loss", patience=2)
    run = Run(stop, items=[1, 3, 4]).fit(tmp_path)
    assert run.trainer.global_step == 4
    assert run.users.stopped.startswith("stopped early by EarlyStopping at step 4 (")
    assert "val/loss did not improve in the last 2 records" in run.users.stopped
    sparse = Run(EarlyStopping(monitor="val/loss", patience=2), losses=[2, 5, 7], items=range(8))
    assert sparse.fit(tmp_path / "sparse").trainer.global_step == 7


def test_a_run_that_was_stopped_early_stays_ended_when_it_is_resumed(tmp_path: Path) -> None:
    first = Run(EarlyStopping(monitor="val/loss", patience=2)).fit(tmp_path)
    again = Run(EarlyStopping(monitor="val/loss", patience=2))
    again.fit(tmp_path, tmp_path / "last.ckpt", resume=4)
    assert again.trainer.global_step == 4
    assert again.users.stopped == first.users.stopped
    assert torch.equal(weights(again.model), weights(first.model))
    assert not again.logger.of("train/loss")


def test_what_ends_a_training_otherwise_is_not_laid_to_callbacks(tmp_path: Path) -> None:
    class Ends(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 2

    mine = Run(Ends()).fit(tmp_path)
    assert (mine.trainer.global_step, mine.users.stopped) == (2, "stopped early by Ends at step 2")
    other = Run(Ends())
    other.stopped_otherwise = True
    assert other.fit(tmp_path).users.stopped == ""


def test_model_checkpoint_keeps_the_best_step_and_training_goes_on_from_it(tmp_path: Path) -> None:
    """The best is step 2; from its file the training ends, bit for bit, as it did."""
    keep = ModelCheckpoint(dirpath=tmp_path / "best", monitor="val/loss")
    whole = Run(keep).fit(tmp_path)
    (path,) = (tmp_path / "best").iterdir()
    assert keep.best_model_path == str(path) and path.name == "epoch=0-step=2.ckpt"
    assert keep.best_model_score == 2.0
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 2
    assert saved["state_dict"].keys() == dict(whole.model.update.parameters()).keys()
    again = Run(ModelCheckpoint(dirpath=tmp_path / "best", monitor="val/loss"))
    again.fit(tmp_path, path, resume=2)
    assert torch.equal(weights(again.model), weights(whole.model))


def test_model_checkpoint_by_steps_works_too(tmp_path: Path) -> None:
    keep = ModelCheckpoint(dirpath=tmp_path / "all", every_n_train_steps=3, save_top_k=-1)
    Run(keep, losses=[]).fit(tmp_path)
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert names == {"epoch=0-step=3.ckpt", "epoch=0-step=6.ckpt"}


def test_learning_rate_monitor_needs_no_scheduler(tmp_path: Path) -> None:
    """Two steps of warm-up towards 1e-2, then linear over six: 1/3, 2/3, 1, 5/6, 4/6, …"""
    monitor = LearningRateMonitor(logging_interval="step")
    logger = Run(monitor).fit(tmp_path).logger
    wanted = [1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert monitor.lrs["lr-AdamW"] == pytest.approx([factor * 1e-2 for factor in wanted])
    ours = [values[0] for values in logger.of("train/lr").values()]
    assert monitor.lrs["lr-AdamW"] == ours


def test_a_monitor_of_nothing_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EarlyStopping monitors 'val/los'") as caught:
        Run(EarlyStopping(monitor="val/los"), items=[3]).fit(tmp_path)
    assert caught.value.hint == "Did you mean val/loss?"


def test_watching_changes_no_weight(tmp_path: Path) -> None:
    bare = Run(losses=[]).fit(tmp_path)
    makers: list[Callable[[], Callback]] = [
        Seen,
        LearningRateMonitor,
        lambda: EarlyStopping(monitor="val/loss", patience=99),
        lambda: ModelCheckpoint(dirpath=tmp_path / "best", monitor="val/loss"),
    ]
    watched = Run(*(make() for make in makers), items=range(9)).fit(tmp_path)
    assert watched.trainer.global_step == 8
    assert torch.equal(weights(watched.model), weights(bare.model))


TWO_RANKS = """
import json, os, sys, torch
from pathlib import Path
from torch.utils.data import DataLoader
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
import lightning
from tests.training.test_module import examples
from tests.training.test_user_callbacks import Run, Seen
from myosotis.training.strategy import Ranks
from myosotis.training.user_callbacks import trainer_options

folder, rank = Path(sys.argv[1]), int(os.environ.get("LOCAL_RANK", 0))
seen = Seen()
own = [
    seen,
    LearningRateMonitor(),
    EarlyStopping(monitor="val/loss", patience=2),
    ModelCheckpoint(dirpath=folder / "best", monitor="val/loss"),
]
run = Run(*own)
if rank:  # helps the first, whose numbers count
    run.evaluators.evaluators[0].measure = lambda step: {"val/loss": 99.0}
trees = examples(24)
steps = [trees[k : k + 3][rank::2] for k in range(0, 24, 3)]
trainer = lightning.Trainer(
    accelerator="cpu", devices=2, strategy=Ranks(), max_steps=8, max_epochs=-1, logger=[run.logger],
    callbacks=[*own, run.evaluators, run.users], use_distributed_sampler=False,
    val_check_interval=8, **trainer_options(own),
)
trainer.fit(run.model, DataLoader(steps, batch_size=None))
told = {"step": trainer.global_step, "measured": seen.measured, "stopped": run.users.stopped}
(folder / f"rank{rank}.json").write_text(json.dumps(told))
"""


@pytest.mark.slow
def test_two_ranks_see_the_same_and_end_together(tmp_path: Path) -> None:
    on_ranks(2, TWO_RANKS, tmp_path)
    first, second = ((tmp_path / f"rank{rank}.json").read_text() for rank in (0, 1))
    assert first == second
    assert '"step": 4' in first and '"val/loss": 2.25' in first
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["epoch=0-step=2.ckpt"]
