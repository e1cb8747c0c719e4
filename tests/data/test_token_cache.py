"""Tokens in batches and on disk are those of an example at a time, in memory."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.data import datamodule, kept_files, token_cache
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example, Message
from myosotis.data.span_tokenizer import Piece, SpanTokenizer
from myosotis.data.stored_examples import StoredExamples, digest_of, traits, write_examples
from myosotis.data.token_cache import encode_on_disk
from myosotis.data.tokenize import Overlong, encode
from myosotis.trees.stored_trees import StoredTrees
from myosotis.utils.errors import DataError
from tests.data.conftest import byte_level, sentence_piece
from tests.data.golden import CASES, INST, module, summary

BEFORE = {
    "answers": "36c30c240071a925",
    "answers without a template": "b7d55e73f5663acd",
    "answers of a sentence piece": "300fa651d53e16db",
    "cut answers": "0eb863f52f242340",
    "dropped answers": "b0d52262c0eaa6b9",
    "chats": "74487ab361efe7de",
    "chats, all scored": "db53ff75273cad10",
    "chats, last answer": "2b951efc1bcb2a93",
    "pairs": "686fd27f447f10fa",
    "pairs as answers": "e453c1924576fda0",
    "pairs as grades": "7f94b2b67f600ae7",
    "grades": "b51af821e9b84f76",
    "rewards": "0db364d31b0091a4",
    "labels": "ca103895d004d9c1",
    "texts": "f96875579a2b6a5f",
    "two sources": "62ab7068d74beacb",
}
"""`golden.summary` of 300 records of each case by the code before: span by span, in memory."""


@pytest.fixture
def all_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """However small the data are; a cache of its own."""
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_files, "FEW_BYTES", 0)
    monkeypatch.setattr(datamodule, "FEW", 0)
    monkeypatch.setattr(token_cache, "CHUNK", 64)
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_batches_are_what_they_were(case: str, all_on_disk: Path) -> None:
    """Made, and read again; with what is held out, what did not fit, and whose trees they are."""
    made = module(CASES[case], all_on_disk, 300)
    assert summary(made) == BEFORE[case]
    again = module(CASES[case], all_on_disk, 300)
    assert isinstance(again.train_trees, StoredTrees)
    assert summary(again) == BEFORE[case]


@pytest.mark.parametrize("case", ["answers", "pairs"])
def test_in_memory_they_are_the_same(case: str, tmp_path: Path) -> None:
    made = module(CASES[case], tmp_path, 300)
    assert isinstance(made.train_trees, list)
    assert summary(made) == BEFORE[case]


def test_the_second_time_nothing_is_read_or_tokenised(
    all_on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(CASES["answers"], all_on_disk, 20).setup()

    def never(*_: Any) -> Any:
        raise AssertionError("made again")

    monkeypatch.setattr(kept_files, "_write", never)
    monkeypatch.setattr(token_cache, "_write", never)
    module(CASES["answers"], all_on_disk, 20).setup()
    with pytest.raises(AssertionError, match="made again"):
        module(CASES["answers"] | {"mask": "full"}, all_on_disk, 20).setup()
    with pytest.raises(AssertionError, match="made again"):
        module(CASES["answers"], all_on_disk, 21)


CASES_OF_TEXT = [byte_level(), sentence_piece(INST)]
PARTS = ["a", "the answer", "<|im_end|>", "<s>", "</s>", " ", "\n", "[INST]", "prompt\n\n", "é", ""]
piece = st.builds(
    Piece, st.lists(st.sampled_from(PARTS), max_size=4).map("".join), st.booleans(), st.booleans()
)


@given(st.lists(piece, max_size=12), st.sampled_from(CASES_OF_TEXT))
@settings(deadline=None)
def test_pieces_together_are_what_they_are_alone(pieces: list[Piece], tokenizer: Any) -> None:
    def alone(one: Piece) -> list[int] | None:
        try:
            return SpanTokenizer(tokenizer).ids(one.text, verbatim=one.verbatim, first=one.first)
        except DataError:
            return None

    expected = [alone(one) for one in pieces]
    if None in expected:
        with pytest.raises(DataError):
            SpanTokenizer(tokenizer).ids_of(pieces)
    else:
        assert SpanTokenizer(tokenizer).ids_of(pieces) == expected


turns = st.lists(
    st.lists(st.sampled_from(PARTS[:3] + PARTS[5:10]), min_size=1, max_size=4).map("".join),
    min_size=2,
    max_size=4,
).filter(lambda texts: len(texts) % 2 == 0)


@given(st.lists(turns, min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_conversations_together_are_what_they_are_alone(chats: list[list[str]]) -> None:
    """Ids and mask; each with a renderer of its own, which remembers nothing of the others."""
    roles = ("user", "assistant")
    examples = [
        Example(tuple(Message(roles[i % 2], text) for i, text in enumerate(chat)), f"f:{k}")
        for k, chat in enumerate(chats)
    ]
    whole = encode(examples, ChatRenderer(TOKENIZER), max_length=512)
    for example, tree in zip(whole.examples, whole.trees, strict=True):
        (path,) = tree.paths()
        assert path == ChatRenderer(TOKENIZER).render(example)


TOKENIZER = byte_level()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("overlong", ["drop", "truncate"])
def test_processes_change_nothing(
    processes: int, overlong: Overlong, all_on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache, "CHUNK", 16)
    rows = [
        Example((Message("user", "q" * (k % 40)), Message("assistant", "a" * (k % 23))), f"f:{k}")
        for k in range(100)
    ]
    done = list[int]()
    whole = encode(rows, ChatRenderer(TOKENIZER), max_length=60, overlong=overlong)
    found = encode_on_disk(
        rows,
        ChatRenderer(TOKENIZER),
        max_length=60,
        overlong=overlong,
        advance=done.append,
        processes=processes,
    )
    assert sum(done) == 100
    assert found.counts() == whole.counts() and found.warnings("train") == whole.warnings("train")
    assert np.array_equal(found.lengths, whole.lengths)
    assert found.largest_id[0] == whole.largest_id[0]
    assert found.tree_tokens.tolist() == whole.tree_tokens.tolist()
    assert whole.dropped or whole.truncated


def test_a_fault_in_another_process_is_told_with_its_place(all_on_disk: Path) -> None:
    told = Message("user", "a"), Message("assistant", "b"), Message("robot", "c")
    rows = [Example(told[:2], f"f:{k}") for k in range(200)]
    rows[130] = Example((told[2], told[1]), "f:130")
    refusing = byte_level(
        "{% for m in messages %}{% if m.role == 'robot' %}{{ raise_exception('no robots') }}"
        "{% endif %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endfor %}"
    )
    with pytest.raises(DataError, match=r"f:130: .*no robots"):
        encode_on_disk(rows, ChatRenderer(refusing), max_length=60, processes=2)


def test_where_nothing_can_be_written_the_tokens_are_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "file" / "cache"))
    rows = [Example((Message("user", "a"), Message("assistant", "b")), "f:1")]
    found = encode_on_disk(rows, ChatRenderer(TOKENIZER), max_length=60)
    assert found.counts() == encode(rows, ChatRenderer(TOKENIZER), max_length=60).counts()


def test_examples_come_back_as_they_were(tmp_path: Path) -> None:
    plain = (Message("user", "a \u2028 é"), Message("assistant", "b"))
    turn = Message("assistant", "", True, "why", json.dumps([{"name": "f"}]), "n", "1")
    rows = [
        Example(plain, "f:1"),
        Example(plain, "f:2", completion_only=False, groups=("g", "h"), source="s"),
        Example(plain, "f:3", rejected="no", rivals=("x", "y")),
        Example(plain, "f:4", rejected="", rejected_turn=turn, tools="[]"),
        Example((plain[0], turn), "f:5", desirable=False, other="z", tests="assert f(1)"),
    ]
    told = {
        one.name for row in rows for one in fields(row) if getattr(row, one.name) != one.default
    }
    assert told == {one.name for one in fields(Example)}
    write_examples(tmp_path, rows)
    read = StoredExamples(tmp_path)
    assert list(read) == rows and read[-1] == rows[-1] and read[1:3] == rows[1:3]
    assert traits(read).tolist() == traits(rows).tolist()
    assert digest_of(read) == digest_of(rows) != digest_of(rows[:-1])


def test_a_template_that_writes_the_date_is_asked_again_on_another_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dated = byte_level("{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}")
    assert (ChatRenderer(dated).identity() or {})["date"] is not None
    assert (ChatRenderer(TOKENIZER).identity() or {})["date"] is None
