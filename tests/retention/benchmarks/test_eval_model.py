"""Benchmarks answered in words: what is asked, what is made of it, and HFLM beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval import evaluate
from lm_eval.models.huggingface import HFLM

from myosotis.evaluation import samples
from myosotis.retention.benchmarks import build as suites
from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.measure import measure
from myosotis.retention.benchmarks.requests import Encoder, Prompt
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.compare import compare
from myosotis.retention.harness.data import DataLocator
from myosotis.retention.harness.lm import ForestLM
from myosotis.retention.harness.loader import load
from myosotis.utils.errors import MyosotisError
from tests.retention.small import benchmark_folder, byte_tokenizer, tiny_scorer, write

TOKENIZER = byte_tokenizer()


def sums(folder: Path, count: int = 6) -> Path:
    """GSM8K in its own columns: the sum of i and i."""
    rows = [
        {"question": f"What is {i} and {i}?", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"}
        for i in range(2, 2 + count)
    ]
    write(folder / "gsm8k" / "test.jsonl", rows)
    write(folder / "gsm8k" / "train.jsonl", rows[::-1])
    return folder


def built(folder: Path, *names: str, **settings: Any) -> Suite:
    words = {"context_length": 1024, "items": None, "locator": DataLocator(folder), **settings}
    return suites.build(names or ("gsm8k",), TOKENIZER, **words)


class Scripted:
    """Says what it is told to, prompt by prompt."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.asked: list[Prompt] = []

    def evaluate(self, trees: Sequence[Any], advance: Any = None) -> list[Any]:
        assert not trees
        return []

    def write(self, prompts: Sequence[Prompt], advance: Any = None) -> list[str]:
        self.asked = list(prompts)
        return list(self.texts)


def test_a_question_is_asked_as_lm_eval_asks_it(tmp_path: Path) -> None:
    suite = built(sums(tmp_path), num_fewshot=2)
    task = suite["gsm8k"]
    assert (task.kind, task.metric, task.accuracy_like, task.chance) == (
        "generate_until", "exact_match", True, 0.0,
    )  # fmt: skip
    assert len(suite.prompts) == len(task.items) == suite.size == 6
    prompt = suite.prompts[0]
    assert prompt.until == ("Question:", "</s>", "<|im_end|>")
    assert prompt.most == 256
    assert TOKENIZER.decode(prompt.ids) == task.items[0].prompt
    assert task.items[0].prompt.count("Question:") == 3
    assert task.items[0].prompt.endswith("\nAnswer:")


def test_a_long_prompt_loses_its_start() -> None:
    prompt = Encoder(TOKENIZER, 20).prompt("x" * 30 + "end", {"until": "\n", "max_gen_toks": 8})
    assert TOKENIZER.decode(prompt.ids) == "x" * 9 + "end"
    assert (prompt.until, prompt.most) == (("\n",), 8)


def test_the_number_and_the_format_are_told_apart(tmp_path: Path) -> None:
    """Item i asks for 2i; the order is that of the draw."""
    suite = built(sums(tmp_path))
    asked = [int(item.prompt.split("What is ")[-1].split()[0]) for item in suite.items]
    right = [f"so\n#### {2 * i}" for i in asked]
    told = [right[0], f"it is {2 * asked[1]}.", "#### 99999", "no idea", right[4], right[5]]
    base, tuned = measure(suite, Scripted(*right)), measure(suite, Scripted(*told))
    scores = tuned["gsm8k"].scores
    assert scores["exact_match"].tolist() == [1, 0, 0, 0, 1, 1]
    assert scores["exact_match,flexible-extract"].tolist() == [1, 1, 0, 0, 1, 1]
    assert scores["answered"].tolist() == [1, 0, 1, 0, 1, 1]
    assert tuned["gsm8k"].texts == told
    assert tuned["gsm8k"].aggregates["exact_match"] == pytest.approx(0.5)
    again = Measurement.from_bytes(tuned.to_bytes())
    assert again["gsm8k"].texts == told
    assert again.half("selection")["gsm8k"].texts == told[::2]

    (row,), mean = compare(base.tasks, tuned.tasks)
    assert (row.right_to_wrong, row.wrong_to_right, row.base, row.tuned) == (3, 0, 1.0, 0.5)
    assert mean is not None and mean.delta == pytest.approx(-0.5)
    assert "100.0% of the base's texts and 66.7% of the tuned model's" in row.note
    assert "Read by flexible-extract, exact_match is 100.0% and 66.7%" in row.note
    lost = samples.flips(suite, base, tuned)
    assert [flip.choices for flip in lost] == [[right[i], told[i]] for i in (1, 2, 3)]
    assert {(flip.gold, flip.base_choice, flip.tuned_choice) for flip in lost} == {(0, 0, 1)}


