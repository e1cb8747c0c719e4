"""How good a model is at the task it is tuned for, on held-out examples.

Every metric gives a score an example, so that base and tuned model are compared in pairs. `loglik`
needs no generation and exists for any data; `rougeL` and `chrf` compare a greedy answer with the
reference.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myosotis.data.formats import Example, Message
from myosotis.data.templates import Template
from myosotis.errors import ConfigError
from myosotis.generate import generate
from myosotis.trees.head import LABEL_HEAD, VALUE_HEAD
from myosotis.trees.score import Scorer
from myosotis.trees.tree import Path, Tree

Scores = NDArray[np.float64]
Advance = Callable[[int], object]


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
    )
}
LONGEST_ANSWER = 256
"""Tokens generated at most when nothing else is asked for."""


@dataclass(frozen=True)
class Quality:
    """The scores of one model by one metric on n examples, in their order."""

    metric: str
    higher_is_better: bool
    unit: str
    scores: Scores  # (n,)
    texts: list[str] = field(default_factory=list)  # what was generated; empty for loglik
    references: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean over examples: what intervals are made for."""
        return float(self.scores.mean()) if len(self.scores) else float("nan")


def metric(name: str) -> Metric:
    """The metric of that name. Raises `ConfigError`, with the nearest name, for an unknown one."""
    if name not in METRICS:
        folded = {known.lower(): known for known in METRICS}
        near = get_close_matches(name.lower(), folded, n=1)
        hint = f"did you mean {folded[near[0]]}?" if near else f"there is {', '.join(METRICS)}"
        raise ConfigError(f"task.metric={name}: no such metric", hint)
    return METRICS[name]


def measure(
    metrics: Sequence[str],
    scorer: Scorer,
    template: Template,
    examples: Sequence[Example],
    *,
    trees: Sequence[Tree] | None = None,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    advance: Advance | None = None,
) -> dict[str, Quality]:
    """Each metric on the same examples, by name; answers are generated once for all that need them.

    `trees` are the examples as the model reads them (default: rendered whole, answers scored);
    `max_new_tokens` defaults to the longest reference. `advance(n)` is called as `n` more examples
    are scored, and again as they are generated. The model is left as it was.
    """
    asked = [metric(name) for name in metrics]
    if trees is None and not all(m.generates for m in asked):
        trees = [Tree.of([template.render(_answer_only(e))]) for e in examples]
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
    return {
        m.name: compare(m.name, texts, references)
        if m.generates
        else loglik(scorer, trees or [], advance)
        for m in asked
    }


def loglik(scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None) -> Quality:
    """Mean log-probability of a scored token, in nats, for each path of each tree.

    An example counts once however long its answer, so the mean over examples is not the (negative)
    training loss, in which every token counts once.
    """
    found = scorer.evaluate(trees, advance)
    scores = np.array([s for tree in found for s in tree.logp / tree.weight], dtype=np.float64)
    return _quality("loglik", scores)


def _quality(name: str, scores: Scores) -> Quality:
    kind = METRICS[name]
    return Quality(kind.name, kind.higher_is_better, kind.unit, scores)


def right(margins: NDArray[Any]) -> Scores:
    """1 where a margin is above 0, one half on a tie: a coin is right in half of the ties."""
    return np.where(margins == 0, 0.5, margins > 0).astype(np.float64)


def preferred(
    scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
) -> dict[str, Quality]:
    """Of pairs (path 0 chosen, path 1 rejected): how often and by how much the model itself finds
    the chosen answer more likely, the log-likelihood a token of the chosen one, and how far the two
    are apart a token (half of it, as `graded` has it)."""
    found = scorer.evaluate(trees, advance)
    margins = np.array([s.logp[0] - s.logp[1] for s in found])
    tokenwise = np.array([s.logp / s.weight for s in found]).reshape(-1, 2)
    values = {
        "accuracy": right(margins),
        "margin": margins,
        "loglik": tokenwise[:, 0],
        "separation": (tokenwise[:, 0] - tokenwise[:, 1]) / 2,
    }
    return {name: _quality(name, scores) for name, scores in values.items()}


def rewarded(
    scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
) -> dict[str, Quality]:
    """Of pairs: how often, and by how much, the chosen answer's reward is the higher one.

    A model without a value head gives every answer the same reward.
    """
    margins = np.zeros(len(trees))
    if hasattr(scorer.model, VALUE_HEAD):
        margins = np.array([s.logp[0] - s.logp[1] for s in scorer.evaluate(trees, advance)])
    values = {"accuracy": right(margins), "margin": margins}
    return {name: _quality(name, scores) for name, scores in values.items()}


def by_length(trees: Sequence[Tree]) -> tuple[str, Quality]:
    """The accuracy of picking the longer answer, or the shorter: what is right more often."""
    chosen, rejected = np.array([tree.depth[tree.tips] for tree in trees]).T
    longer = right(chosen - rejected)
    which, found = ("longer", longer) if longer.mean() >= 0.5 else ("shorter", 1 - longer)
    return f"a rule that picks the {which} answer", _quality("accuracy", found)


