"""What the answers of any model are worth, for `myosotis evaluate … task.metric=reward`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from omegaconf import DictConfig

from myosotis.commands.find_model import template_options
from myosotis.commands.parts import attempts_of
from myosotis.commands.rewarding import require_rewards, rewards_of
from myosotis.config import instantiate
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.convert import viewed
from myosotis.data.example import clusters
from myosotis.data.kinds import REWARD
from myosotis.data.sft import Example
from myosotis.evaluation import results, samples, task_metrics
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.task_metrics import METRICS, TaskScore
from myosotis.models.load import BaseModel
from myosotis.records.schema import TaskQuality
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.rewards.together import Rewards
from myosotis.tracking.run_tracker import RunTracker
from myosotis.trees.scorer import Scorer
from myosotis.utils.console import console, progress
from myosotis.utils.errors import DataError


@dataclass(frozen=True)
class Reference:
    """The base that a tuned model is compared with; inside `there()` its scorer is the base's."""

    model: BaseModel
    scorer: Scorer
    there: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class RewardTask:
    """Held-out prompts, and what answers to them are worth."""

    cfg: DictConfig
    examples: Sequence[Example]
    rewards: Rewards

    @classmethod
    def of(cls, cfg: DictConfig) -> RewardTask:
        """Read the data of `cfg` and load its rewards. Raises `DataError` without two prompts."""
        dataset = viewed(instantiate.dataset(cfg), "answers", cfg.objective.name)
        examples = dataset.test[: cfg.task.generate]
        if len(examples) < 2:
            raise DataError(
                f"{dataset.name} holds out {len(examples)} prompts; 2 at least are needed to say "
                "what answers are worth",
                "data.test_path=FILE, or task.generate=64",
            )
        require_rewards(cfg)
        rewards = rewards_of(cfg)
        assert rewards is not None  # refused by `check`
        return cls(cfg, examples, rewards)

    def measure(
        self,
        kept: RunTracker,
        scorer: Scorer,
        model: BaseModel,
        reference: Reference | None = None,
    ) -> None:
        """Measure the tuned model, and its base where there is one; kept in the record."""
        after = self._answers(scorer, model, "tuned")
        metric = self.cfg.task.metric
        if reference is None:
            further = [alone(after[name]) for name in self._metrics if name != metric]
            kept.record.task = replace(alone(after[metric]), extra=further)
            kept.log({f"task/{name}": score.mean for name, score in after.items()}, step=0)
            said = f"{metric} {after[metric].mean:.3f}, the mean of {len(self.examples)} prompts"
            console.print(said, highlight=False)
            return
        with reference.there():
            before = self._answers(reference.scorer, reference.model, "base")
        nothing = Measurement({})
        sides = EvalResult(nothing, before), EvalResult(nothing, after)
        kept.record.task = results.task_summary(*sides, metric)
        kept.record.samples = samples.samples(self.examples, *sides)
        kept.log({f"task/{name}": score.mean for name, score in after.items()}, step=0)

    @property
    def _metrics(self) -> list[str]:
        """What is decided by, and what is asked for beside it, of answers that are written."""
        task = self.cfg.task
        further = [n for n in task.metrics if n in METRICS and METRICS[n].generates]
        return list(dict.fromkeys([task.metric, *further]))

    def _answers(self, scorer: Scorer, model: BaseModel, who: str) -> dict[str, TaskScore]:
        cfg = self.cfg
        template = ChatRenderer(model.tokenizer, cfg.data.template, template_options(cfg))
        with progress(f"answers, {who}", total=len(self.examples)) as advance:
            found = task_metrics.measure(
                list(dict.fromkeys([REWARD, *self._metrics])),
                scorer,
                template,
                self.examples,
                rewards=self.rewards,
                max_new_tokens=cfg.task.max_new_tokens,
                advance=advance,
                attempts=attempts_of(cfg),
            )
        names = clusters(self.examples)
        return {name: score.clustered(names) for name, score in found.items()}


def alone(score: TaskScore) -> TaskQuality:
    """The quality of a model that there is no base to compare with."""
    return TaskQuality(
        metric=score.metric,
        higher_is_better=score.higher_is_better,
        tuned=score.mean,
        n=len(score.scores),
        unit=score.unit,
    )
