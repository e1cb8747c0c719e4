"""Near matches for a name nobody knows."""

from __future__ import annotations

import pytest

from myosotis.utils.did_you_mean import close, did_you_mean, near

KNOWN = ["hellaswag", "arc_easy", "piqa"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("helaswag", ["hellaswag"]),  # a letter lost
        ("PIQA", ["piqa"]),  # capitals
        ("easy", ["arc_easy"]),  # a part of a name
        ("piqa_validation", ["piqa"]),  # or more than one
        ("as", []),  # too short a part to mean anything
        ("rrrrr", []),
    ],
)
def test_what_a_name_may_have_meant(name: str, meant: list[str]) -> None:
    assert near(name, KNOWN) == meant


def test_the_likeliest_comes_first_and_no_more_than_asked() -> None:
    known = ["lora_alphas", "lora_alpha", "beta"]
    assert near("lora_alpah", known) == ["lora_alpha", "lora_alphas"]
    assert near("lora_alpah", known, 1) == ["lora_alpha"]


def test_a_cutoff_of_its_own() -> None:
    """difflib's ratio is 2 * matching letters / all letters."""
    assert close("prompt", ["promxy"], 1, cutoff=0.66) == ["promxy"]  # 2 * 4 / 12 = 0.667
    assert close("prompt", ["promxy"], 1, cutoff=0.67) == []


@pytest.mark.parametrize(
    ("name", "otherwise", "said"),
    [
        ("piqua", None, "Did you mean piqa?"),
        ("rrrrr", None, "Known: arc_easy, hellaswag, piqa."),
        ("rrrrr", "The newest is piqa.", "The newest is piqa."),
        ("piqua", "The newest is piqa.", "Did you mean piqa?"),
    ],
)
def test_the_sentence(name: str, otherwise: str | None, said: str) -> None:
    assert did_you_mean(name, KNOWN, otherwise) == said


def test_several_are_a_choice_and_too_many_known_are_none() -> None:
    names = [f"task_{n}" for n in range(31)]
    longer = ["task_1", "task_22", "task_333"]
    assert did_you_mean("task", longer) == "Did you mean task_1, task_22 or task_333?"
    assert did_you_mean("rrrrr", names) == ""
    assert did_you_mean("rrrrr", []) == ""
