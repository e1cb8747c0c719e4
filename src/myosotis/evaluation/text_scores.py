"""Scores of a generated answer against its reference, one an answer.

What belongs here: pure functions of texts, each with its source, and the shape that a metric of
one's own has. Which of them a run computes is in `task_metrics.py`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from math import comb
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from myosotis.data.kinds import Scores


class TextMetric(ABC):
    """A metric of one's own, named in `task.own.NAME._target_` (docs/extending/metric.md)."""

    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, texts: Sequence[str], references: Sequence[str]) -> Sequence[float]:
        """A finite score of each text against its reference, in their order."""


def each(score: Callable[[str, str], float]) -> Callable[[Sequence[str], Sequence[str]], Scores]:
    """A score of one text and its reference, for many: (n,)."""

    def scores(texts: Sequence[str], references: Sequence[str]) -> Scores:
        pairs = zip(texts, references, strict=True)
        return np.array([score(text, reference) for text, reference in pairs], np.float64)

    return scores


def rouge(name: str) -> Callable[[Sequence[str], Sequence[str]], Scores]:
    """ROUGE F1 (Lin 2004), 0 to 1: `rouge1` and `rouge2` count words and pairs of words, `rougeL`
    the longest common subsequence of words.

    As `rouge-score` computes it, without stemming. Only Latin letters and digits make words there:
    for other scripts take `chrf`.
    """

    def scores(texts: Sequence[str], references: Sequence[str]) -> Scores:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([name])
        return each(lambda text, ref: scorer.score(ref, text)[name].fmeasure)(texts, references)

    return scores


def chrf(texts: Sequence[str], references: Sequence[str]) -> Scores:
    """chrF2 (Popović 2015) of each text, 0 to 100: character n-grams up to 6, no words.

    As sacreBLEU computes it for a sentence.
    """
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return each(lambda text, ref: metric.sentence_score(text, [ref]).score)(texts, references)


def bleu(texts: Sequence[str], references: Sequence[str]) -> Scores:
    """BLEU (Papineni et al. 2002) of each text by itself, 0 to 100; orders that it is too short for
    are left out, zero counts smoothed ("exp"). As sacreBLEU computes it for a sentence: the mean is
    not the BLEU of the corpus.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)
    return each(lambda text, ref: metric.sentence_score(text, [ref]).score)(texts, references)


def exact_match(text: str, reference: str) -> float:
    """1 where the texts are equal but for white space."""
    return float(text.split() == reference.split())


_NUMBER = re.compile(r"-?(?:\d[\d,]*)?\.?\d+")


def number_of(text: str) -> Decimal | None:
    """The final answer of a worked solution: behind the last "####" (GSM8K's form) where there is
    one, else the last number of the text; commas between digits are left out."""
    numbers = _NUMBER.findall(text.rpartition("####")[2] if "####" in text else text)
    try:
        return Decimal(numbers[-1].replace(",", "")) if numbers else None
    except InvalidOperation:
        return None


def numeric(text: str, reference: str) -> float:
    """1 where the final numbers are equal (72, 72.0 and "#### 72" are); 0 without one. The text
    is read as the reference is: "last number" is lm-eval's flexible extraction of GSM8K."""
    wanted, given = number_of(reference), number_of(text)
    return float(wanted is not None and wanted == given)


def label_of(text: str) -> str:
    """A generated label: the first line with text on it, without case, quotes and a final stop."""
    lines = [line.strip() for line in text.splitlines()]
    first = next((line for line in lines if line), "")
    return first.strip("\"'`*“”‘’.!,;: ").casefold()


def label_accuracy(text: str, reference: str) -> float:
    """1 where the first line is the label."""
    return float(label_of(text) == label_of(reference))


def macro_f1(wanted: Sequence[str], given: Sequence[str]) -> float:
    """The mean over the labels that are wanted of F1 = 2 TP / (2 TP + FP + FN).

    As scikit-learn's `f1_score(average="macro", labels=…)`; an answer that is no label counts
    against the label it stands in the place of.
    """
    names = {name: k for k, name in enumerate(dict.fromkeys([*wanted, *given]))}
    said = np.zeros((len(given), len(names)))
    said[np.arange(len(given)), [names[name] for name in given]] = 1.0
    return macro_f1_of_chances(np.array([names[name] for name in wanted], np.int64), said)


def macro_f1_of_chances(wanted: NDArray[np.int64], said: Scores) -> float:
    """The same by numbers of labels (n,) and the chance (n, K) with which each label is said:
    counts are those to be expected."""
    if not len(wanted):
        return 0.0
    asked = np.bincount(wanted, minlength=said.shape[1])
    chance = said[np.arange(len(wanted)), wanted]
    right = np.bincount(wanted, weights=chance, minlength=said.shape[1])
    there = asked > 0
    return float(np.mean(2 * right[there] / (asked + said.sum(0))[there]))


def _json(text: str) -> Any:
    """The value; raises `ValueError` for text that is no JSON as RFC 8259 has it."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_valid(text: str, reference: str) -> float:
    """1 where the whole answer is one JSON document; `NaN` is none, nor is a fenced block."""
    try:
        _json(text)
    except ValueError:
        return 0.0
    return 1.0


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Counter[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict) and value:
        parts = [_leaves(one, (*path, str(key))) for key, one in value.items()]
    elif isinstance(value, list) and value:
        parts = [_leaves(one, (*path, "[]")) for one in value]
    else:
        return Counter({(path, json.dumps(value, sort_keys=True)): 1})
    return sum(parts, Counter())


def json_fields(text: str, reference: str) -> float:
    """F1 of the fields: a field is the path of a value with the value; the order of lists does not
    count. 0 where the answer is no JSON. Raises `ValueError` where the reference is none."""
    wanted = _leaves(_json(reference))
    try:
        given = _leaves(_json(text))
    except ValueError:
        return 0.0
    return 2 * (wanted & given).total() / (wanted.total() + given.total())


_QUOTED = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")""")


def sql_form(query: str) -> str:
    """A query without what does not change it: case and white space outside of quotes, and the
    final semicolon."""
    pieces = _QUOTED.split(query.strip().rstrip("; \n\t"))
    plain = [
        piece if i % 2 else re.sub(r"\s+", " ", re.sub(r"\s*([(),=<>!+*/-])\s*", r"\1", piece))
        for i, piece in enumerate(pieces)
    ]
    return "".join(p if i % 2 else p.lower() for i, p in enumerate(plain)).strip()


def sql_match(text: str, reference: str) -> float:
    """1 where the queries are written alike (`sql_form`). They are not run: two queries that mean
    the same and are written differently count as different."""
    return float(sql_form(text) == sql_form(reference))


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The chance that one of k answers, of n of which `correct` pass, does: 1 - C(n - c, k) /
    C(n, k), the unbiased estimator of Chen et al. 2021 (Codex, equation 1)."""
    if not 0 < k <= n or not 0 <= correct <= n:
        raise ValueError(f"pass@{k} of {correct} among {n}")
    return 1 - comb(n - correct, k) / comb(n, k)


def best_of_k(rewards: Sequence[float], k: int) -> float:
    """The expected reward of the best of k answers, from n that were sampled: the mean of the
    largest over all choices of k of them (unbiased). The i-th smallest of n is the largest of
    C(i - 1, k - 1) of C(n, k) choices. With rewards of 0 and 1 it is `pass_at_k`."""
    n = len(rewards)
    if not 0 < k <= n:
        raise ValueError(f"best of {k} among {n}")
    ranked = enumerate(sorted(map(float, rewards)))
    return sum(reward * comb(i, k - 1) for i, reward in ranked) / comb(n, k)
