"""Turns and what stands beside them: used, refused, or named as unused; in every form alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from myosotis.data.conversation import Message
from myosotis.data.preference import read_pairs
from myosotis.data.records import present
from myosotis.data.sft import Records, read_answers
from myosotis.data.unpaired import read_grades
from myosotis.utils.errors import DataError

USER = {"role": "user", "content": "q"}
SAID = {"role": "assistant", "content": "a"}
TURNS = ["user:q", "assistant:a"]


def file(folder: Path, *records: Any) -> Path:
    path = folder / "file.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def turns(messages: tuple[Message, ...]) -> list[str]:
    return [f"{m.role}:{m.content}" for m in messages]


def answers(folder: Path, *records: Any) -> Records:
    return read_answers(file(folder, *records))


FORMS = [
    {"prompt": "q", "completion": "a"},
    {"instruction": "q", "input": "", "output": "a"},
    {"messages": [USER, SAID]},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {"prompt": [USER], "completion": [SAID]},
]


@pytest.mark.parametrize("form", FORMS)
def test_system_history_and_tools_beside_any_form(tmp_path: Path, form: dict[str, Any]) -> None:
    beside = {"system": "s", "history": [["hi", "ho"]], "tools": [{"name": "f"}], "id": 1}
    records = answers(tmp_path, beside | form)
    (example,) = records.examples
    assert turns(example.messages) == ["system:s", "user:hi", "assistant:ho", *TURNS]
    assert [m.scored for m in example.messages if m.role == "assistant"] == [False, True]
    assert json.loads(example.tools) == [{"type": "function", "function": {"name": "f"}}]
    assert records.unused == {"id": 1}


def test_a_system_turn_that_is_there_is_not_doubled_and_another_is_refused(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "s"}, USER, SAID]
    (example,) = answers(tmp_path, {"system": "s", "messages": chat}).examples
    assert turns(example.messages) == ["system:s", *TURNS]
    with pytest.raises(DataError, match=r"file.jsonl:1: two system turns"):
        answers(tmp_path, {"system": "other", "messages": chat})


def test_system_and_tools_beside_pairs_and_grades(tmp_path: Path) -> None:
    beside = {"system": "s", "tools": [{"name": "f"}], "id": 1, "group": 7}
    pairs = read_pairs(file(tmp_path, beside | {"question": "q", "chosen": "a", "rejected": "b"}))
    assert turns(pairs.examples[0].messages) == ["system:s", *TURNS]
    assert pairs.examples[0].rejected == "b" and pairs.examples[0].tools
    assert pairs.unused == {"id": 1} and pairs.examples[0].groups == ("7",)
    grades = read_grades(file(tmp_path, beside | {"prompt": "q", "completion": "a", "label": True}))
    assert turns(grades.examples[0].messages) == ["system:s", *TURNS]
    assert grades.unused == {"id": 1}


@pytest.mark.parametrize(
    ("flags", "scored"),
    [
        ({}, True),
        ({"weight": 0}, False),
        ({"train": False}, False),
        ({"loss": False}, False),
        ({"mask": True}, False),
        ({"mask": 0, "weight": 1.0, "train": True}, True),
    ],
)
def test_turns_that_are_read_only(tmp_path: Path, flags: dict[str, Any], scored: bool) -> None:
    for turn in (SAID, {"from": "gpt", "value": "a"}):
        opening = USER if turn is SAID else {"from": "human", "value": "q"}
        record = {"messages": [opening, turn | flags, opening, turn]}
        (example,) = answers(tmp_path, record).examples
        assert [m.scored for m in example.messages] == [True, scored, True, True]


def test_flags_that_contradict_or_are_none_are_refused(tmp_path: Path) -> None:
    def told(flags: dict[str, Any]) -> str:
        with pytest.raises(DataError) as caught:
            answers(tmp_path, {"messages": [USER, SAID | flags]})
        return str(caught.value)

    assert "'weight' and 'train' contradict each other" in told({"weight": 1, "train": False})
    assert "has mask 'yes'; expected 0 or 1" in told({"mask": "yes"})


def test_keys_of_turns_that_are_left_unread_are_named(tmp_path: Path) -> None:
    chat = [USER | {"id": 1, "train": True}, SAID | {"likes": 3}]
    assert answers(tmp_path, {"messages": chat}).unused == {
        "messages[].id": 1,
        "messages[].likes": 1,
        "messages[].train": 1,  # a user's turn is never learned from
    }
    sides = {"chosen": [USER, SAID | {"score": 5}], "rejected": [USER, SAID | {"content": "b"}]}
    assert read_pairs(file(tmp_path, sides)).unused == {"chosen[].score": 1}


def test_reasoning_by_any_of_its_names(tmp_path: Path) -> None:
    for key in ("reasoning_content", "reasoning", "thinking"):
        (example,) = answers(tmp_path, {"messages": [USER, SAID | {key: "hm"}]}).examples
        assert example.messages[1] == Message("assistant", "a", reasoning="hm")
    with pytest.raises(DataError, match="only the assistant reasons"):
        answers(tmp_path, {"messages": [USER | {"thinking": "hm"}, SAID]})


CALL = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": None}}}]


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": CALL},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": '{"a": 1, "b": null}'}]},
        {"role": "assistant", "function_call": {"name": "add", "arguments": {"a": 1, "b": None}}},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1, "b": null}}'},
    ],
)
def test_calls_in_every_spelling_are_one(tmp_path: Path, turn: dict[str, Any]) -> None:
    """A null that the file itself writes among a call's arguments is a value."""
    result = {"role": "tool", "name": "add", "content": "3"}
    (example,) = answers(tmp_path, {"messages": [USER, turn, result, SAID]}).examples
    assert example.messages[1].content == ""
    assert json.loads(example.messages[1].calls) == CALL
    assert example.messages[2] == Message("tool", "3", name="add")


