"""How good a model is at the task it is tuned for, on held-out examples.

Every metric gives a score an example, so that base and tuned model are compared in pairs. `loglik`
needs no generation and exists for any data; `rougeL` and `chrf` compare a greedy answer with the
reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from myosotis.data import kinds
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.few_shot import answer_only
from myosotis.data.kinds import Advance, Scores
from myosotis.data.sft import Example
from myosotis.models.generate import generate
from myosotis.rewards.together import Rewards
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError


@dataclass(frozen=True)
class Metric:
    """What a number of task quality means."""

    name: str
    higher_is_better: bool
    unit: str
    generates: bool  # needs texts, not only log-probabilities


METRICS = {
    metric.name: metric
    for metric in (
        Metric("loglik", True, "nats per token", generates=False),
        Metric("accuracy", True, "share right", generates=False),
        Metric("margin", True, "nats", generates=False),
        Metric("separation", True, "nats per token", generates=False),
        Metric("rougeL", True, "F1, 0 to 1", generates=True),
        Metric("chrf", True, "chrF, 0 to 100", generates=True),
        Metric("reward", True, "reward", generates=True),
    )
}
LONGEST_ANSWER = 256
"""Tokens generated at most when nothing else is asked for."""


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

    def clustered(self, names: Sequence[str | None]) -> TaskScore:
        """The same with the clusters of the first examples; scores that are not one an example
        (paths of several turns) keep none."""
        if len(self.scores) > len(names) or not any(names):
            return self
        return replace(self, clusters=names[: len(self.scores)])

    def taking(self, places: Sequence[int]) -> TaskScore:
        """The scores and clusters of some examples."""
        names = None if self.clusters is None else [self.clusters[i] for i in places]
        return replace(self, scores=self.scores[list(places)], clusters=names)

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
        """The mean over examples: what intervals are made for."""
        return float(self.scores.mean()) if len(self.scores) else float("nan")


def metric(name: str) -> Metric:
    """The metric of that name. Raises `ConfigError`, with the nearest name, for an unknown one."""
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
) -> dict[str, TaskScore]:
    """Each metric on the same examples, by name; answers are generated once for all that need them.

    `trees` are the examples as the model reads them (default: rendered whole, answers scored);
    `rewards` are what `reward` means, and where there are several, each is told besides.
    `max_new_tokens` defaults to the longest reference. `advance(n)` is called as `n` more examples
    are scored, and again as they are generated. The model is left as it was.
    """
    asked = [metric(name) for name in metrics]
    if trees is None and not all(m.generates for m in asked):
        trees = [Tree.of([template.render(answer_only(e))]) for e in examples]
    texts: list[str] = []
    if any(m.generates for m in asked):
        texts = answers(
            scorer,
            template,
            examples,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            advance=advance,
        )
    references = [example.completion for example in examples]
    found: dict[str, TaskScore] = {}
    for m in asked:
        if m.name == kinds.REWARD:
            assert rewards is not None
            found |= rewarded(rewards, examples, texts)
        elif m.generates:
            found[m.name] = compare(m.name, texts, references)
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
) -> list[str]:
    """What the model answers, greedily, where the last answer of each example stands."""
    if max_new_tokens is None:
        max_new_tokens = longest_answer(template, examples)
    with scorer.arithmetic():
        return generate(
            scorer.model,  # type: ignore[arg-type]
            template.tokenizer,
            [template.prompt(example.prompt, example.tools) for example in examples],
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            advance=advance,
        )


def longest_answer(template: ChatRenderer, examples: Sequence[Example]) -> int:
    """Tokens of the longest reference with its end of turn, at most `LONGEST_ANSWER`."""
    lengths = (
        len(template.render(e).ids) - len(template.prompt(e.prompt, e.tools)) for e in examples
    )
    return min(max(lengths, default=1), LONGEST_ANSWER)


def compare(name: str, texts: Sequence[str], references: Sequence[str]) -> TaskScore:
    """Texts against references by a metric of generated text, an example at a time."""
    about = metric(name)
    scorers = {"rougeL": rouge_l, "chrf": chrf}
    if name not in scorers:
        raise ConfigError(f"task.metric={name} does not compare texts")
    scores = scorers[name](texts, references)
    return TaskScore(name, about.higher_is_better, about.unit, scores, [*texts], [*references])


def rouge_l(texts: Sequence[str], references: Sequence[str]) -> Scores:
    """ROUGE-L F1 (Lin 2004) of each text, 0 to 1: the longest common subsequence of words.

    As `rouge-score` computes it, without stemming. Only Latin letters and digits make words there:
    for other scripts take `chrf`.
    """
    from rouge_score.rouge_scorer import RougeScorer

    rouge = RougeScorer(["rougeL"])
    pairs = zip(texts, references, strict=True)
    return np.array([rouge.score(ref, text)["rougeL"].fmeasure for text, ref in pairs], np.float64)


def chrf(texts: Sequence[str], references: Sequence[str]) -> Scores:
    """chrF2 (Popović 2015) of each text, 0 to 100: character n-grams up to 6, no words.

    As sacreBLEU computes it for a sentence.
    """
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    pairs = zip(texts, references, strict=True)
    return np.array([metric.sentence_score(text, [ref]).score for text, ref in pairs], np.float64)
