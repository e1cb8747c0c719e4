"""The suites of conf/retention: each composes, and names benchmarks that there are."""

from __future__ import annotations

import pytest

from myosotis.config import compose
from myosotis.config.compose import options
from myosotis.records.schema import GENERAL_TEXTS
from myosotis.retention.benchmarks.safety import NAMES
from myosotis.retention.harness.task_index import task_files

SUITES = {
    "default": ["hellaswag", "arc_easy", "piqa", "wikipedia", "prose"],
    "generation": ["gsm8k", "ifeval"],
    "knowledge": ["mmlu"],
    "language": ["blimp", "prose"],
    "none": [],
    "quick": ["hellaswag", "arc_easy", "piqa", "wikipedia", "prose"],
    "safety": ["hellaswag", "arc_easy", "piqa", "wikipedia", "prose", *NAMES],
    "standard": [
        *("hellaswag", "arc_challenge", "winogrande", "arc_easy", "piqa", "lambada_openai"),
        *("boolq", "openbookqa"),
    ],
}


def test_every_suite_is_known_here() -> None:
    assert options("retention") == sorted(SUITES)


@pytest.mark.parametrize("name", sorted(SUITES))
def test_a_suite_composes_and_its_benchmarks_exist(name: str) -> None:
    retention = compose([f"retention={name}"]).retention
    assert list(retention.suite) == SUITES[name]
    known = [*task_files().tasks, *task_files().groups, *GENERAL_TEXTS, *NAMES]
    assert [task for task in SUITES[name] if task not in known] == []
    assert retention["items"] > 0
