"""Counting without trees says what the trees would say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from myosotis.data import tally as tallied
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example, Message
from myosotis.data.tally import tally
from myosotis.data.tokenize import Overlong, encode
from tests.data.conftest import byte_level

CHAT = ChatRenderer(byte_level())


def examples(count: int) -> list[Example]:
    """Of all lengths; some pairs, one text of several windows."""
    rows = [
        Example((Message("user", "q" * (k % 40)), Message("assistant", "a" * (k % 23))), f"f:{k}")
        for k in range(count)
    ]
    rows = [replace(row, rejected="b" * (k % 7 + 1)) for k, row in enumerate(rows)]
    text = (Message("user", ""), Message("assistant", "word " * 40))
    return [*rows, Example(text, "f:text", completion_only=False)]


@pytest.mark.parametrize("overlong", ["drop", "truncate"])
@pytest.mark.parametrize("processes", [1, 2])
def test_the_numbers_are_those_of_the_trees(
    overlong: Overlong, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallied, "CHUNK", 16)
    rows, done = examples(100), list[int]()
    whole = encode(rows, CHAT, max_length=60, overlong=overlong)
    found = tally(
        rows, CHAT, max_length=60, overlong=overlong, advance=done.append, processes=processes
    )
    assert sum(done) == len(rows)
    assert found.counts() == whole.counts() and found.warnings("train") == whole.warnings("train")
    assert found.lengths == whole.lengths and found.sizes == whole.sizes
    assert found.largest[0] == max(int(tree.ids.max()) for tree in whole.trees)
    assert whole.dropped or whole.truncated


def test_few_examples_stay_in_this_process() -> None:
    assert tallied.cores(tallied.FEWEST - 1) == 1
