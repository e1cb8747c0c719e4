"""Our log-likelihoods against lm-eval's `HFLM`: same requests, same numbers, same metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval import evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from myosotis.retention.harness.data import DataLocator
from myosotis.retention.harness.lm import ForestLM
from myosotis.retention.harness.loader import load
from myosotis.utils.errors import AssetError
from tests.retention.small import benchmark_folder, byte_tokenizer, tiny_scorer

CONTEXT = 48
TOKENIZER = byte_tokenizer()
PAIRS = [
    ("Question: why?\nAnswer:", " because"),
    ("Question: why?\nAnswer:", " be"),
    ("Question: why?\nAnswer:", " y"),
    ("Question: why?\nAnswer: ", "spaces go over"),
    ("", "nothing before"),
    ("", "<s>prefix written out"),
    ("<s>BOS written out", " yes"),
    ("x" * 100, " the start of the context is lost"),
    ("é ü 漢字", " ñ"),
    ("x", "y" * CONTEXT),
]
TEXTS = ["", "a", "short", "x" * (CONTEXT - 1), "x" * CONTEXT, "words " * 40]


def instances(kind: str, arguments: list[Any]) -> list[Instance]:
    return [
        Instance(kind, {}, args, 0, metadata=("t", number, 1))  # pyright: ignore
        for number, args in enumerate(arguments)
    ]


@pytest.fixture(scope="module")
def models() -> tuple[ForestLM, HFLM]:
    scorer = tiny_scorer(context=CONTEXT + 1)
    theirs = HFLM(pretrained=scorer.model, tokenizer=TOKENIZER, max_length=CONTEXT, batch_size=3)
    return ForestLM(scorer, TOKENIZER, CONTEXT), theirs


def test_log_likelihoods_are_hflms(models: tuple[ForestLM, HFLM]) -> None:
    ours, theirs = models
    found = ours.loglikelihood(instances("loglikelihood", PAIRS))
    expected = theirs.loglikelihood(instances("loglikelihood", PAIRS))
    assert [x for x, _ in found] == pytest.approx([x for x, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_greedy_answers_are_noticed(models: tuple[ForestLM, HFLM]) -> None:
    """Say what the model would say next, where that is a character."""
    ours, theirs = models
    pairs: list[tuple[str, str]] = []
    for context in ("a", "b", "hello", "why", "x y", "123", "?", "The", "ab", "cd"):
        with torch.no_grad():
            logits = theirs.model(torch.tensor([TOKENIZER.encode(context)])).logits
        text = TOKENIZER.decode(int(logits[0, -1].argmax()))
        if text.isascii() and text.strip() == text != "<s>":
            pairs.append((context, text))
    assert pairs
    asked = instances("loglikelihood", pairs)
    assert all(greedy for _, greedy in ours.loglikelihood(asked))
    assert all(greedy for _, greedy in theirs.loglikelihood(asked))


def test_rolling_log_likelihoods_are_hflms(models: tuple[ForestLM, HFLM]) -> None:
    ours, theirs = models
    texts = [(text,) for text in TEXTS]
    found = ours.loglikelihood_rolling(instances("loglikelihood_rolling", texts))
    expected = theirs.loglikelihood_rolling(instances("loglikelihood_rolling", texts))
    assert found == pytest.approx(expected, abs=1e-3)


def test_lm_evals_own_evaluator_drives_it(tmp_path: Path) -> None:
    locator = DataLocator(benchmark_folder(tmp_path, 6))
    scorer = tiny_scorer()
    tasks = {
        one.name: one.harness
        for name in ("hellaswag", "lambada_openai", "wikitext")
        for one in load(name, locator)
    }
    theirs = HFLM(pretrained=scorer.model, tokenizer=TOKENIZER, max_length=512)
    results = [
        evaluate(lm, {"tasks": tasks}, bootstrap_iters=0)["results"]  # pyright: ignore
        for lm in (ForestLM(scorer, TOKENIZER, 512), theirs)
    ]
    for task in tasks:
        for metric, value in results[1][task].items():
            if isinstance(value, float):
                assert results[0][task][metric] == pytest.approx(value, rel=1e-4), (task, metric)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "items", "num_fewshot"),
    [(["hellaswag", "arc_easy", "piqa"], 6, 0), (["arc_easy", "piqa"], 3, 3)],
)
def test_the_real_model_agrees_with_hflm(tasks: list[str], items: int, num_fewshot: int) -> None:
    """In fp32; bench/check_hflm.py does the same on 200 items and more."""
    from bench.check_hflm import compare

    try:
        rows = list(compare(tasks, items=items, num_fewshot=num_fewshot))
    except AssetError as error:
        pytest.skip(f"the embedded model or the benchmarks are not at hand: {error.message}")
    assert len(rows) == len(tasks)
    for row in rows:
        assert row.largest <= 1e-3 and row.same_answers and row.greedy_differ == 0, row
        assert row.acc[0] == row.acc[1] and row.acc_norm[0] == row.acc_norm[1], row
