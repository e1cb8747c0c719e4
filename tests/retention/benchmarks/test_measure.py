"""Scores of items, by hand and on a tiny model; a measurement survives being written."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from myosotis.retention.benchmarks.build import build
from myosotis.retention.benchmarks.measure import as_drawn, measure, task_scores
from myosotis.retention.benchmarks.requests import Answer
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from myosotis.utils.errors import RunError
from tests.evaluation.test_results import scores
from tests.retention.small import benchmark_folder, byte_tokenizer, first, tiny_scorer, write


def suite(folder: Path, *names: str, **settings: object) -> Suite:
    arguments = {"context_length": 512, "items": None, "locator": DataLocator(folder)} | settings
    return build(names, byte_tokenizer(), **arguments)  # pyright: ignore


def answers(*logp: float) -> list[Answer]:
    return [Answer(value, False) for value in logp]


def test_multiple_choice_by_hand(tmp_path: Path) -> None:
    """Choices of 14, 7, 18 and 5 characters; log-probs -14, -14, -9, -10, gold is the third.

    z = -1, -2, -.5, -2; e^z = .36788, .13534, .60653, .13534, sum 1.24509. Both argmaxes are the
    third. p_gold = .60653 / 1.24509 = .48714; the gold choice is scored with its delimiter, 19
    bytes: 9 / ln 2 / 19 = .68338 bits.
    """
    task = suite(benchmark_folder(tmp_path), "hellaswag").where(lambda i: i.id.startswith("2-"))
    found = task_scores(task["hellaswag"], [answers(-14, -14, -9, -10)])
    got = {name: float(values[0]) for name, values in found.scores.items()}
    assert got == pytest.approx(
        {
            "acc": 1,
            "acc_norm": 1,
            "p_gold": 0.48714,
            "bits_per_byte": 0.68338,
        },
        abs=1e-5,
    )
    assert found.choice.tolist() == found.gold.tolist() == [2]
    assert found.aggregates == {"acc": 1.0, "acc_norm": 1.0}


def test_acc_and_acc_norm_can_differ(tmp_path: Path) -> None:
    """-4 for 5 characters beats -9 for 18 in log-prob (-.8 against -.5 a character)."""
    task = suite(benchmark_folder(tmp_path), "hellaswag").where(lambda i: i.id.startswith("2-"))
    found = task_scores(task["hellaswag"], [answers(-14, -14, -9, -4)])
    assert (found.scores["acc"][0], found.scores["acc_norm"][0]) == (0, 1)
    assert found.metric == "acc_norm" and found.choice[0] == 2 and found.mean == 1


def test_lambada_perplexity_and_accuracy(tmp_path: Path) -> None:
    """exp of the mean of 1 and 3 nats; greedy answers count. " bone" has five bytes."""
    task = first(suite(benchmark_folder(tmp_path), "lambada_openai"), 2)["lambada_openai"]
    found = task_scores(task, [[Answer(-1.0, True)], [Answer(-3.0, False)]])
    assert found.aggregates == {"perplexity": pytest.approx(math.exp(2)), "acc": 0.5}
    assert found.scores["acc"].tolist() == [1, 0] and found.mean == 0.5
    assert found.scores["nll"].tolist() == [1, 3]
    assert found.scores["bits_per_byte"][1] == pytest.approx(3 / math.log(2) / 5)
    assert found.choice.tolist() == [-1, -1] and "perplexity" not in found.scores


def test_bits_per_byte_of_texts_is_a_mean_over_bytes(tmp_path: Path) -> None:
    """The task's score is total bits over total bytes: lm-eval's own aggregate."""
    task = suite(benchmark_folder(tmp_path), "wikitext")["wikitext"]
    found = task_scores(task, [[Answer(-10.0 * (k + 1), False)] for k in range(4)])
    assert found.mean == pytest.approx(100 / math.log(2) / found.weights.sum())
    assert found.aggregates["bits_per_byte"] == pytest.approx(found.mean)
    assert set(found.aggregates) == {"bits_per_byte", "byte_perplexity", "word_perplexity"}


def test_several_right_choices_count_as_one(tmp_path: Path) -> None:
    from dataclasses import replace

    one = first(suite(benchmark_folder(tmp_path), "arc_easy"), 1)["arc_easy"]
    item = replace(one.items[0], gold=(0, 2), lengths=(1, 1, 1))
    found = task_scores(replace(one, items=(item,)), [answers(-1, -1, -1)])
    assert found.scores["p_gold"][0] == pytest.approx(2 / 3)


def test_a_slice_is_scored_as_in_the_whole(tmp_path: Path) -> None:
    """Trees are packed otherwise; scores are the same to rounding (float64), in the same order."""
    whole = suite(
        benchmark_folder(tmp_path), "hellaswag", "arc_easy", "lambada_openai", num_fewshot=2
    )
    scorer = tiny_scorer()
    done: list[int] = []
    all_scores = measure(whole, scorer, done.append)
    assert sum(done) == len(whole.request_trees.trees)
    part = measure(first(whole.half("report"), 3), scorer)
    for name, task in part.tasks.items():
        at = [all_scores[name].items.index(item) for item in task.items]
        for metric, values in task.scores.items():
            assert values == pytest.approx(all_scores[name].scores[metric][at], abs=1e-9), metric


def test_scores_are_the_models_own(tmp_path: Path) -> None:
    """Against a plain forward pass over context + choice."""
    import torch

    items = first(suite(benchmark_folder(tmp_path), "arc_easy"), 4)
    scorer = tiny_scorer()
    found = measure(items, scorer)["arc_easy"]
    expected: list[float] = []
    for item in items.items:
        for request in item.requests:
            (window,) = request.windows
            with torch.no_grad():
                logits = scorer.model(input_ids=torch.tensor([window.ids])).logits[0]
            logp = logits.log_softmax(-1)
            expected.append(
                sum(float(logp[t - 1, window.ids[t]]) for t in range(window.start, len(window.ids)))
            )
    assert found.logp == pytest.approx(expected, abs=1e-5)  # log-probs are summed in fp32


def test_a_measurement_survives_being_written(tmp_path: Path) -> None:
    tasks = suite(benchmark_folder(tmp_path), "hellaswag", "wikitext", "prose", items=4)
    once = measure(tasks, tiny_scorer())
    (tmp_path / "scores.npz").write_bytes(once.to_bytes())
    again = Measurement.from_bytes((tmp_path / "scores.npz").read_bytes())
    assert list(again.tasks) == ["hellaswag", "wikitext", "prose"]
    for name, task in once.tasks.items():
        for field, value in vars(task).items():
            back = getattr(again[name], field)
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, back) and value.dtype == back.dtype
            elif field == "scores":
                assert all(np.array_equal(value[m], back[m]) for m in value)
            else:
                assert value == back
    np.load(tmp_path / "scores.npz", allow_pickle=False).close()


def test_multiple_targets_and_custom_scoring(tmp_path: Path) -> None:
    """TruthfulQA mc2 scores itself: the probability of all true answers, not an argmax."""
    row = {
        "question": "Is it?",
        "mc1_targets": {"choices": ["yes", "no"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["yes", "sure", "no"], "labels": [1, 1, 0]},
    }
    write(tmp_path / "truthfulqa_mc2" / "validation.jsonl", [row, row])
    task = suite(tmp_path, "truthfulqa_mc2")["truthfulqa_mc2"]
    equal = [answers(*[-2.0] * len(item.requests)) for item in task.items]
    assert task_scores(task, equal).mean == pytest.approx(2 / 3)


def test_an_empty_suite_asks_nothing(tmp_path: Path) -> None:
    scorer = tiny_scorer()
    assert measure(suite(tmp_path), scorer).tasks == {} and scorer.forwards == 0


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    task = first(suite(benchmark_folder(tmp_path), "wikitext"), 1)["wikitext"]
    with pytest.raises(RunError, match="'wikitext' are not finite"):
        task_scores(task, [[Answer(math.nan, False)]])


def test_scores_made_in_parts_take_what_is_the_suites() -> None:
    """Six questions of three choices and then six of four: the first part's chance is 1/3, that of
    all is (6/3 + 6/4) / 12; so a measurement made in two is comparable with one made at once."""
    task = SimpleNamespace(
        identity=lambda: {"task": "quiz"},
        chance=(6 / 3 + 6 / 4) / 12,
        population=40,
        substitution="a note",
        items=[SimpleNamespace(cluster=None, half="report", stratum=0)] * 12,
        shares=(1.0,),
    )
    whole = as_drawn(scores([1] * 12, [3] * 6 + [4] * 6), task)  # type: ignore[arg-type]
    assert whole.chance == task.chance
    assert (whole.items_of, whole.note, whole.shares) == (40, "a note", [1.0])
    assert whole.stratum == [0] * 12
    assert whole.whole is None, "it is all that was asked, not a part"
