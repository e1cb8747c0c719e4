"""`myosotis export-data`: what is written is what a training would learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from myosotis.commands.export_data import export_data
from myosotis.config import compose
from myosotis.utils.errors import ConfigError, DataError
from tests.world import build

CHAT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "first", "reasoning_content": "because"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "second", "reasoning_content": "so"},
]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 0, "b": 3}}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
CALLED = [
    {"role": "user", "content": "0 + 3?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    {"role": "tool", "name": "add", "content": "3"},
    {"role": "tool", "name": "add", "content": "3"},
    {"role": "assistant", "content": "three"},
]


def many(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Twenty conversations that begin differently."""
    first = messages[0]
    return [
        {"messages": [{**first, "content": f"{first['content']} {i:02}"}, *messages[1:]]}
        for i in range(20)
    ]


def export(folder: Path, records: list[dict[str, Any]], to: str, *words: str) -> dict[str, Any]:
    """The first written line and what was found."""
    if not (folder / "model").exists():
        build(folder)
    (folder / "mine.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    cfg = compose([
        "model=local", f"model.path={folder / 'model'}", "data=jsonl",
        f"data.path={folder / 'mine.jsonl'}", "data.val_fraction=0.2", "data.template=chatml",
        *words,
    ])  # fmt: skip
    found = export_data(cfg, to, folder / "out", price=0.003)
    return found | {"lines": [json.loads(line) for line in (folder / "out/train.jsonl").open()]}


def test_mask_and_reasoning_decide_what_is_written(tmp_path: Path) -> None:
    """What is only read has weight 0; without weights, a prompt and its completion say it."""
    words = ("data.reasoning=drop", "data.mask=last")
    told = export(tmp_path, many(CHAT), "openai", *words)["lines"][0]["messages"]
    assert [message.get("weight") for message in told] == [None, 0, None, None]
    assert [message["content"] for message in told] == [
        told[0]["content"],
        "first",
        "two",
        "second",
    ]
    assert not any("reason" in key for message in told for key in message)
    last = export(tmp_path, many(CHAT), "hf", *words)
    assert [m["content"] for m in last["lines"][0]["prompt"]] == [
        last["lines"][0]["prompt"][0]["content"], "first", "two",
    ]  # fmt: skip
    assert last["lines"][0]["completion"] == [{"role": "assistant", "content": "second"}]
    assert "train_with" not in last
    both = export(tmp_path, many(CHAT), "hf", words[0])
    assert both["train_with"] == "assistant_only_loss=True" and "messages" in both["lines"][0]
    with pytest.raises(ConfigError, match=r"data\.mask=full"):
        export(tmp_path, many(CHAT), "openai", "data.mask=full")


def test_the_price_is_that_of_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of examples that a training here would drop as too long; and unread fields are told."""
    records = [{"prompt": "a" * (10 + i), "completion": "b", "note": 1} for i in range(40)]
    whole = export(tmp_path, records, "together")
    assert "note (40)" in " ".join(capsys.readouterr().err.split())
    cut = export(tmp_path, records, "together", "data.max_length=60")
    assert cut["examples"] == whole["examples"] and cut["tokens"] == whole["tokens"]
    assert cut["training_price"] == pytest.approx(whole["tokens"] * 0.003 / 1000)


def test_calls_have_ids_and_written_arguments_for_openai(tmp_path: Path) -> None:
    """By OpenAI's reference of chat messages: `arguments` is a string of JSON, `tool_call_id` names
    the call that a result answers. TRL takes the arguments as they are."""
    records = [{**one, "tools": TOOLS} for one in many(CALLED)]
    line = export(tmp_path, records, "openai")["lines"][0]
    calls = line["messages"][1]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"a": 0, "b": 3}] * 2
    assert [call["id"] for call in calls] == ["call_1", "call_2"]
    assert [m.get("tool_call_id") for m in line["messages"]] == [
        None,
        None,
        "call_1",
        "call_2",
        None,
    ]
    kept = export(tmp_path, records, "hf")["lines"][0]["messages"][1]["tool_calls"]
    assert kept[0]["function"]["arguments"] == {"a": 0, "b": 3}
    with pytest.raises(DataError, match="which do not pair"):
        export(tmp_path, many([*CALLED[:3], CALLED[4]]), "openai")
