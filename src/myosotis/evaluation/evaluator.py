"""Measuring a model in full: what it keeps (benchmarks) and how good it is at the task.

The same is measured on the base before anything is attached, during and after training, and on the
update scaled to other strengths; so that everything a run reports is a difference between two
results of one evaluator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from myosotis.data import few_shot
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.example import clusters
from myosotis.data.kinds import RANKED, REWARD, SHOWN_METRICS, Advance, Answers, TaskKind
from myosotis.data.sft import Example
from myosotis.evaluation import task_metrics
from myosotis.evaluation.ranked_labels import ranked
from myosotis.evaluation.task_metrics import Attempts, Own, TaskScore, perplexity, scored
from myosotis.objectives import Objective, samples
from myosotis.objectives.total import kl_estimate, total
from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.measure import measure
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Half, Suite
from myosotis.rewards.together import Rewards
from myosotis.trees.scorer import Scorer, evaluating
from myosotis.trees.tree import Tree
from myosotis.utils.console import progress

WATCHED = 64
"""Held-out examples at most whose loss is watched while training. Every measurement asks the same
ones, so a curve is steadier than its level; five of them take 3 % of the default training."""

Keep = Callable[[Mapping[str, Sequence[Any]]], object]
"""Takes what a measurement found item by item, by name."""


@dataclass
class EvalResult:
    """What one model scored."""

    retention: Measurement
    quality: dict[str, TaskScore]  # by metric; on generated texts only where those were asked for
    seconds: float = 0.0
    # Of the base alone: what tuning has to beat.
    prompted: Sequence[PromptedBaseline] = ()
    rules: dict[str, TaskScore] = field(default_factory=dict)  # without any model, by name
    deploy: dict[str, TaskScore] = field(default_factory=dict)  # on what the model will see


@dataclass
class PromptedBaseline:
    """Task quality of a model that was asked otherwise instead of tuned: shown solved examples, or
    an instruction."""

    way: str  # solved | retrieved | instruction
    shots: int  # the most examples that any prompt has
    fewest: int  # in the prompt that had least room
    quality: dict[str, TaskScore]


@dataclass
class Evaluator:
    """The questions: a benchmark suite, and held-out examples of the task."""

    suite: Suite
    template: ChatRenderer
    examples: Sequence[Example]  # held out, for task quality
    trees: Sequence[Tree]  # the same, as the model reads them
    kind: TaskKind = field(default_factory=Answers)  # what they are
    generate: int = 0  # the first so many are also answered in words
    max_new_tokens: int = 64
    validation: Sequence[Tree] = field(default_factory=tuple)
    validation_kind: TaskKind | None = None  # where that differs: held-out pairs stay pairs
    validation_sources: Sequence[str] = ()  # of which of several sources each of `validation` is
    shots: Sequence[Example] = ()  # solved examples to prompt the base with
    retrieved: Sequence[Sequence[Example]] = ()  # others, for each of `examples`
    instruction: str = ""  # to prompt it with instead
    max_length: int = 0  # tokens of the longest prompt with its answer
    metrics: Sequence[str] = ()  # what is measured beside what the kind of task always is
    own: Own = field(default_factory=dict)  # metrics that are not ours
    rewards: Rewards | None = None  # what written answers are worth, beside their likeness
    attempts: Attempts = field(default_factory=Attempts)  # for pass@k and best of k
    labels: Sequence[str] = ()  # the different answers of the data, where they are to be ranked
    validation_examples: Sequence[Example] = ()  # `validation[i]` is of `validation_examples[i]`

    def retention(self, scorer: Scorer, what: str) -> Measurement:
        """The benchmarks alone; `what` is shown on the progress bar."""
        return self.asked(self.suite, scorer, what)

    def asked(self, suite: Suite, scorer: Scorer, what: str) -> Measurement:
        """The same on a part of the suite."""
        with progress(f"benchmarks, {what}", total=suite.size) as advance:
            return measure(suite, EvalModel(scorer, self.template.tokenizer), advance)

    def quality(self, scorer: Scorer, what: str, *, texts: bool = True) -> dict[str, TaskScore]:
        """The task alone: what needs no generation on all examples, texts on the first few."""
        by_metric = self._scored(self.kind, self.trees, scorer, what)
        if self.labels and texts:
            asked = [name for name in self.metrics if name in RANKED]
            with progress(f"labels, {what}", total=len(self.examples)) as advance:
                chosen = ranked(asked, scorer, self.template, self.examples, self.labels, advance)
            by_metric |= self._clustered(chosen)
        written = list(self.examples[: self.generate]) if texts and self.kind.is_text else []
        if written:
            with progress(f"answers, {what}", total=len(written)) as advance:
                texts_by_metric = self._answered(self._of_texts(), scorer, written, advance)
            by_metric |= self._clustered(texts_by_metric)
        return by_metric

    def _scored(
        self, kind: TaskKind, trees: Sequence[Tree], scorer: Scorer, what: str
    ) -> dict[str, TaskScore]:
        """What needs no generation, by metric."""
        with progress(f"task, {what}", total=len(trees)) as advance:
            scores, said = kind.measured(scorer, trees, advance)
        found = {metric: scored(metric, values) for metric, values in scores.items()}
        if "perplexity" in self.metrics:
            found["perplexity"] = perplexity(scores["loglik"], trees)
        if said is not None:
            wanted = np.array([int(tree.targets[tree.leaves[0]]) for tree in trees], np.int64)
            found["macro_f1"] = task_metrics.macro_f1(scores["accuracy"], wanted, said)
        return (
            self._clustered(found)
            if trees is self.trees and len(trees) == len(self.examples)
            else found
        )

    def _answered(
        self,
        metrics: Sequence[str],
        scorer: Scorer,
        examples: Sequence[Example],
        advance: Advance,
    ) -> dict[str, TaskScore]:
        """Metrics of the answers that the model writes to some examples."""
        return task_metrics.measure(
            metrics,
            scorer,
            self.template,
            examples,
            rewards=self.rewards,
            max_new_tokens=self.max_new_tokens,
            advance=advance,
            own=self.own,
            attempts=self.attempts,
        )

    def _of_texts(self) -> list[str]:
        """Metrics of generated answers: those shown always, those asked for, and the reward."""
        asked = [name for name in self.metrics if task_metrics.metric(name, self.own).generates]
        rewarded = [REWARD] if self.rewards else []
        return list(dict.fromkeys([*SHOWN_METRICS, *asked, *rewarded]))

    def _clustered(self, found: dict[str, TaskScore]) -> dict[str, TaskScore]:
        names = clusters(self.examples)
        return {metric: score.clustered(names) for metric, score in found.items()}

    def prompted(self, scorer: Scorer, metric: str) -> list[PromptedBaseline]:
        """Log-likelihood, and `metric` where it compares texts, with other prompts: the same
        solved examples for all questions, those most like each, an instruction."""
        answers = metric == "loglik" or task_metrics.metric(metric, self.own).generates
        if not self.kind.is_text or not answers:
            return []
        examples = list(self.examples)
        asked: list[tuple[str, list[Example], list[Sequence[Example]]]] = []
        if self.shots:
            asked.append(("solved", examples, [self.shots] * len(examples)))
        if self.retrieved:
            asked.append(("retrieved", examples, list(self.retrieved)))
        if self.instruction:
            told = [
                few_shot.instructed(example, self.instruction, self.template)
                for example in examples
            ]
            asked.append(("instruction", told, [()] * len(examples)))
        return [self._prompted(scorer, metric, *one) for one in asked]

    def _prompted(
        self,
        scorer: Scorer,
        metric: str,
        way: str,
        examples: Sequence[Example],
        shots: Sequence[Sequence[Example]],
    ) -> PromptedBaseline:
        """One way of asking: `examples[i]` with `shots[i]` before it."""
        trees, used = few_shot.trees_of_each(
            self.template, examples, shots, max_length=self.max_length
        )
        with progress(f"task, base, {way}", total=len(trees)) as advance:
            by_metric = {"loglik": task_metrics.loglik(scorer, trees, advance)}
        if metric != "loglik":
            written = [
                few_shot.few_shot_prompt(example, before[:n], self.template)
                for example, before, n in zip(examples[: self.generate], shots, used, strict=False)
            ]
            with progress(f"answers, base, {way}", total=len(written)) as advance:
                by_metric |= self._answered([metric], scorer, written, advance)
        return PromptedBaseline(way, max(used, default=0), min(used, default=0), by_metric)

    def sit(self, scorer: Scorer, what: str, *, texts: bool = True) -> EvalResult:
        """Everything, on the weights as they are now."""
        began = time.perf_counter()
        retention = self.retention(scorer, what)
        quality = self.quality(scorer, what, texts=texts)
        return EvalResult(retention, quality, time.perf_counter() - began)

    def rules(self) -> dict[str, TaskScore]:
        """The accuracy of what needs no model."""
        rules = self.kind.rules(self.trees)
        return {name: scored("accuracy", values) for name, values in rules.items()}

    @cached_property
    def halves(self) -> dict[Half, Suite]:
        """The benchmark items that choose, and those that are reported."""
        return {"selection": self.suite.half("selection"), "report": self.suite.half("report")}

    def half_of_task(self, half: Half) -> tuple[TaskKind, Sequence[Tree]]:
        """The held-out examples of one half, and what they are."""
        if half == "selection" and self.validation:
            return self.validation_kind or self.kind, self.validation
        return self.kind, self.trees

    def sit_half(
        self, scorer: Scorer, half: Half, what: str, known: Measurement | None = None
    ) -> EvalResult:
        """One half of it: `selection` (validation examples) or `report` (test examples).

        `known` are the benchmarks of these weights, where they were asked already. Nothing is
        generated but what is given rewards. Data without a validation part choose by their test
        examples, too.
        """
        began = time.perf_counter()
        retention = known.half(half) if known else self.asked(self.halves[half], scorer, what)
        quality = self._scored(*self.half_of_task(half), scorer, what)
        if self.rewards is not None and self.kind.is_text:
            chosen = self.validation_examples if half == "selection" else ()
            quality |= self._rewarded(scorer, chosen or self.examples, what)
        return EvalResult(retention, quality, time.perf_counter() - began)

    def _rewarded(
        self, scorer: Scorer, examples: Sequence[Example], what: str
    ) -> dict[str, TaskScore]:
        """What the model's own answers to the first few examples are worth."""
        assert self.rewards is not None
        asked = examples[: self.generate]
        with progress(f"answers, {what}", total=len(asked)) as advance:
            return self._answered([REWARD], scorer, asked, advance)

    def held_out(
        self, scorer: Scorer, objective: Objective, keep: Keep | None = None
    ) -> dict[str, float]:
        """The objective (`loss`) on the first `WATCHED` validation examples as on one step of them,
        and its metrics; of several sources also the loss on each. Empty where there is no such
        part.

        Of an objective that samples, what the answers to the first few of them are worth; its
        `loss` is minus the rewards that are watched and not learned from, where there are any, and
        minus the reward otherwise. `keep` is called with what each prompt's answer was worth.
        """
        if samples(objective):
            return self._held_out_rewards(scorer, keep)
        trees = self.validation[:WATCHED]
        found = self._objective_on(trees, scorer, objective)
        sources = self.validation_sources[: len(trees)]
        for name in sorted(set(sources)) if len(set(sources)) > 1 else ():
            own = [tree for tree, source in zip(trees, sources, strict=True) if source == name]
            if measured := self._objective_on(own, scorer, objective):
                found[f"loss/{name}"] = measured["loss"]
        return found

    def _objective_on(
        self, trees: Sequence[Tree], scorer: Scorer, objective: Objective
    ) -> dict[str, float]:
        """The objective on trees as on one step of them, and its metrics; of one of several ranks
        that measure together its share of them."""
        normalizer = sum(objective.normalizer(tree) for tree in trees)
        if not normalizer:
            return {}
        with scorer.undivided():
            gained = kl_estimate(scorer, objective, trees)
        with (
            progress("held-out loss", total=len(trees)) as advance,
            evaluating(scorer.model),
        ):
            loss, metrics = scorer.with_room(
                lambda: total(
                    scorer,
                    objective,
                    trees,
                    scorer.my_batches(trees),
                    normalizer=normalizer,
                    kl_estimate=gained,
                    each=lambda batch, _: advance(len(set(batch.tree_B.tolist()))),
                )
            )
        return {"loss": float(loss)} | {name: float(amount) for name, amount in metrics.items()}

    def _held_out_rewards(self, scorer: Scorer, keep: Keep | None) -> dict[str, float]:
        asked = self.validation_examples[: min(self.generate, WATCHED)]
        if not asked or self.rewards is None:
            return {}
        found = self._rewarded(scorer, asked, "held out")
        means = {name: score.mean for name, score in found.items()}
        judges = [found[f"{REWARD}_{name}"] for name in self.rewards.watched if len(means) > 1]
        decides = np.mean([one.scores for one in judges or [found[REWARD]]], axis=0)
        loss = -float(decides.mean())
        if keep is not None:
            watched = {"watched": decides.tolist()} if judges else {}
            keep({REWARD: found[REWARD].scores.tolist(), **watched, "cluster": clusters(asked)})
        words = sum(len(text.split()) for text in found[REWARD].texts) / len(asked)
        return {"loss": loss, **means, "words": words}