def graded(
    scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
) -> dict[str, Quality]:
    """Of graded answers: the log-likelihood a token, negated where the answer is not one to give
    (`separation`), and that of the ones to give."""
    every = loglik(scorer, trees, advance).scores
    grades = np.array([tree.grade for tree in trees])
    values = {"separation": grades * every, "loglik": every[grades > 0]}
    return {name: _quality(name, scores) for name, scores in values.items()}


def classified(
    scorer: Scorer, trees: Sequence[Tree], labels: int, advance: Advance | None = None
) -> dict[str, Quality]:
    """Log-likelihood and accuracy of the label of each tree (a path that ends in a label).

    A model without a classifier is at chance: each of the `labels` is as likely.
    """
    if not hasattr(scorer.model, LABEL_HEAD):
        n = len(trees)
        values = {"loglik": np.full(n, -np.log(labels)), "accuracy": np.full(n, 1 / labels)}
    else:
        found = scorer.evaluate(trees, advance)
        values = {
            "loglik": np.array([s.logp[0] for s in found]),
            "accuracy": np.array([float(s.greedy[0]) for s in found]),
        }
    return {name: _quality(name, scores) for name, scores in values.items()}


def answers(
    scorer: Scorer,
    template: Template,
    examples: Sequence[Example],
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    advance: Advance | None = None,
) -> list[str]:
    """What the model answers, greedily, where the last answer of each example stands."""
    if max_new_tokens is None:
        max_new_tokens = longest_answer(template, examples)
    return generate(
        scorer.model,  # type: ignore[arg-type]
        template.tokenizer,
        [template.prompt(example.prompt) for example in examples],
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        advance=advance,
    )


def longest_answer(template: Template, examples: Sequence[Example]) -> int:
    """Tokens of the longest reference with its end of turn, at most `LONGEST_ANSWER`."""
    lengths = (len(template.render(e).ids) - len(template.prompt(e.prompt)) for e in examples)
    return min(max(lengths, default=1), LONGEST_ANSWER)


def compare(name: str, texts: Sequence[str], references: Sequence[str]) -> Quality:
    """Texts against references by a metric of generated text, an example at a time."""
    kind = metric(name)
    scorers = {"rougeL": rouge_l, "chrf": chrf}
    if name not in scorers:
        raise ConfigError(f"task.metric={name} does not compare texts")
    scores = scorers[name](texts, references)
    return Quality(name, kind.higher_is_better, kind.unit, scores, [*texts], [*references])


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


# The base prompted with k examples: what tuning has to beat.


def choose_shots(examples: Sequence[Example], k: int, seed: int = 0) -> list[Example]:
    """`k` training examples by seed; fewer when there are not as many."""
    return random.Random(seed).sample(list(examples), min(k, len(examples)))


def few_shot_prompt(example: Example, shots: Sequence[Example], template: Template) -> Example:
    """The example with `shots` before its question; only its own answer remains scored.

    In a chat the shots are earlier turns, without their system messages; the example's own comes
    first. Without a chat template they stand in the prompt as plain text, blank lines between.
    """
    example = _answer_only(example)
    if not shots:
        return example
    if template.kind == "none":
        question, *rest = example.messages
        told = [f"{shot.messages[0].content}{shot.completion}\n\n" for shot in shots]
        question = replace(question, content="".join(told) + question.content)
        return replace(example, messages=(question, *rest))
    system = [m for m in example.messages if m.role in _SYSTEM]
    turns = [m for m in example.messages if m.role not in _SYSTEM]
    told = [_read_only(m) for shot in shots for m in shot.messages if m.role not in _SYSTEM]
    return replace(example, messages=(*system, *told, *turns))


_SYSTEM = ("system", "developer")


def _answer_only(example: Example) -> Example:
    return replace(example, completion_only=True)


def _read_only(message: Message) -> Message:
    return replace(message, scored=False)


def few_shot_trees(
    template: Template,
    examples: Sequence[Example],
    shots: Sequence[Example],
    *,
    max_length: int,
    together: int = 8,
) -> tuple[list[Tree], list[int]]:
    """Trees for `loglik` and the number of shots each example got, in the order of the examples.

    Where all shots do not fit in `max_length` tokens, the last ones are left out; without any, the
    end of the answer is cut, as in training. `together` questions after the same shots make one
    tree, so that the shots are read once for all of them.
    """
    fitted = [_fit(template, example, shots, max_length) for example in examples]
    trees = []
    for _, run in groupby(fitted, key=lambda pair: pair[1]):
        paths = [path for path, _ in run]
        starts = range(0, len(paths), together)
        trees += [Tree.of(paths[start : start + together]) for start in starts]
    return trees, [count for _, count in fitted]


def _fit(
    template: Template, example: Example, shots: Sequence[Example], max_length: int
) -> tuple[Path, int]:
    for count in range(len(shots), 0, -1):
        path = template.render(few_shot_prompt(example, shots[:count], template))
        if len(path.ids) <= max_length:
            return path, count
    path = template.render(_answer_only(example))
    return Path(path.ids[:max_length], path.weights[:max_length]), 0