def test_lm_eval_gets_the_same_from_us_as_from_hflm(tmp_path: Path) -> None:
    """A random model repeats its favourite bytes; one of them ends its answers here."""
    scorer = tiny_scorer(1024)
    first = EvalModel(scorer, TOKENIZER).write([Prompt(tuple(b"Answer:"), (), 12)])[0]
    common = max(set(first), key=first.count)
    task = tmp_path / "sums.yaml"
    task.write_text(
        "task: sums\ndataset_path: json\noutput_type: generate_until\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/gsm8k/test.jsonl}}}}\n"
        "test_split: test\nnum_fewshot: 0\n"
        'doc_to_text: "Question: {{question}}\\nAnswer:"\ndoc_to_target: "{{answer}}"\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
        "generation_kwargs: {max_gen_toks: 24, do_sample: false, until: "
        f"['\\n\\n', {common!r}]}}\n"
    )
    (loaded,) = load(str(task), DataLocator(sums(tmp_path)))
    theirs = HFLM(pretrained=scorer.model, tokenizer=TOKENIZER, max_length=1024)
    said = []
    for lm in (ForestLM(scorer, TOKENIZER, 1024), theirs):
        found = evaluate(lm, {"sums": loaded.harness}, bootstrap_iters=0, log_samples=True)
        assert found is not None
        said.append([sample["resps"] for sample in found["samples"]["sums"]])
    assert said[0] == said[1]
    assert all(common not in text for ((text,),) in said[0])


def test_a_suite_of_both_kinds_is_asked_at_once(tmp_path: Path) -> None:
    """The prompts of one task do not move the answers of another."""
    folder = sums(benchmark_folder(tmp_path))
    both = built(folder, "arc_easy", "gsm8k")
    alone = built(folder, "arc_easy")
    scorer, counted = tiny_scorer(1024), []
    found = measure(both, EvalModel(scorer, TOKENIZER), counted.append)
    assert found["arc_easy"].logp.tolist() == measure(alone, scorer)["arc_easy"].logp.tolist()
    assert len(found["gsm8k"].texts) == 6 and found["gsm8k"].logp.size == 0
    assert sum(counted) == both.size == len(both.request_trees.trees) + 6
    with pytest.raises(TypeError, match="EvalModel"):
        measure(both, scorer)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("generation_kwargs: {do_sample: true}", "answers are sampled"),
        ("generation_kwargs: {temperature: 0.7}", "answers are sampled"),
        ("repeats: 8", "asks each question 8 times"),
        ("generation_kwargs: {max_gen_toks: 1024}", "1024 tokens"),
    ],
)
def test_what_cannot_be_paired_is_refused(tmp_path: Path, line: str, said: str) -> None:
    task = tmp_path / "t.yaml"
    task.write_text(
        "task: t\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/gsm8k/test.jsonl}}}}\n"
        'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\nnum_fewshot: 0\n'
        f"metric_list: [{{metric: exact_match}}]\n{line}\n"
    )
    with pytest.raises(MyosotisError, match=said):
        built(sums(tmp_path), str(task))
