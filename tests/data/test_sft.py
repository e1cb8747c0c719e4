"""Records: what is read, and that every fault is told with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from myosotis.data.fields import Fields
from myosotis.data.sft import Message, Records, read_answers
from myosotis.utils.errors import DataError


def write(folder: Path, *lines: Any, name: str = "file.jsonl") -> Path:
    """A line for each argument: bytes as they are, anything else as JSON."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / name).write_bytes(b"\n".join(raw) + b"\n")
    return folder / name


def read(folder: Path, *lines: Any, **options: Any) -> Records:
    return read_answers(write(folder, *lines), **options)


def fault(folder: Path, line: Any, **options: Any) -> str:
    good = {"prompt": "a", "completion": "b"}
    with pytest.raises(DataError) as caught:
        read(folder, good, line, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"prompt": "a", "completion": "b"}, ["user:a", "assistant:b"]),
        ({"prompt": "a", "response": "b"}, ["user:a", "assistant:b"]),
        ({"question": "a", "answer": "b", "id": 3}, ["user:a", "assistant:b"]),
        ({"input": "a", "output": "b"}, ["user:a", "assistant:b"]),
        ({"instruction": "a", "input": "c", "output": "b"}, ["user:a\n\nc", "assistant:b"]),
        ({"instruction": "a", "input": "", "output": "b"}, ["user:a", "assistant:b"]),
        ({"instruction": "a", "input": None, "output": "b"}, ["user:a", "assistant:b"]),
        (
            {"system": "s", "prompt": "a", "completion": ""},
            ["system:s", "user:a", "assistant:"],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "a"}]},
                    {"role": "assistant", "content": "b"},
                ]
            },
            ["user:a", "assistant:b"],
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            ["user:a", "assistant:b"],
        ),
        (
            {
                "prompt": [{"role": "user", "content": "a"}],
                "completion": [{"role": "assistant", "content": "b"}],
            },
            ["user:a", "assistant:b"],
        ),
    ],
)
def test_the_usual_records(tmp_path: Path, record: dict[str, Any], turns: list[str]) -> None:
    (example,) = read(tmp_path, record).examples
    assert [f"{m.role}:{m.content}" for m in example.messages] == turns
    assert example.where == "file.jsonl:1"


def test_fields_of_ones_own(tmp_path: Path) -> None:
    named = Fields({"prompt": "text", "completion": "category"})
    records = read(tmp_path, {"text": "a", "category": "b", "system": "no"}, fields=named)
    assert records.examples[0].messages == (Message("user", "a"), Message("assistant", "b"))
    assert records.unused == {"system": 1} and records.forms == {"prompt and completion": 1}
    told = fault(tmp_path, {"Text": "a", "b": ""}, fields=named)
    assert "file.jsonl" in told and "no field 'text'; Did you mean Text?" in told


