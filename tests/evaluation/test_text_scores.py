"""Metrics of generated answers, against numbers derived by hand or by a library."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from myosotis.evaluation import results, task_metrics, text_scores
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.evaluation.text_scores import TextMetric
from myosotis.retention.statistics import aggregate
from myosotis.retention.statistics.aggregate import resampled
from myosotis.trees.tree import Path, Tree
from myosotis.utils.errors import ConfigError


def test_rouge_1_and_2_by_hand() -> None:
    """ "the cat sat" and "the cat ran": words 2 of 3 and 3, pairs of words 1 of 2 and 2."""
    assert text_scores.rouge("rouge1")(["the cat sat"], ["the cat ran"]) == pytest.approx(2 / 3)
    assert text_scores.rouge("rouge2")(["the cat sat"], ["the cat ran"]) == pytest.approx(1 / 2)


def test_bleu_of_a_sentence_by_hand() -> None:
    """ "a b c d" for "a b c d e": every n-gram is right; brevity exp(1 - 5/4)."""
    found = text_scores.bleu(["a b c d", "a b c d e", "x"], ["a b c d e"] * 3)
    assert found[0] == pytest.approx(100 * math.exp(1 - 5 / 4))
    assert found[1] == pytest.approx(100) and found[2] < 30


def test_exact_match_is_of_words_with_their_case() -> None:
    found = [text_scores.exact_match(t, "A  b\n") for t in ("A b", " A\nb ", "a b", "A b.")]
    assert found == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("48/2 = 24, and 48 + 24 = 72.\n#### 72", "so <<48+24=72>>72\n#### 72", 1),
        ("The answer is 72.", "#### 72", 1),
        ("It costs $1,234.50 in all", "#### 1234.5", 1),
        ("72 clips in 2 months", "#### 72", 0),  # the last number is taken
        ("-3", "#### 3", 0),
        ("no number", "#### 3", 0),
        ("5", "no number", 0),
        ("#### ", "#### 3", 0),
    ],
)
def test_the_final_number_is_compared(text: str, reference: str, right: float) -> None:
    assert text_scores.numeric(text, reference) == right


@pytest.mark.parametrize("text", ["card_arrival", '\n "Card_Arrival". \nbecause', "card_arrival."])
def test_a_label_is_the_first_line(text: str) -> None:
    assert text_scores.label_accuracy(text, "card_arrival") == 1
    assert text_scores.label_accuracy(text, "card_lost") == 0


def test_macro_f1_by_hand() -> None:
    """a: TP 1, FN 1, FP 1: 2/(2+2) = 1/2. b: TP 1, FP 1: 2/3. c: never given: 0."""
    wanted, given_ = ["a", "a", "b", "c"], ["a", "b", "b", "a"]
    assert text_scores.macro_f1(wanted, given_) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcx")), min_size=1))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    wanted, given_ = map(list, zip(*pairs, strict=True))
    labels = sorted(set(wanted))
    expected = f1_score(wanted, given_, labels=labels, average="macro", zero_division=0)
    assert text_scores.macro_f1(wanted, given_) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"a": [1, null]}', 1),
        (" 3 ", 1),
        ("{'a': 1}", 0),
        ('```json\n{"a": 1}\n```', 0),
        ("NaN", 0),
        ("", 0),
        ("[" * 100_000, 0),
    ],
)
def test_json_is_valid_or_not(text: str, valid: float) -> None:
    assert text_scores.json_valid(text, "") == valid


def test_json_fields_by_hand() -> None:
    """Wanted a=1, b[]=2, b[]=3; given a=1, b[]=3, c=0: two in common, F1 = 4/6."""
    wanted = json.dumps({"a": 1, "b": [2, 3]})
    assert text_scores.json_fields('{"b": [3], "c": 0, "a": 1}', wanted) == pytest.approx(4 / 6)
    assert text_scores.json_fields('{"b": [3, 2], "a": 1}', wanted) == 1
    assert text_scores.json_fields('{"a": "1"}', wanted) == 0
    assert text_scores.json_fields("no", wanted) == 0


def test_a_reference_that_is_no_json_is_told() -> None:
    with pytest.raises(ConfigError, match=r"task\.metric=json_fields cannot score"):
        task_metrics.compare("json_fields", ["{}"], ["no"])


def test_sql_is_compared_without_case_and_space_outside_of_quotes() -> None:
    wanted = 'SELECT a.X FROM t AS a WHERE a.Y = "South  AU" ;'
    assert text_scores.sql_match('select a.x\nfrom t as a where a.y="South  AU"', wanted) == 1
    assert text_scores.sql_match('select a.x from t as a where a.y="south  au"', wanted) == 0
    assert text_scores.sql_match('select a.x from t as a where a.y="South AU"', wanted) == 0


def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_one() -> None:
    """Of every set of 2 of 5 answers, of which 2 pass: 7 of 10 hold one."""
    draws = list(itertools.combinations([1, 1, 0, 0, 0], 2))
    assert text_scores.pass_at_k(5, 2, 2) == pytest.approx(sum(map(any, draws)) / len(draws))
    assert text_scores.pass_at_k(5, 0, 5) == 0 and text_scores.pass_at_k(5, 4, 2) == 1
    with pytest.raises(ValueError, match="pass@6"):
        text_scores.pass_at_k(5, 1, 6)


def test_best_of_k_is_the_mean_of_the_best_over_all_choices() -> None:
    """Of every set of 3 of 5 answers, the largest reward, averaged; best of 5 is the largest."""
    rewards = [0.3, -1.0, 2.5, 0.3, 0.9]
    best = [max(some) for some in itertools.combinations(rewards, 3)]
    assert text_scores.best_of_k(rewards, 3) == pytest.approx(sum(best) / len(best))
    assert text_scores.best_of_k(rewards, 5) == 2.5
    assert text_scores.best_of_k(rewards, 1) == pytest.approx(sum(rewards) / 5)
    with pytest.raises(ValueError, match="best of 6"):
        text_scores.best_of_k(rewards, 6)


# What is no mean over examples.


def test_perplexity_counts_every_token_once() -> None:
    """Paths of 1 and 3 tokens at -1 and -2 nats a token: exp((1 + 6) / 4)."""
    trees = [Tree.of([Path([1, 2], [0, 1])]), Tree.of([Path([1, 2, 3, 4], [0, 1, 1, 1])])]
    found = task_metrics.perplexity(np.array([-1.0, -2.0]), trees)
    assert found.mean == pytest.approx(math.exp(7 / 4)) and not found.higher_is_better
    assert found.taking([1]).mean == pytest.approx(math.exp(2))
    assert found.taking([1, 0]).taking([1]).mean == pytest.approx(math.exp(1))


def test_the_change_of_a_perplexity_is_that_of_both_models_on_the_same_examples() -> None:
    """Every token 0.1 nats likelier: the perplexity falls by the factor exp(-0.1)."""
    rng = np.random.default_rng(0)
    trees = [Tree.of([Path([1, *range(2, 2 + n)], [0, *[1] * n])]) for n in (1, 2, 5, 3) * 20]
    before = rng.normal(-2, 0.3, 80)
    base, tuned = (task_metrics.perplexity(x, trees) for x in (before, before + 0.1))
    row = results.task_quality(base, tuned)
    assert row.base is not None and row.tuned is not None and row.delta is not None
    assert row.tuned / row.base == pytest.approx(math.exp(-0.1))
    assert row.lo is not None and row.hi is not None and row.lo <= row.delta <= row.hi < 0


def test_macro_f1_of_both_models_has_a_paired_interval() -> None:
    wanted = ["a", "b", "c"] * 20
    base = task_metrics.compare("macro_f1", ["a"] * 60, wanted)
    tuned = task_metrics.compare("macro_f1", wanted, wanted)
    row = results.task_quality(base, tuned)
    assert row.base == pytest.approx(2 * 20 / 80 / 3) and row.tuned == 1
    assert row.lo is not None and row.lo > 0.7
    same = results.task_quality(base, base)
    assert (same.delta, same.lo, same.hi) == (0, 0, 0)


def test_macro_f1_of_a_classifier_against_one_at_chance() -> None:
    """Labels 0, 0, 1, 2 of three. At chance each is said 4/3 times: 0 with TP 2/3, F1 4/3 over
    2 + 4/3; 1 and 2 with TP 1/3, F1 2/3 over 1 + 4/3. Said 0, 1, 1, 2: F1 2/3, 2/3 and 1."""
    wanted = np.array([0, 0, 1, 2])
    base = task_metrics.macro_f1(np.full(4, 1 / 3), wanted, np.full((4, 3), 1 / 3))
    said = np.eye(3)[[0, 1, 1, 2]]
    tuned = task_metrics.macro_f1(np.array([1.0, 0.0, 1.0, 1.0]), wanted, said)
    row = results.task_quality(base, tuned)
    assert row.base == pytest.approx((0.4 + 2 / 7 + 2 / 7) / 3)
    assert row.tuned == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert row.delta == pytest.approx(row.tuned - row.base) and row.lo is not None
    half = tuned.taking([2, 3])
    assert half.mean == 1.0


def test_resamples_take_clusters_whole() -> None:
    """Two clusters of equal items: a resample holds one, the other, or both, and nothing else."""
    scores = np.array([0.0] * 3 + [1.0] * 3)
    seen = set[float]()

    def mean(some: np.ndarray) -> float:
        seen.add(round(float(scores[some].mean()), 6))
        return float(scores[some].mean())

    found = resampled(lambda some: 0.0, mean, 6, ["x"] * 3 + ["y"] * 3)
    assert seen == {0.0, 0.5, 1.0} and (found.n, found.clusters) == (6, 2)
    assert (found.lo, found.delta, found.hi) == (0.0, 0.5, 1.0)


def test_the_interval_of_an_aggregate_covers_at_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean as an aggregate, 60 items: about 95 % of 100 intervals hold the true change of 0.2."""
    monkeypatch.setattr(aggregate, "RESAMPLES", 400)
    rng, inside = np.random.default_rng(1), 0
    for _ in range(100):
        x, y = rng.normal(0, 1, 60), rng.normal(0.2, 1, 60)
        found = resampled(lambda s, x=x: float(x[s].mean()), lambda s, y=y: float(y[s].mean()), 60)
        inside += found.lo <= 0.2 <= found.hi
    assert 88 <= inside <= 99


# A metric of one's own.


class Longer(TextMetric):
    unit = "characters"

    def __call__(self, texts, references):
        return [len(t) - len(r) for t, r in zip(texts, references, strict=True)]


class Broken(TextMetric):
    def __call__(self, texts, references):
        return [float("nan")] * len(texts)


def test_a_metric_of_ones_own_is_measured_like_the_others() -> None:
    found: TaskScore = task_metrics.compare("longer", ["abc", ""], ["a", "b"], {"longer": Longer()})
    assert found.scores.tolist() == [2, -1] and found.unit == "characters"


def test_a_metric_of_ones_own_gives_a_finite_number_a_text() -> None:
    with pytest.raises(ConfigError, match=r"task\.own\.broken must give one finite number"):
        task_metrics.compare("broken", ["a"], ["b"], {"broken": Broken()})
