"""How good a model is at the task it is tuned for, on held-out examples.

Every metric gives a score an example, so that base and tuned model are compared in pairs; what is
no mean over examples (perplexity, macro-F1) has its own way to be computed on any of them
(`TaskScore.aggregate`). `loglik` needs no generation and exists for any data; metrics of text
compare a greedy answer with the reference (`text_scores.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myosotis.data import kinds
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.few_shot import answer_only
from myosotis.data.kinds import Advance, Scores
from myosotis.data.sft import Example
from myosotis.evaluation import text_scores
from myosotis.evaluation.text_scores import TextMetric, each
from myosotis.models.generate import end_ids, generate
from myosotis.rewards.together import Rewards
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.console import progress
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError


@dataclass(frozen=True)
class Metric:
    """What a number of task quality means."""

    name: str
    higher_is_better: bool
    unit: str
    score: Callable[[Sequence[str], Sequence[str]], Any] | None = None
    """Of texts and their references; None where log-probabilities are enough."""

    aggregated: bool = False  # no mean over examples
    rewards: bool = False  # of texts, by rewards instead of references

    @property
    def generates(self) -> bool:
        """Whether it needs texts."""
        return self.score is not None or self.rewards


SHARE = "share right"

METRICS = {
    metric.name: metric
    for metric in (
        Metric("loglik", True, "nats per token"),
        Metric("perplexity", False, "per token", aggregated=True),
        Metric("accuracy", True, SHARE),
        Metric("margin", True, "nats"),
        Metric("separation", True, "nats per token"),
        Metric("rougeL", True, "F1, 0 to 1", text_scores.rouge("rougeL")),
        Metric("rouge1", True, "F1, 0 to 1", text_scores.rouge("rouge1")),
        Metric("rouge2", True, "F1, 0 to 1", text_scores.rouge("rouge2")),
        Metric("chrf", True, "chrF, 0 to 100", text_scores.chrf),
        Metric("bleu", True, "BLEU, 0 to 100", text_scores.bleu),
        Metric("exact_match", True, SHARE, each(text_scores.exact_match)),
        Metric("numeric", True, SHARE, each(text_scores.numeric)),
        Metric("label_accuracy", True, SHARE, each(text_scores.label_accuracy)),
        Metric("macro_f1", True, "F1, 0 to 1", each(text_scores.label_accuracy), aggregated=True),
        Metric(kinds.RANKED_ACCURACY, True, SHARE),
        Metric(kinds.RANKED_MACRO_F1, True, "F1, 0 to 1", aggregated=True),
        Metric("json_valid", True, SHARE, each(text_scores.json_valid)),
        Metric("json_fields", True, "F1, 0 to 1", each(text_scores.json_fields)),
        Metric("sql_match", True, SHARE, each(text_scores.sql_match)),
        Metric(kinds.REWARD, True, "reward", rewards=True),
        Metric(kinds.PASS_AT_K, True, "chance that one of k answers is right", rewards=True),
        Metric(kinds.BEST_OF_K, True, "reward of the best of k answers", rewards=True),
    )
}
Own = Mapping[str, TextMetric]
"""Metrics that are not ours, by name."""

LONGEST_ANSWER = 256
"""Tokens generated at most when nothing else is asked for."""


@dataclass(frozen=True)
class Attempts:
    """How pass@k and best of k are asked for: `samples` answers to each prompt at a temperature, of
    which one takes `k`."""

    k: int = 1
    samples: int = 8
    temperature: float = 0.8
    seed: int = 0


Aggregate = Callable[[NDArray[np.int64]], float]
"""From the places of some examples, which may come more than once, to a number."""


@dataclass(frozen=True)
class TaskScore:
    """The scores of one model by one metric on n examples, in their order."""

    metric: str
    higher_is_better: bool
    unit: str
    scores: Scores  # (n,)
    texts: list[str] = field(default_factory=list)  # what was generated; empty for loglik
    references: list[str] = field(default_factory=list)
    clusters: Sequence[str | None] | None = None  # what an example shares with others
    aggregate: Aggregate | None = None  # what the metric is on some examples, where it is no mean

    def clustered(self, names: Sequence[str | None]) -> TaskScore:
        """The same with the clusters of the first examples; scores that are not one an example
        (paths of several turns) keep none."""
        if len(self.scores) > len(names) or not any(names):
            return self
        return replace(self, clusters=names[: len(self.scores)])

    def taking(self, places: Sequence[int]) -> TaskScore:
        """The scores and clusters of some examples."""
        names = None if self.clusters is None else [self.clusters[i] for i in places]
        whole, chosen = self.aggregate, np.asarray(places, np.int64)
        return replace(
            self,
            scores=self.scores[chosen],
            clusters=names,
            aggregate=None if whole is None else lambda some: whole(chosen[some]),
        )

    def halves(self) -> tuple[list[int], list[int]]:
        """The places of the examples of either half: a cluster goes whole to the smaller one, in
        the order in which clusters come; without clusters, every other example."""
        groups: dict[object, list[int]] = {}
        for i in range(len(self.scores)):
            name = self.clusters[i] if self.clusters is not None else None
            groups.setdefault(("alone", i) if name is None else name, []).append(i)
        halves: tuple[list[int], list[int]] = ([], [])
        for members in groups.values():
            min(halves, key=len).extend(members)
        return sorted(halves[0]), sorted(halves[1])

    @property
    def mean(self) -> float:
        """The metric on all examples: their mean, or what it is instead of one."""
        if not len(self.scores):
            return float("nan")
        if self.aggregate is not None:
            return self.aggregate(np.arange(len(self.scores)))
        return float(self.scores.mean())


def metric(name: str, own: Own | None = None) -> Metric:
    """The metric of that name, of ours or of one's `own`. Raises `ConfigError`, with the nearest
    name, for an unknown one."""
    if own and name in own:
        about = own[name]
        return Metric(name, about.higher_is_better, about.unit, about)
    if name not in METRICS:
        raise ConfigError(f"task.metric={name}: no such metric", did_you_mean(name, METRICS))
    return METRICS[name]


def measure(
    metrics: Sequence[str],
    scorer: Scorer,
    template: ChatRenderer,
    examples: Sequence[Example],
    *,
    trees: Sequence[Tree] | None = None,
    rewards: Rewards | None = None,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    advance: Advance | None = None,
    own: Own | None = None,
    attempts: Attempts | None = None,
) -> dict[str, TaskScore]:
    """Each metric on the same examples, by name; answers are generated once for all that need them.

    `own` are metrics that are not ours, by name. `trees` are the examples as the model reads them
    (default: rendered whole, answers scored); `rewards` are what `reward` means, and where there
    are several, each is told besides; `attempts` is how pass@k and best of k are asked for.
    `max_new_tokens` defaults to the longest reference. `advance(n)` is called as `n` more examples
    are scored, and again as they are generated. The model is left as it was.
    """
    asked = [metric(name, own) for name in metrics]
    if trees is None and not all(m.generates for m in asked):
        trees = [Tree.of([template.render(answer_only(e))]) for e in examples]
    texts: list[str] = []
    if any(m.generates and m.name not in kinds.SAMPLED for m in asked):
        texts = answers(
            scorer,
            template,
            examples,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            advance=advance,
        )
    references = [example.completion for example in examples]
    attempts, worth = attempts or Attempts(), None
    found: dict[str, TaskScore] = {}
    for m in asked:
        if m.name == kinds.REWARD:
            assert rewards is not None
            found |= rewarded(rewards, examples, texts)
        elif m.name in kinds.SAMPLED:
            assert rewards is not None
            if worth is None:
                worth = sampled(
                    rewards,
                    scorer,
                    template,
                    examples,
                    attempts,
                    max_new_tokens=max_new_tokens,
                    batch_size=batch_size,
                )
            full = rewards.full if m.name == kinds.PASS_AT_K else None
            found[m.name] = best_or_passed(worth, attempts.k, full)
        elif m.generates:
            found[m.name] = compare(m.name, texts, references, own)
        else:
            found[m.name] = loglik(scorer, trees or [], advance)
    return found


def rewarded(
    rewards: Rewards, examples: Sequence[Example], texts: Sequence[str]
) -> dict[str, TaskScore]:
    """What answers are worth: their sum as `reward`, and of several rewards each as
    `reward_NAME`."""
    about, given = METRICS[kinds.REWARD], rewards(examples, texts)
    scores = {about.name: given.total}
    if len(given.parts) > 1:
        scores |= {f"{about.name}_{name}": values for name, values in given.parts.items()}
    references = [example.completion for example in examples]
    return {
        name: TaskScore(name, about.higher_is_better, about.unit, values, [*texts], references)
        for name, values in scores.items()
    }


def sampled(
    rewards: Rewards,
    scorer: Scorer,
    template: ChatRenderer,
    examples: Sequence[Example],
    attempts: Attempts,
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
) -> Scores:
    """What the answers that are sampled to each example are worth: (examples, samples)."""
    each = [example for example in examples for _ in range(attempts.samples)]
    with progress("answers, several to a prompt", total=len(each)) as advance:
        texts = answers(
            scorer,
            template,
            each,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            advance=advance,
            temperature=attempts.temperature,
            seed=attempts.seed,
        )
    return rewards(each, texts).total.reshape(len(examples), attempts.samples)


def best_or_passed(worth: Scores, k: int, full: float | None) -> TaskScore:
    """Of each example, from what its n answers are `worth` (examples, n): pass@k, the chance that
    one of k answers is right, where right is an answer of `full` marks by every reward that is
    learned from; without `full`, the expected reward of the best of k answers."""
    if full is None:
        best = [text_scores.best_of_k(given, k) for given in worth.tolist()]
        return scored(kinds.BEST_OF_K, np.array(best, np.float64))
    counts = (worth >= full - 1e-9).sum(1)
    chances = [text_scores.pass_at_k(worth.shape[1], int(c), k) for c in counts]
    return scored(kinds.PASS_AT_K, np.array(chances, np.float64))


def loglik(scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None) -> TaskScore:
    """The log-likelihood of a token of each path of each tree (`data.kinds.loglik`)."""
    return scored("loglik", kinds.loglik(scorer, trees, advance))


def scored(name: str, scores: Scores) -> TaskScore:
    """Scores by the metric of that name, one an example."""
    about = METRICS[name]
    return TaskScore(about.name, about.higher_is_better, about.unit, scores)


def answers(
    scorer: Scorer,
    template: ChatRenderer,
    examples: Sequence[Example],
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    advance: Advance | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """What the model answers where the last answer of each example stands: greedily, or sampled at
    a temperature."""
    if max_new_tokens is None:
        max_new_tokens = longest_answer(template, examples)
    with scorer.arithmetic():
        return generate(
            scorer.model,  # type: ignore[arg-type]
            template.tokenizer,
            [template.prompt(example.prompt, example.tools) for example in examples],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            stop=[*end_ids(scorer.model, template.tokenizer), *template.end_ids()],  # type: ignore[arg-type]
            advance=advance,
        )


def longest_answer(template: ChatRenderer, examples: Sequence[Example]) -> int:
    """Tokens of the longest reference with its end of turn, at most `LONGEST_ANSWER`."""
    lengths = (
        len(template.render(e).ids) - len(template.prompt(e.prompt, e.tools)) for e in examples
    )
    return min(max(lengths, default=1), LONGEST_ANSWER)


def compare(
    name: str, texts: Sequence[str], references: Sequence[str], own: Own | None = None
) -> TaskScore:
    """Texts against references by a metric of generated text, an example at a time.

    Raises `ConfigError` where it is no such metric, or one's own gives no number a text.
    """
    about = metric(name, own)
    if about.score is None:
        raise ConfigError(f"task.metric={name} does not compare texts")
    try:
        scores = np.asarray(about.score(texts, references), np.float64)
    except ValueError as error:
        raise ConfigError(
            f"task.metric={name} cannot score these answers: {error}.",
            "Choose a metric that fits the references.",
        ) from None
    if scores.shape != (len(texts),) or not np.isfinite(scores).all():
        raise ConfigError(f"task.own.{name} must give one finite number for each text.")
    said = TaskScore(name, about.higher_is_better, about.unit, scores, [*texts], [*references])
    if name != "macro_f1":
        return said
    wanted, given = ([text_scores.label_of(t) for t in side] for side in (references, texts))

    def f1(some: NDArray[np.int64]) -> float:
        return text_scores.macro_f1([wanted[i] for i in some], [given[i] for i in some])

    return replace(said, aggregate=f1)


def macro_f1(accuracy: Scores, wanted: NDArray[np.int64], said: Scores) -> TaskScore:
    """Macro-F1 of labels that a classifier is asked for: the number of the right one (n,), the
    chance of each (n, K), and the accuracy (n,) as the score of an example."""

    def f1(some: NDArray[np.int64]) -> float:
        return text_scores.macro_f1_of_chances(wanted[some], said[some])

    return replace(scored("macro_f1", accuracy), aggregate=f1)


def perplexity(logliks: Scores, trees: Sequence[Tree]) -> TaskScore:
    """exp of the negative log-likelihood of a token, every token counting once.

    `logliks` are the means of the paths of the trees (`kinds.loglik`); the scores are their
    negatives, which weigh as many tokens as they are of.
    """
    about = METRICS["perplexity"]
    tokens = np.array([size for tree in trees for size in tree.sizes], np.float64)

    def of(some: NDArray[np.int64]) -> float:
        return float(np.exp(-np.average(logliks[some], weights=tokens[some])))

    return TaskScore(about.name, about.higher_is_better, about.unit, -logliks, aggregate=of)
