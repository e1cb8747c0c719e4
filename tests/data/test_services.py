"""Records of hosted services, their limits, and what tuning costs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from myosotis.data.services import SERVICES, Price, faults, lines_of, record_of
from myosotis.data.sft import Example, Message

PAIR = Example((Message("user", "q"), Message("assistant", "a")), "f:1")
CHAT = Example(
    (
        Message("system", "s"),
        Message("user", "q"),
        Message("assistant", "a", False),
        Message("user", "r"),
        Message("assistant", "b"),
    ),
    "f:2",
)
TEXT = Example((Message("user", ""), Message("assistant", "t")), "f:3", completion_only=False)
CALLS = json.dumps([{"type": "function", "function": {"name": "f", "arguments": "{}"}}])
USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_prompt_and_its_answer_are_messages(service: str) -> None:
    assert record_of(PAIR, SERVICES[service]) == {"messages": [USER, ANSWER]}
    assert faults(PAIR, SERVICES[service]) == []


def test_a_turn_that_is_only_read_has_weight_0() -> None:
    told = record_of(CHAT, SERVICES["openai"])["messages"]
    assert [message.get("weight") for message in told] == [None, None, 0, None, None]
    assert faults(CHAT, SERVICES["together"]) == []
    (fault,) = faults(CHAT, SERVICES["hf"])
    assert "only to be read" in fault


def test_pairs_have_the_form_of_each_service() -> None:
    pair = replace(PAIR, rejected="c")
    worse = [{"role": "assistant", "content": "c"}]
    hosted = {
        "input": {"messages": [USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": worse,
    }
    assert record_of(pair, SERVICES["openai"]) == record_of(pair, SERVICES["together"]) == hosted
    assert record_of(pair, SERVICES["hf"]) == {
        "prompt": [USER],
        "chosen": [ANSWER],
        "rejected": worse,
    }


@pytest.mark.parametrize(
    ("service", "example", "fault"),
    [
        ("openai", TEXT, "plain text"),
        ("openai", replace(PAIR, desirable=True), "graded"),
        ("openai", PAIR.answered(" "), "without text"),
        ("openai", replace(PAIR, rejected=""), "without text"),
        ("together", replace(PAIR, tools="[]"), "tools"),
        ("together", Example((*PAIR.messages, *PAIR.messages[1:]), "f:4"), "alternate"),
        ("together", Example((Message("tool", "x"), *PAIR.messages), "f:5"), "turn of the tool"),
        (
            "hf",
            Example((PAIR.messages[0], Message("assistant", "a", reasoning="r")), "f:6"),
            "reasoning",
        ),
    ],
)
def test_what_a_service_does_not_take_is_named(service: str, example: Example, fault: str) -> None:
    assert any(fault in told for told in faults(example, SERVICES[service]))


def test_a_call_needs_no_text() -> None:
    call = Example((PAIR.messages[0], Message("assistant", "", calls=CALLS)), "f:7")
    assert faults(call, SERVICES["openai"]) == []
    assert record_of(call, SERVICES["openai"])["messages"][1]["tool_calls"][0]["type"] == "function"


def test_the_limit_of_tokens_is_published() -> None:
    assert faults(PAIR, SERVICES["openai"], 65_536) == []
    assert "65,537 tokens" in faults(PAIR, SERVICES["openai"], 65_537)[0]


def test_lines_are_json_in_utf_8() -> None:
    lines: list[str] = []
    lines_of([PAIR, PAIR.answered("é\n")], SERVICES["openai"], lines.append)
    parsed: list[Any] = [json.loads(line) for line in lines]
    assert len(parsed) == 2 and "é" in lines[1] and lines[1].count("\n") == 1


def test_a_million_tokens_at_0_003_a_thousand_are_3() -> None:
    assert Price(1_000_000, 1, 0.003).training == pytest.approx(3.00)
    assert Price(1_000_000, 3, 0.003).training == pytest.approx(9.00)


def test_when_tuning_pays() -> None:
    """3.00 of training; a call saves 900 of 1,000 tokens at 0.001, and costs 100 at 0.002:
    0.001 - 0.0002 = 0.0008 a call, so 3,750 calls."""
    price = Price(1_000_000, 1, 0.003)
    words = {"call_tokens": 100, "base_price": 0.001, "tuned_price": 0.002}
    assert price.pays_after(saved_tokens=900, **words) == 3750
    assert price.pays_after(saved_tokens=0, **words) is None