def test_openai_weights_and_prompts_that_hold_answers(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "a"}
    said = {"role": "assistant", "content": "b"}
    chat = read(tmp_path, {"messages": [turn, said | {"weight": 0}, turn, said]})
    assert [m.scored for m in chat.examples[0].messages] == [True, False, True, True]
    pair = read(tmp_path, {"prompt": [turn, said, turn], "completion": [said]})
    assert [m.scored for m in pair.examples[0].messages] == [False, False, False, True]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"prompt": "a", "completion": "b"', "not valid JSON: Expecting ',' delimiter"),
        (b'{"prompt": "a", "prompt": "c", "completion": "b"}', "the key 'prompt' appears twice"),
        (b"[" * 100_000, "not valid JSON"),
        (["a", "b"], "a list instead of a JSON object"),
        ({}, "an empty record"),
        ({"prompt": "a"}, "no completion: the fields are 'prompt'"),
        ({"completion": "a"}, "no prompt: the fields are 'completion'"),
        ({"prompt": "a", "completions": "b"}, "did you mean 'completion' where it says 'compl"),
        ({"Prompt": "a", "completion": "b"}, "did you mean 'prompt' where it says 'Prompt'?"),
        ({"prompt": "a", "completion": 3}, "'completion' is the number 3; expected text"),
        ({"prompt": None, "completion": "b"}, "no prompt: the fields are 'completion'"),
        ({"prompt": "a", "answer": "b", "response": "c"}, "both 'response' and 'answer'"),
        ({"prompt": "a", "question": "b", "answer": "c"}, "both 'prompt' and 'question'"),
        (b'{"prompt": "a", "completion": "\\ud83d"}', r"half a character (\ud83d)"),
        ({"messages": []}, "'messages' is an empty list"),
        ({"messages": "hi"}, "'messages' is a string; expected a list of messages"),
        ({"messages": ["hi"]}, "messages[0] is a string"),
        (
            {"messages": [{"role": "user", "contents": "a"}]},
            "no 'content'; did you mean 'contents'",
        ),
        ({"messages": [{"role": "asistant", "content": "a"}]}, "Did you mean assistant?"),
        ({"messages": [{"role": "user", "content": "a"}]}, "the last message is the user's"),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [1]}]},
            "messages[0].tool_calls holds the number 1; expected calls with a name",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "weight": 0}]},
            "nothing to learn from",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "not text"),
    ],
)
def test_a_bad_line_is_told_with_its_place(tmp_path: Path, line: Any, told: str) -> None:
    assert fault(tmp_path, line).startswith("file.jsonl:2: ")
    assert told in fault(tmp_path, line)


def test_all_faults_are_counted_and_the_first_five_shown(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, {"prompt": "a", "completion": "b"}, *[{"prompt": "a"}] * 7)
    lines = str(caught.value).splitlines()
    assert lines[0] == "7 of 8 records cannot be used:"
    assert [line.split(" ")[0] for line in lines[1:6]] == [f"file.jsonl:{n}:" for n in range(2, 7)]
    assert lines[6] == "… and 2 more"


def test_files_that_are_not_what_is_expected(tmp_path: Path) -> None:
    def told(raw: bytes, name: str = "file.jsonl") -> str:
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(DataError) as caught:
            read_answers(tmp_path / name)
        return str(caught.value)

    assert "is empty" in told(b" \n\n")
    assert "record 1: no completion" in told(b'[{"prompt": "a"}]')
    assert "file.jsonl:2: not UTF-8 (byte 0xe9 at column 13)" in told(
        b'{"prompt": "a", "completion": "b"}\n{"prompt": "\xe9"}'
    )
    assert "UTF-16" in told('{"prompt": "a"}'.encode("utf-16"))
    with pytest.raises(DataError, match=r"no data file .*\n.*Did you mean .*file.jsonl"):
        read_answers(tmp_path / "fle.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is a folder without data files"):
        read_answers(tmp_path / "empty")


def test_blank_lines_byte_order_marks_and_line_separators_in_text(tmp_path: Path) -> None:
    """U+2028 ends a line for `str.splitlines`, not for JSON Lines."""
    line = json.dumps({"prompt": "a\u2028b", "completion": "c"}, ensure_ascii=False).encode()
    records = read(tmp_path, b"\xef\xbb\xbf" + line + b"\r", b"", b"  ", line)
    assert [e.where for e in records.examples] == ["file.jsonl:1", "file.jsonl:4"]
    assert records.examples[0].prompt[0].content == "a\u2028b"


def test_what_is_left_unused_or_empty_is_remembered(tmp_path: Path) -> None:
    records = read(
        tmp_path,
        {"prompt": "a", "completion": " ", "id": 1},
        {"prompt": "a", "completion": "b", "id": 2, "tag": ""},
    )
    assert records.unused == {"id": 2, "tag": 1}
    assert records.empty_answers == ["file.jsonl:1"]


def test_pairs_are_told_where_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 5)
    with pytest.raises(DataError, match="data=pairs, and learned with method=dpo"):
        read_answers(path)
