"""The LightningModule: one training step is one optimiser step over `data.batch_size` examples.

The step is defined by its examples. How they are packed into rows, how many rows run at a time and
how many ranks share them changes nothing but rounding: the loss of every row is divided by the
scored tokens, or pairs, of the whole step on all ranks, and gradients are summed once at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self, TypeVar

import lightning
import torch
from torch import Tensor

from myosotis.controls import Step
from myosotis.controls.together import Controls
from myosotis.objectives import Objective
from myosotis.objectives.reference_logprobs import live
from myosotis.objectives.total import kl_estimate, total
from myosotis.training import optim
from myosotis.training.rollout import Rollouts
from myosotis.training.work_estimate import Work
from myosotis.trees.batch import Batch
from myosotis.trees.passes import batches_on_all_ranks
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update
from myosotis.updates.tensors import whole
from myosotis.utils import distributed, rank_failure
from myosotis.utils.errors import RunError, out_of_memory

Made = TypeVar("Made")


class FineTuning(lightning.LightningModule):
    """An update, an objective and how to step; batches are lists of token trees."""

    def __init__(
        self,
        update: Update,
        objective: Objective,
        scorer: Scorer,
        *,
        optimizer: optim.OptimizerFactory,
        schedule: optim.Schedule,
        weight_decay: float = 0.0,
        gradient_clip_val: float | None = 1.0,
        layer_decay: float = 1.0,
        controls: Controls | None = None,
        rollouts: Rollouts | None = None,
        sources: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = update.model
        self.update = update
        self.objective = objective
        self.scorer = scorer
        self.optimizer_factory = optimizer
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.gradient_clip_val = gradient_clip_val
        self.layer_decay = layer_decay
        self.controls = controls or Controls()
        self.rollouts = rollouts  # of an objective that learns from the model's own answers
        self.sources = sources  # of several: which each training example is of
        self.source_names = sorted(set(sources))
        self.metrics: dict[str, Tensor] = {}  # this rank's share of the objective's own
        self.kl_estimate = 0.0  # of the step, over all ranks (`BranchLogProbs.kl_estimate`)
        self.work = Work()  # read by the model on all ranks, prompts included
        self._step_work = Work()  # in the step, on this rank

    def configure_optimizers(self) -> torch.optim.Optimizer:
        lr = self.optimizer_factory.keywords.get("lr")
        rates = optim.lr_multiplier(self.update, self.layer_decay)
        groups = optim.parameter_groups(self.update.parameters(), self.weight_decay, lr, rates)
        device = next(p.device for _, p in self.update.parameters())
        optimizer = optim.for_device(self.optimizer_factory, device)(groups)
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def on_fit_start(self) -> None:
        # `from_pretrained` returns evaluation mode, where gradient checkpointing is silently off.
        self.model.train()
        self.update.verify(self.optimizers().optimizer)  # type: ignore[union-attr]

    def on_train_start(self) -> None:
        self._set_lr(self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._set_lr(self.global_step)  # of the step to come: `LearningRateMonitor` reads it there

    def _set_lr(self, step: int) -> None:
        """The rates of a step are a function of the step: nothing to save or restore."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        for group, peak in zip(optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.schedule.factor(step)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return batch  # trees become tensors, and move, when they are packed into rows

    def training_step(self, batch: Sequence[Tree], batch_idx: int) -> dict[str, Any]:
        """Move once; logs and returns the step's metrics, the same on every rank.

        Raises `RunError` on a non-finite loss.
        """
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        step = self.global_step
        began = time.perf_counter()
        batch, sampled = self._sampled(step, batch)
        normalizer = distributed.total(sum(self.objective.normalizer(tree) for tree in batch))
        loss_here = self._accumulate(batch, normalizer)
        distributed.sum_gradients([p for _, p in self.update.parameters()])
        self.controls.hold(step, self.update.parameters())
        gradients = [p.grad for _, p in self.update.parameters() if p.grad is not None]
        sums = {"loss": loss_here, **self.metrics}
        norm_here = whole(torch.nn.utils.get_total_norm(gradients))
        told = distributed.summed(sums, {"grad_norm": norm_here})
        loss, norm = told["loss"], told["grad_norm"]
        optim.require_finite(loss, norm, step)
        optim.clip(gradients, norm, self.gradient_clip_val)
        self._set_lr(step)
        with _told_what_helps():
            optimizer.step()
        told = _of_sources(told, self.source_names)
        told |= {"lr": optimizer.param_groups[0]["lr"], **self.controls.metrics(norm)}
        metrics = {f"train/{name}": value for name, value in told.items()}
        metrics |= self._spent(sampled, time.perf_counter() - began)
        self.say(metrics, prog_bar=True)
        return metrics

    def say(self, metrics: Mapping[str, float], *, prog_bar: bool = False) -> None:
        """Let callbacks see them; the loggers get them from `callbacks.write`, each once and at its
        own step. On the host: Lightning would put numbers on the device, and wait there for each
        whenever somebody asks for one."""
        there = {name: torch.tensor(value) for name, value in metrics.items()}
        self.log_dict(
            there, on_step=True, on_epoch=False, logger=False, prog_bar=prog_bar, batch_size=1
        )

    def _sampled(self, step: int, batch: Sequence[Tree]) -> tuple[Sequence[Tree], dict[str, float]]:
        """What a step learns from, and what is said of it: the examples themselves, or the model's
        own answers to their prompts."""
        if self.rollouts is None:
            return batch, {}
        now = self.rollouts.of_step(step, batch, self.scorer)
        return now.trees, now.metrics

    def _spent(self, told: dict[str, float], seconds: float) -> dict[str, float]:
        """What was said of a round, and the seconds that each part of this step took."""
        if self.rollouts is None:
            return {}
        spent, self.rollouts.seconds = self.rollouts.seconds, {}
        parts = {name: spent.get(name, 0.0) for name in ("sampling", "scoring")}
        parts["learning"] = seconds - sum(parts.values())
        told = told | {f"seconds/{name}": value for name, value in parts.items()}
        return {f"train/{name}": value for name, value in told.items()}

    def progress(self, metrics: Mapping[str, float]) -> str:
        """What the bar says after a step: the loss; of a policy its reward and where time goes."""
        if self.rollouts is None:
            return f"loss {metrics['train/loss']:.3f}"
        parts = {n: metrics[f"train/seconds/{n}"] for n in ("sampling", "scoring", "learning")}
        whole = max(sum(parts.values()), 1e-9)
        shares = ", ".join(f"{name} {value / whole:.0%}" for name, value in parts.items())
        return f"reward {metrics['train/reward']:.3f} ({shares})"

    def _with_reference(self, trees: Sequence[Tree]) -> Sequence[Tree]:
        """The trees with the reference's log-probs: where they carry none, the base is asked now.

        Before the forward pass that will be differentiated: an update may swap weights for it.
        """
        bare = any(tree.reference is None for tree in trees)
        if self.objective.needs_reference and distributed.on_any(bare):
            trees = self._live(trees)
        self.kl_estimate = kl_estimate(self.scorer, self.objective, trees, distributed.total)
        return trees

    def _live(self, trees: Sequence[Tree]) -> Sequence[Tree]:
        """The references of these trees, in the rows of the step. Out of memory: as below."""
        while True:
            with self.update.disabled():
                found = self._tried(lambda: live(trees, self.scorer))
            if self._room(found is None) is not None and found is not None:
                return found

    def _accumulate(self, batch: Sequence[Tree], normalizer: float) -> Tensor:
        """Backward over all rows; returns this rank's share of the step's loss.

        Out of memory: the rows at a time are halved and the step begins anew, which changes
        nothing but the time. All ranks begin anew together, since they exchange numbers in a
        step's course.
        """
        while True:
            trees = self._with_reference(batch)
            loss = self._tried(partial(self._accumulate_once, trees, normalizer))
            read = self._room(loss is None, self._step_work)
            if read is not None and loss is not None:
                self.work = Work(*(a + b for a, b in zip(self.work, read, strict=True)))
                return loss

    def _room(self, failed: bool, amounts: Sequence[float] = ()) -> list[float] | None:
        """The sums of `amounts` over the ranks; None where the memory of any ran out, which then
        takes half as many rows at a time. Raises `RunError` where it had one."""
        ends = failed and self.scorer.rows_at_once == 1
        lacking, ended, *sums = distributed.totals([failed, ends, *amounts])
        if ended:
            raise RunError(
                f"out of memory with one row of {self.scorer.row_tokens} tokens at a time",
                "trainer.gradient_checkpointing=true or a smaller data.row_tokens helps",
            )
        if not lacking:
            return sums
        if failed:
            self.scorer.rows_at_once //= 2
        torch.cuda.empty_cache()
        return None

    def _tried(self, work: Callable[[], Made]) -> Made | None:
        """What `work` makes; None where this rank's memory ran out."""
        try:
            return work()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if self.scorer.lockstep:
                raise rank_failure.left_alone(error) from error
        return None

    def _accumulate_once(self, trees: Sequence[Tree], normalizer: float) -> Tensor:
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        self._step_work = Work()
        if self.controls:
            ranks = self.global_rank, self.trainer.world_size
            at = Step.of(self.global_step, trees, self.scorer, self._backward, *ranks)
            self.controls.accumulate(at, self.update.parameters())
        loss, self.metrics = total(
            self.scorer,
            self.objective,
            trees,
            batches_on_all_ranks(self.scorer, trees),
            normalizer=normalizer,
            kl_estimate=self.kl_estimate,
            each=self._learn,
            sources=[self.sources[tree.example] for tree in trees] if self.sources else (),
            names=self.source_names,
        )
        return loss

    def _learn(self, batch: Batch, loss: Tensor) -> None:
        self._backward(loss)
        tokens, pairs = self._step_work
        self._step_work = Work(tokens + batch.layout.tokens, pairs + batch.layout.pairs)

    def _backward(self, loss: Tensor, gradient: Tensor | None = None) -> None:
        self.manual_backward(loss, gradient=gradient)

    def cpu(self) -> Self:
        """Stays where it is: Lightning would move the model to the CPU when training ends, and what
        is measured afterwards is to be measured where it trained."""
        return self

    # Checkpoints hold what moves and nothing else.

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.update.state_dict()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.rollouts is not None:
            checkpoint["rollouts"] = self.rollouts.state_dict()
        checkpoint["controls"] = self.controls.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.rollouts is not None and "rollouts" in checkpoint:
            self.rollouts.load_state_dict(checkpoint["rollouts"])
        self.controls.load_state_dict(checkpoint.get("controls", {}))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        self.update.load_state_dict(state_dict)


@contextmanager
def _told_what_helps() -> Iterator[None]:
    """The optimiser makes its state at the first step, when rows have found their room already."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise RunError(
            "out of memory in the optimiser's step",
            "optimizer=adamw8bit or lion keeps less beside each trained number, update=lora trains "
            "fewer; `myosotis plan` says what fits",
        ) from error


def _of_sources(told: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """With the loss of each source: what was summed of it over its share of the step. A source
    that has nothing in a step has no loss there."""
    found = dict(told)
    for name in names:
        loss, share = found.pop(f"loss/{name}"), found.pop(f"share/{name}")
        if share > 0:
            found[f"loss/{name}"] = loss / share
    return found
