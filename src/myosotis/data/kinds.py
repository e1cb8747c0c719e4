"""What a task's data are: answers, labels, pairs, graded answers, or pairs that are given rewards.

Whatever depends on that is asked of one object: how an example is rendered, how a held-out tree is
scored, by which metrics and beside which rules, whether its text is the model's own to write. A new
kind of data is a new class here, and nothing else needs to know its name.

Scores are plain arrays by the name of their metric; units and directions of metrics are in
`evaluation/task_metrics.py`. This room lies below everything that asks: the data module and the
audit beside it, the evaluator, and what a run is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.convert import MORE_HELD_OUT
from myosotis.data.example import Dataset
from myosotis.data.label_template import LabelRenderer, RewardRenderer, labels_of
from myosotis.data.sft import Example
from myosotis.data.stored_examples import COMPLETION, traits
from myosotis.data.template_text import TemplateOptions
from myosotis.trees.lm_head import LABEL_HEAD, VALUE_HEAD
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError, DataError

Scores = NDArray[np.float64]
Sizes = Sequence[Sequence[float]] | NDArray[Any]
Advance = Callable[[int], object]
Template = Literal["chat", "none"]

SHOWN_METRICS = ("rougeL", "chrf")
"""Of generated answers, always computed beside them."""
TEXT_METRICS = (
    *SHOWN_METRICS,
    *("rouge1", "rouge2", "bleu", "exact_match", "numeric", "label_accuracy", "macro_f1"),
    *("json_valid", "json_fields", "sql_match"),
)
"""All that compare a generated answer with the reference (`evaluation/text_scores.py`)."""
RANKED_ACCURACY, RANKED_MACRO_F1 = RANKED = ("ranked_accuracy", "ranked_macro_f1")
"""Of the answers of the data set, the likeliest (`evaluation/ranked_labels.py`)."""
REWARD = "reward"
PASS_AT_K = "pass_at_k"
BEST_OF_K = "best_of_k"
SAMPLED = (PASS_AT_K, BEST_OF_K)
"""Metrics of several answers to each prompt."""
REWARDED = (REWARD, *SAMPLED)
"""By the rewards that are chosen (the group `reward`): of one answer, and of one of k."""
WRITTEN = (*TEXT_METRICS, *REWARDED)
"""All that are measured on written answers."""

PREFERENCES = "needs preferences: method=dpo or kto."


class Measured(NamedTuple):
    """What one model scored on n trees: by metric a score each (n,), and where labels are asked
    for, the chance (n, K) with which it says each of the K."""

    scores: dict[str, Scores]
    said: Scores | None = None


@dataclass(frozen=True)
class TaskKind:
    """What all kinds answer; here as for text of which every path is scored on its own."""

    metrics: ClassVar[tuple[str, ...]]
    """Of task quality, by name; the first is what such a task is measured by when nothing else is
    asked for."""

    compared_by: ClassVar[str] = "loglik"
    """The one by which the model with its update off is held against the base."""

    is_text: ClassVar[bool] = True
    """Whether held-out answers are text that the language model's own head scores: then a model can
    write them, be shown solved ones in its prompt, and be compared with another on them by KL."""

    refusals: ClassVar[Mapping[str, str]] = {}
    """Why a metric is none of these data, for some."""

    masks: ClassVar[tuple[str, ...]] = ("answers",)
    """What can be learned of an example (`TemplateOptions.mask`)."""

    written: ClassVar[tuple[str, ...]] = WRITTEN
    """Metrics that are measured on written answers."""

    def renderer(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        options: TemplateOptions | None = None,
    ) -> ChatRenderer:
        """What makes paths of examples."""
        return ChatRenderer(tokenizer, template, options)

    def of_part(self, examples: Sequence[Example]) -> TaskKind:
        """What another part of the same data set is, rendered in the same way."""
        return text_kind(examples)

    def update_settings(self) -> dict[str, Any]:
        """What an update must be told of the data."""
        return {}

    def scores(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> dict[str, Scores]:
        """All metrics that need no generation, by name, a score a tree (n,).

        `advance(n)` is called as `n` more trees are done. The model is left as it was.
        """
        raise NotImplementedError

    def measured(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> Measured:
        """`scores`, and what else was seen on the way."""
        return Measured(self.scores(scorer, trees, advance))

    def rules(self, trees: Sequence[Tree]) -> dict[str, Scores]:
        """The accuracy (n,) of rules that need no model, by their description."""
        return {}

    def path_names(self, tree: Tree) -> list[str]:
        """What the paths of a tree are, to be put after the place of its example."""
        return [""]

    def warnings(self, sizes: Sizes) -> list[str]:
        """What a person should know of training data of this kind, a sentence each; `sizes` are the
        tokens learned from on each path of each tree."""
        return []

    def sizes(self, trees: Sequence[Tree]) -> dict[str, int]:
        """How many scores a metric that needs no generation has on held-out trees."""
        return {name: len(trees) for name in self.metrics if name not in self.written}

    def require_held_out(self, trees: Sequence[Tree], metric: str, generated: int) -> None:
        """Raise `DataError` where the test part can show nothing: each metric needs a score, and
        the one that quality is claimed by two, a half of the examples each. `generated` is how many
        answers are written."""
        sizes = self.sizes(trees)
        for name, count in (sizes | dict.fromkeys(self.written, generated)).items():
            if name == metric and count < 2:
                key = "task.generate=16" if name in self.written else MORE_HELD_OUT
                raise DataError(f"{_counted(count)} can show task.metric={name}; 2 are needed", key)
        if missing := [name for name, count in sizes.items() if not count]:
            raise DataError(f"{_counted(0)} can show {missing[0]}", MORE_HELD_OUT)

    @classmethod
    def require_mask(cls, mask: str, data: str = "the data set") -> None:
        """Raise `ConfigError` where these data have no such mask; `data` names them."""
        if mask not in cls.masks:
            raise ConfigError(
                f"data.mask={mask} chooses what is learned of answers in words; {data} is of "
                "another kind.",
                "Use data.mask=answers.",
            )

    @classmethod
    def require_metric(cls, metric: str, data: str = "the data set") -> None:
        """Raise `ConfigError` where these data have no such metric; `data` names them."""
        if metric in cls.metrics:
            return
        why = cls.refusals.get(metric, "is no metric of {data}.").format(data=data)
        *others, last = cls.metrics
        raise ConfigError(
            f"task.metric={metric} {why}", f"Use task.metric={', '.join(others)} or {last}."
        )


class Answers(TaskKind):
    """A prompt and its answer: trees of one path."""

    metrics = ("loglik", "perplexity", *RANKED, *WRITTEN)
    masks = ("answers", "last", "full")
    refusals: ClassVar = {
        "accuracy": "needs labels (method=probe) or pairs (method=dpo).",
        "margin": PREFERENCES,
        "separation": PREFERENCES,
    }

    def scores(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> dict[str, Scores]:
        """The log-likelihood of a token."""
        return {"loglik": loglik(scorer, trees, advance)}


class Texts(Answers):
    """Plain text, every token of which is scored: no chat template, and nothing is asked for."""

    metrics = ("loglik", "perplexity")
    masks = ("answers",)
    is_text = False
    refusals: ClassVar = {
        **Answers.refusals,
        **dict.fromkeys((*RANKED, *TEXT_METRICS), "compares answers; {data} is plain text."),
        **dict.fromkeys(REWARDED, "is of answers; {data} is plain text."),
    }

    def renderer(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        options: TemplateOptions | None = None,
    ) -> ChatRenderer:
        return ChatRenderer(tokenizer, "none", options)


@dataclass(frozen=True)
class Labels(TaskKind):
    """A prompt and one of a few names, for which a classifier is asked."""

    labels: tuple[str, ...]

    metrics = ("accuracy", "macro_f1", "loglik")
    is_text = False
    written = ()
    refusals: ClassVar = {
        "margin": PREFERENCES,
        "separation": PREFERENCES,
        "perplexity": "is of texts; {data} has labels.",
        **{
            name: "compares texts; {data} has labels."
            for name in TEXT_METRICS
            if name != "macro_f1"
        },
        **dict.fromkeys(REWARDED, "is of texts; {data} has labels."),
    }

    def renderer(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        options: TemplateOptions | None = None,
    ) -> ChatRenderer:
        return LabelRenderer(tokenizer, template, self.labels, options)

    def of_part(self, examples: Sequence[Example]) -> TaskKind:
        return self

    def update_settings(self) -> dict[str, Any]:
        return {"labels": list(self.labels)}

    def scores(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> dict[str, Scores]:
        return self.measured(scorer, trees, advance).scores

    def measured(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> Measured:
        """Log-likelihood and accuracy of the label of each tree, and the labels that are said.

        A model without a classifier is at chance: each label is as likely.
        """
        n, count = len(trees), len(self.labels)
        if not hasattr(scorer.model, LABEL_HEAD):
            said = np.full((n, count), 1 / count)
            chance = {"loglik": np.full(n, -np.log(count)), "accuracy": np.full(n, 1 / count)}
            return Measured(chance, said)
        scores = scorer.evaluate(trees, advance)
        said = np.zeros((n, count))
        said[np.arange(n), [int(s.said[0]) for s in scores if s.said is not None]] = 1.0
        found = {
            "loglik": np.array([s.logp[0] for s in scores], np.float64),
            "accuracy": np.array([s.greedy[0] for s in scores], np.float64),
        }
        return Measured(found, said)


class Pairs(TaskKind):
    """A prompt, the answer that was chosen (path 0) and the one that was rejected (path 1)."""

    metrics = ("accuracy", "margin", "loglik", "separation", *WRITTEN)

    def scores(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> dict[str, Scores]:
        """How often and by how much the model itself finds the chosen answer more likely, the
        log-likelihood a token of the chosen one, and how far the two are apart a token (half of it,
        as graded answers have it)."""
        scores = scorer.evaluate(trees, advance)
        margins = np.array([s.logp[0] - s.logp[1] for s in scores])
        tokenwise = np.array([s.logp / s.weight for s in scores]).reshape(-1, 2)
        return {
            "accuracy": right(margins),
            "margin": margins,
            "loglik": tokenwise[:, 0],
            "separation": (tokenwise[:, 0] - tokenwise[:, 1]) / 2,
        }

    def rules(self, trees: Sequence[Tree]) -> dict[str, Scores]:
        """To pick the longer answer, or the shorter: what is right more often."""
        chosen, rejected = np.array([tree.depth[tree.leaves] for tree in trees]).T
        longer = right(chosen - rejected)
        way, scores = ("longer", longer) if longer.mean() >= 0.5 else ("shorter", 1 - longer)
        return {f"a rule that picks the {way} answer": scores}

    def path_names(self, tree: Tree) -> list[str]:
        return [", chosen", ", rejected"]

    def warnings(self, sizes: Sizes) -> list[str]:
        """When picking by length alone would be right in two of three pairs or more."""
        if len(sizes) < FEWEST_PAIRS:
            return []
        both = np.array(sizes)
        longer = float((both[:, 0] > both[:, 1]).mean())
        shorter = float((both[:, 0] < both[:, 1]).mean())
        if max(longer, shorter) < 2 / 3:
            return []
        share, way = (longer, "longer") if longer > shorter else (shorter, "shorter")
        chosen, rejected = both.mean(0)
        return [
            f"in {share:.0%} of the pairs the chosen answer is the {way} one ({chosen:.0f} tokens "
            f"against {rejected:.0f} on average): a model can learn that alone"
        ]


class Grades(TaskKind):
    """A prompt and an answer, which is one to give (`Tree.grade` 1) or not to give (-1)."""

    metrics = ("separation", "loglik", *WRITTEN)
    compared_by = "separation"  # the log-likelihood of every answer, with a sign
    refusals: ClassVar = dict.fromkeys(
        ("accuracy", "margin"), "needs pairs; {data} has graded answers."
    )

    def scores(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> dict[str, Scores]:
        """The log-likelihood a token, negated where the answer is not one to give (`separation`),
        and that of the ones to give, which are fewer."""
        every = loglik(scorer, trees, advance)
        grades = np.array([tree.grade for tree in trees])
        return {"separation": grades * every, "loglik": every[grades > 0]}

    def sizes(self, trees: Sequence[Tree]) -> dict[str, int]:
        given = sum(tree.grade > 0 for tree in trees)
        return {"separation": len(trees), "loglik": given}

    def path_names(self, tree: Tree) -> list[str]:
        return [{1: ", desirable", -1: ", undesirable"}[tree.grade]]


class Rewards(Pairs):
    """Pairs of which each answer is given a number by a value head, instead of a likelihood."""

    metrics = ("accuracy", "margin")
    compared_by = "margin"
    is_text = False
    refusals: ClassVar = dict.fromkeys(
        ("loglik", "separation", *WRITTEN), "needs log-likelihoods; a reward model has none."
    )

    def renderer(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        options: TemplateOptions | None = None,
    ) -> ChatRenderer:
        return RewardRenderer(tokenizer, template, options)

    def of_part(self, examples: Sequence[Example]) -> TaskKind:
        return self

    def scores(
        self, scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None
    ) -> dict[str, Scores]:
        """How often, and by how much, the chosen answer's reward is the higher one.

        A model without a value head gives every answer the same reward.
        """
        margins = np.zeros(len(trees))
        if hasattr(scorer.model, VALUE_HEAD):
            margins = np.array([s.logp[0] - s.logp[1] for s in scorer.evaluate(trees, advance)])
        return {"accuracy": right(margins), "margin": margins}


def _counted(count: int) -> str:
    return f"{count or 'none'} of the held-out examples of the test part"


FEWEST_PAIRS = 30
"""Pairs below which nothing is said about their lengths."""


def kind_of(dataset: Dataset, *, reads_labels: bool, needs_value_head: bool) -> TaskKind:
    """What the held-out examples of a data set are, for an update that reads labels or an objective
    that needs a value head. Raises `DataError` when its answers are no labels."""
    if reads_labels:
        return Labels(tuple(labels_of(dataset)))
    plain = set[int]().union(*((traits(p) & COMPLETION).tolist() for p in dataset.parts().values()))
    if len(plain) > 1:
        raise DataError(
            f"{dataset.name} holds plain text beside prompts and answers",
            "train on one after the other (model.start)",
        )
    return Rewards() if needs_value_head else text_kind(dataset.test)


def text_kind(examples: Sequence[Example]) -> TaskKind:
    """What examples are whose answers are scored as text; those of a part are all of one kind."""
    if not examples:
        return Answers()
    if examples[0].rejected is not None:
        return Pairs()
    if not (traits(examples) & COMPLETION).all():
        return Texts()
    return Answers() if examples[0].desirable is None else Grades()


def expected_kind(data_kind: str, *, reads_labels: bool, needs_value_head: bool) -> type[TaskKind]:
    """What held-out examples can be, as far as a configuration tells: the data are not read yet.

    Where grades are learned from, held-out pairs stay pairs; what graded answers lack of those is
    refused when they turn out to be no pairs.
    """
    if reads_labels:
        return Labels
    if needs_value_head:
        return Rewards
    return Answers if data_kind == "answers" else Pairs


def loglik(scorer: Scorer, trees: Sequence[Tree], advance: Advance | None = None) -> Scores:
    """Mean log-probability of a scored token, in nats, for each path of each tree.

    An example counts once however long its answer, so the mean over examples is not the (negative)
    training loss, in which every token counts once.
    """
    scores = scorer.evaluate(trees, advance)
    return np.array([x for tree in scores for x in tree.logp / tree.weight], np.float64)


def right(margins: NDArray[Any]) -> Scores:
    """1 where a margin is above 0, one half on a tie: a coin is right in half of the ties."""
    return np.where(margins == 0, 0.5, margins > 0).astype(np.float64)
