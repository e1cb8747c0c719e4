"""A hundred broken data files: each is told with its file and line, in one message, and nothing of
it is trained on.

Damage is done to one good file of forty lines, in each of the forms that are read: bytes that are
no text, JSON that is none, values of the wrong type, and files of other kinds.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.data.sources import files
from myosotis.utils.errors import DataError

COUNT, AT = 40, 17  # lines, and the one that is damaged
USER, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
GOOD: dict[str, Callable[[int], dict[str, Any]]] = {
    "answers": lambda i: {"prompt": f"q{i}", "completion": f"a{i}"},
    "chats": lambda i: {"messages": [USER | {"content": f"q{i}"}, SAID]},
    "pairs": lambda i: {"prompt": f"q{i}", "chosen": "a", "rejected": "b"},
    "grades": lambda i: {"prompt": f"q{i}", "completion": "a", "label": i % 2 == 0},
}
READS = {"answers": "answers", "chats": "answers", "pairs": "pairs", "grades": "grades"}

# What stands on the line, in any form.
LINES: dict[str, bytes] = {
    "cut": b'{"prompt": "q", "compl',
    "no closing brace": b'{"prompt": "q", "completion": "a"',
    "single quotes": b"{'prompt': 'q', 'completion': 'a'}",
    "a comma too many": b'{"prompt": "q", "completion": "a",}',
    "two objects": b'{"prompt": "q"} {"completion": "a"}',
    "words": b"this is no record",
    "null": b"null",
    "a number": b"17",
    "a string": b'"q"',
    "a list": b'["q", "a"]',
    "an empty object": b"{}",
    "NaN alone": b"NaN",
    "a key twice": b'{"prompt": "q", "prompt": "r", "completion": "a"}',
    "half a character": b'{"prompt": "\\ud83d", "completion": "a", "chosen": "a", "rejected": "b"}',
    "latin-1": '{"prompt": "caf\xe9", "completion": "a"}'.encode("latin-1"),
    "a byte of nothing": b'{"prompt": "q\xff", "completion": "a"}',
    "a zero byte": b'{"prompt": "q\x00", "completion": "a"}',
    "deep": b'{"prompt": ' + b"[" * 20_000,
    "a long number": b'{"prompt": ' + b"9" * 10_000 + b"}",
    "a control character": b'{"prompt": "a\x01b", "completion": "a"}',
}
# Values of the wrong type, by form.
WRONG: dict[str, list[dict[str, Any]]] = {
    "answers": [
        {"prompt": None, "completion": "a"},
        {"prompt": 5, "completion": "a"},
        {"prompt": "q", "completion": None},
        {"prompt": "q", "completion": ["a"]},
        {"prompt": "q", "completion": float("nan")},
        {"prompt": "q", "completion": {"text": "a"}},
        {"prompt": "q", "question": "q", "completion": "a"},
        {"prompt": "q", "completion": "a", "system": 1},
        {"prompt": "q", "completion": "a", "history": "before"},
        {"prompt": "q", "completion": "a", "history": [["q"]]},
        {"prompt": "q", "completion": "a", "tools": "none"},
        {"promt": "q", "completion": "a"},
    ],
    "chats": [
        {"messages": []},
        {"messages": {}},
        {"messages": "q"},
        {"messages": [USER]},
        {"messages": [USER, 5]},
        {"messages": [USER, {"role": "assistant"}]},
        {"messages": [USER, {"content": "a"}]},
        {"messages": [USER, SAID | {"role": "asistant"}]},
        {"messages": [USER, SAID | {"weight": 0}]},
        {"messages": [USER, SAID | {"weight": 2}]},
        {"messages": [USER, SAID | {"weight": 1, "train": False}]},
        {"messages": [USER, SAID | {"content": 5}]},
        {"messages": [USER, SAID | {"content": [{"type": "image_url"}]}]},
        {"messages": [USER | {"thinking": "hm"}, SAID]},
        {"messages": [USER, SAID | {"tool_calls": "f()"}]},
        {"messages": [USER, SAID | {"tool_calls": [{"function": {}}]}]},
        {"messages": [USER, SAID], "completion": "a"},
        {"messages": [USER, SAID], "conversations": [USER, SAID]},
    ],
    "pairs": [
        {"prompt": "q", "chosen": "a"},
        {"prompt": "q", "rejected": "a"},
        {"prompt": "q", "chosen": 1, "rejected": "b"},
        {"chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": [USER], "rejected": [USER]},
        {"chosen": [USER, SAID], "rejected": [SAID | {"role": "user"}, SAID]},
        {"prompt": "q", "chosen": [], "rejected": "b"},
        {"prompt": "q", "chosen": [SAID | {"weight": 0}], "rejected": "b"},
    ],
    "grades": [
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "completion": "a", "label": "good"},
        {"prompt": "q", "completion": "a", "label": 2},
        {"prompt": "q", "completion": "a", "label": None},
        {"prompt": "q", "completion": "a", "label": True, "kto_tag": True},
        {"prompt": "q", "label": True},
    ],
}
# Whole files, and what their name ends in.
WHOLE: dict[str, tuple[str, bytes]] = {
    "empty": (".jsonl", b""),
    "white space": (".jsonl", b" \n\n\t\n"),
    "only a mark of order": (".jsonl", b"\xef\xbb\xbf"),
    "utf-16": (".jsonl", '{"prompt": "q", "completion": "a"}\n'.encode("utf-16")),
    "binary": (".jsonl", bytes(range(256)) * 64),
    "zeros": (".jsonl", bytes(4096)),
    "a picture": (".jsonl", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "no gzip": (".jsonl.gz", b"this is no gzip"),
    "a cut gzip": (".jsonl.gz", gzip.compress(b'{"prompt": "q"}\n' * 900)[:-20]),
    "no zstd": (".jsonl.zst", b"this is no zstd"),
    "no parquet": (".parquet", b"PAR1 this is none PAR1"),
    "an empty parquet": (".parquet", b""),
    "a table without rows": (".csv", b"prompt,completion\n"),
    "a table with a name twice": (".csv", b"prompt,prompt\na,b\n"),
    "a table with a bare column": (".csv", b"prompt,\na,b\n"),
    "a table with a short row": (".csv", b"prompt,completion\na,b\nc\n"),
    "a table with an open quote": (".csv", b'prompt,completion\na,"b\n'),
    "a document that is none": (".json", b'[{"prompt": "q"},'),
    "a document of numbers": (".json", b"[1, 2, 3]"),
    "a document of two lists": (".json", b'{"a": [{"x": 1}],\n "b": [{"x": 2}]}'),
    "a document of null": (".json", b"[null]"),
    "markup": (".jsonl", b"<html><body>404 Not Found</body></html>"),
    "a pointer to a file elsewhere": (".jsonl", b"version https://git-lfs.github.com/spec/v1\n"),
}


def written(place: Path, form: str, line: bytes) -> Path:
    """A good file of a form, one line of which says something else."""
    lines = [json.dumps(GOOD[form](i)).encode() for i in range(1, COUNT + 1)]
    lines[AT - 1] = line
    path = place / "mine.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


CASES = [(form, name, line) for form in ("answers", "pairs") for name, line in LINES.items()]
CASES += [
    (form, f"{form} {i}", json.dumps(record).encode())
    for form, records in WRONG.items()
    for i, record in enumerate(records)
]


def test_there_are_a_hundred() -> None:
    assert len(CASES) + len(WHOLE) >= 100


@pytest.mark.parametrize(("form", "name", "line"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_damaged_line_is_told_with_its_place(
    form: str, name: str, line: bytes, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        files(written(tmp_path, form, line), reads=READS[form])
    said = str(caught.value)
    assert f"mine.jsonl:{AT}:" in said, said
    assert len(said) < 400 and "Traceback" not in said


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_damaged_file_is_told_by_its_name(name: str, tmp_path: Path) -> None:
    ending, content = WHOLE[name]
    path = tmp_path / f"mine{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        files(path)
    said = str(caught.value)
    assert "mine" in said and len(said) < 800, said


@pytest.mark.slow
def test_a_line_of_fifty_megabytes_is_read_and_a_broken_one_is_not_repeated(tmp_path: Path) -> None:
    long = "x" * 50_000_000
    whole = json.dumps({"prompt": "q", "completion": long}).encode()
    data = files(written(tmp_path, "answers", whole))
    assert sum(len(e.completion) > 10**7 for part in data.parts().values() for e in part) == 1
    with pytest.raises(DataError) as caught:
        files(written(tmp_path, "answers", whole[:-2]))
    assert f"mine.jsonl:{AT}: not valid JSON" in str(caught.value) and len(str(caught.value)) < 300


def test_what_is_no_damage_is_read(tmp_path: Path) -> None:
    """A mark of order, line ends of Windows, blank lines, and no line end at the end."""
    lines = [json.dumps(GOOD["answers"](i)) for i in range(COUNT)]
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    assert sum(map(len, files(path).parts().values())) == COUNT


@given(st.binary(max_size=300), st.sampled_from([".jsonl", ".json", ".csv", ".parquet", ".gz"]))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes, ending: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"mine{ending}")
        path.write_bytes(content)
        try:
            data = files(path)
        except DataError as error:
            assert "mine" in str(error)
        else:
            assert all(data.parts().values())
