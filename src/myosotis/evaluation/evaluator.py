"""Examining a model: what it keeps (benchmarks) and how good it is at the task, in one sitting.

The same examination is held on the base before anything is attached, during and after training,
and on the update dialled to other strengths; so that everything a run reports is a difference
between two sittings.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from myosotis.data import few_shot
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example
from myosotis.evaluation import preference_metrics, task_metrics
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.objectives import Objective, gained, others, with_reference
from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.measure import Measurement, measure
from myosotis.retention.benchmarks.task import Half, Suite
from myosotis.trees.scorer import Scorer, evaluating
from myosotis.trees.tree import Tree
from myosotis.utils.console import progress

WATCHED = 64
"""Held-out examples at most whose loss is watched while training. Every measurement asks the same
ones, so a curve is steadier than its level; five of them take 3 % of the default training."""


@dataclass
class EvalResult:
    """What one model scored."""

    retention: Measurement
    quality: dict[str, TaskScore]  # by metric; on generated texts only where those were asked for
    seconds: float = 0.0
    # Of the base alone: what tuning has to beat.
    prompted: FewShotBaseline | None = None
    rules: dict[str, TaskScore] = field(default_factory=dict)  # without any model, by name


@dataclass
class FewShotBaseline:
    """Task quality of a model that was shown solved examples in its prompt instead of tuned."""

    shots: int  # the most that any prompt has
    fewest: int  # in the prompt that had least room
    quality: dict[str, TaskScore]


@dataclass
class Evaluator:
    """The questions: a benchmark suite, and held-out examples of the task."""

    suite: Suite
    template: ChatRenderer
    examples: Sequence[Example]  # for the task's log-likelihood
    trees: Sequence[Tree]  # the same, as the model reads them
    generate: int = 0  # the first so many are also answered in words
    max_new_tokens: int = 64
    text_metrics: Sequence[str] = ("rougeL", "chrf")
    validation: Sequence[Tree] = field(default_factory=tuple)
    shots: Sequence[Example] = ()  # solved examples to prompt the base with
    max_length: int = 0  # tokens of the longest prompt with its answer
    pairs: bool = False  # each tree is a chosen and a rejected answer
    labels: int = 0  # how many there are, when answers are labels instead of text
    rewards: bool = False  # answers are given a number instead of a likelihood

    @property
    def scores_text(self) -> bool:
        """Whether the task is text and its likelihood, which a model can also write."""
        return not self.labels and not self.rewards

    def retention(self, scorer: Scorer, what: str) -> Measurement:
        """The benchmarks alone; `what` is shown on the progress bar."""
        return self.asked(self.suite, scorer, what)

    def asked(self, suite: Suite, scorer: Scorer, what: str) -> Measurement:
        """The same on a part of the suite."""
        with progress(f"benchmarks, {what}", total=suite.size) as advance:
            return measure(suite, EvalModel(scorer, self.template.tokenizer), advance)

    def quality(self, scorer: Scorer, what: str, *, texts: bool = True) -> dict[str, TaskScore]:
        """The task alone: log-likelihood on all examples, generated texts on the first few."""
        found = self._likelihoods(self.trees, scorer, what)
        written = list(self.examples[: self.generate]) if texts and self.scores_text else []
        if written:
            with progress(f"answers, {what}", total=len(written)) as advance:
                found |= task_metrics.measure(
                    self.text_metrics,
                    scorer,
                    self.template,
                    written,
                    max_new_tokens=self.max_new_tokens,
                    advance=advance,
                )
        return found

    def _likelihoods(
        self, trees: Sequence[Tree], scorer: Scorer, what: str
    ) -> dict[str, TaskScore]:
        """What needs no generation: log-likelihood, and the accuracy of labels or pairs."""
        with progress(f"task, {what}", total=len(trees)) as advance:
            if self.labels:
                return preference_metrics.classified(scorer, trees, self.labels, advance)
            if self.rewards:
                return preference_metrics.rewarded(scorer, trees, advance)
            if self.pairs:
                return preference_metrics.preferred(scorer, trees, advance)
            if any(tree.grade for tree in trees):
                return preference_metrics.graded(scorer, trees, advance)
            return {"loglik": task_metrics.loglik(scorer, trees, advance)}

    def prompted(self, scorer: Scorer, metric: str) -> FewShotBaseline | None:
        """Log-likelihood, and `metric` where it compares texts, with `shots` in the prompt."""
        answers = metric == "loglik" or task_metrics.METRICS[metric].generates
        if not self.shots or not self.scores_text or not answers:
            return None
        examples = list(self.examples)
        trees, used = few_shot.few_shot_trees(
            self.template, examples, self.shots, max_length=self.max_length
        )
        with progress("task, base with examples", total=len(trees)) as advance:
            found = {"loglik": task_metrics.loglik(scorer, trees, advance)}
        if metric != "loglik":
            written = [
                few_shot.few_shot_prompt(example, self.shots[:n], self.template)
                for example, n in zip(examples[: self.generate], used, strict=False)
            ]
            with progress("answers, base with examples", total=len(written)) as advance:
                found |= task_metrics.measure(
                    [metric],
                    scorer,
                    self.template,
                    written,
                    max_new_tokens=self.max_new_tokens,
                    advance=advance,
                )
        return FewShotBaseline(max(used, default=0), min(used, default=0), found)

    def sit(self, scorer: Scorer, what: str, *, texts: bool = True) -> EvalResult:
        """Everything, on the weights as they are now."""
        began = time.perf_counter()
        retention = self.retention(scorer, what)
        found = self.quality(scorer, what, texts=texts)
        return EvalResult(retention, found, time.perf_counter() - began)

    def rules(self) -> dict[str, TaskScore]:
        """What needs no model: of pairs, to pick by length, the way that is right more often."""
        if not self.pairs or self.labels:
            return {}
        return dict([preference_metrics.by_length(self.trees)])

    @cached_property
    def halves(self) -> dict[Half, Suite]:
        """The benchmark items that choose, and those that are reported."""
        return {"select": self.suite.half("select"), "report": self.suite.half("report")}

    def sit_half(
        self, scorer: Scorer, half: Half, what: str, known: Measurement | None = None
    ) -> EvalResult:
        """One half of it: what chooses (`select`: validation examples) or what is reported (test).

        `known` are the benchmarks of these weights, where they were asked already. Nothing is
        generated. Data without a validation part choose by their test examples, too.
        """
        began = time.perf_counter()
        retention = known.half(half) if known else self.asked(self.halves[half], scorer, what)
        trees = (half == "select" and self.validation) or self.trees
        found = self._likelihoods(trees, scorer, what)
        return EvalResult(retention, found, time.perf_counter() - began)

    def held_out(self, scorer: Scorer, objective: Objective) -> dict[str, float]:
        """The objective (`loss`) on the first `WATCHED` validation examples as on one step of them,
        and what it watches. Empty where there is no such part."""
        trees = self.validation[:WATCHED]
        size = sum(objective.normalizer(tree) for tree in trees)
        if not size:
            return {}
        kl_estimate, totals = 0.0, defaultdict[str, float](float)
        with (
            progress("held-out loss", total=len(trees)) as advance,
            evaluating(scorer.model),
        ):
            if objective.data_kind == "grades":
                elsewhere = others(trees)
                kl_estimate = gained(elsewhere, scorer.evaluate(elsewhere)) / max(1, len(elsewhere))
            for batch in scorer.batches(trees):
                branches = scorer.score(batch, uniform=objective.uniform)
                branches = with_reference(branches, trees, objective, kl_estimate)
                totals["loss"] += float(objective.loss(branches))
                for name, amount in objective.metrics(branches).items():
                    totals[name] += float(amount)
                advance(len(set(batch.tree_B.tolist())))
        return {name: total / size for name, total in totals.items()}