def test_null_is_absent(tmp_path: Path) -> None:
    assert present({"a": None, "b": [{"c": None, "d": 0}]}, False) == {"b": [{"d": 0}]}
    call = {"arguments": {"x": None}}
    assert present(call, columns=False) == call and present(call, columns=True) == {"arguments": {}}

    def parquet(record: dict[str, Any]) -> Path:
        pq.write_table(pa.Table.from_pylist([record, record]), tmp_path / "f.parquet")
        return tmp_path / "f.parquet"

    nothing = {"prompt": None, "completion": None, "label": None, "weight": None}
    chat = [USER | {"weight": None, "from": None, "value": None}, SAID]
    records = read_answers(parquet({"messages": chat, **nothing}))
    assert turns(records.examples[0].messages) == TURNS and records.unused == {}
    shared = [
        {"from": "human", "value": "q", "role": None, "content": None},
        {"from": "gpt", "value": "a", "role": None, "content": None},
    ]
    assert turns(read_answers(parquet({"conversations": shared})).examples[0].messages) == TURNS
    graded = {"prompt": "q", "completion": "a", "label": False, "kto_tag": None}
    assert read_grades(parquet(graded)).examples[0].desirable is False


WORSE = SAID | {"content": "b"}


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"prompt": "q"},
        {"prompt": [USER]},
        {"prompt": [{"role": "system", "content": "s"}, USER]},
        {"system": "s", "prompt": "q"},
    ],
)
def test_sides_that_are_whole_chats(tmp_path: Path, prompt: dict[str, Any]) -> None:
    sides = {"chosen": [USER, SAID], "rejected": [USER, WORSE]}
    records = read_pairs(file(tmp_path, prompt | sides))
    (example,) = records.examples
    system = ["system:s"] if '"s"' in json.dumps(prompt) else []
    assert turns(example.messages) == [*system, *TURNS]
    assert example.rejected == "b" and records.unused == {}


def test_the_prompt_field_may_be_the_first_or_the_last_question(tmp_path: Path) -> None:
    before = [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "a0"}, USER]
    for prompt in ("q0", "q", before):
        sides = {"prompt": prompt, "chosen": [*before, SAID], "rejected": [*before, WORSE]}
        (example,) = read_pairs(file(tmp_path, sides)).examples
        assert turns(example.messages) == ["user:q0", "assistant:a0", *TURNS]
        assert [m.scored for m in example.messages] == [False, False, False, True]


def test_sides_that_do_not_begin_with_the_prompt_are_refused(tmp_path: Path) -> None:
    sides = {"prompt": "p", "chosen": [USER, SAID], "rejected": [USER, WORSE]}
    with pytest.raises(DataError, match=r"file.jsonl:1: the prompt is not what 'chosen'"):
        read_pairs(file(tmp_path, sides))
    apart = {"chosen": [USER, SAID], "rejected": [USER | {"content": "p"}, WORSE]}
    with pytest.raises(DataError, match="different prompts"):
        read_pairs(file(tmp_path, apart))


def test_a_rejected_answer_keeps_its_own_reasoning(tmp_path: Path) -> None:
    sides = {
        "prompt": "q",
        "chosen": [SAID | {"reasoning_content": "yes"}],
        "rejected": [WORSE | {"reasoning_content": "no"}],
    }
    (example,) = read_pairs(file(tmp_path, sides)).examples
    assert example.messages[-1] == Message("assistant", "a", reasoning="yes")
    assert example.with_rejected().messages[-1] == Message("assistant", "b", reasoning="no")
