"""Tokens of requests as lm-eval makes them, and requests grouped into trees."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from myosotis.retention.benchmarks.requests import (
    LOGLIKELIHOOD,
    ROLLING,
    Encoder,
    Request,
    RequestTrees,
    Window,
)
from myosotis.utils.errors import DataError
from tests.retention.small import byte_tokenizer

TOKENIZER = byte_tokenizer()


@dataclass
class Asked:
    requests: list[Request]


@given(st.text(alphabet="ab c", max_size=40), st.integers(2, 12))
def test_rolling_windows_are_lm_evals(text: str, context: int) -> None:
    encoder = Encoder(TOKENIZER, context)
    ids = TOKENIZER.encode(text)
    theirs = map(
        make_disjoint_window, get_rolling_token_windows(ids, encoder.prefix_token, context, 1)
    )
    ours = [(list(w.ids[: w.start]), list(w.ids[w.start :])) for w in encoder.rolling(text)]
    assert ours == [(list(before), list(after)) for before, after in theirs]


def test_a_long_context_loses_its_start() -> None:
    """Context of 4 + answer of 2 in a model of 3: its input is 3 tokens, the sixth is predicted."""
    window = Encoder(TOKENIZER, 3).window("abcd", "ef")
    assert TOKENIZER.decode(window.ids) == "cdef" and window.start == 2


def test_spaces_at_the_end_of_a_context_are_scored() -> None:
    window = Encoder(TOKENIZER, 9).window("ab  ", "c")
    assert TOKENIZER.decode(window.ids) == "ab  c" and window.start == 2


def test_an_empty_context_is_the_prefix_token() -> None:
    encoder = Encoder(TOKENIZER, 9)
    assert encoder.window("", "ab") == Window((encoder.prefix_token, *TOKENIZER.encode("ab")), 1)
    assert encoder.window("", "<s>ab").start == 1  # not doubled
    assert len(encoder.window("", "<s>ab").ids) == 3


def test_an_answer_longer_than_the_context_is_refused() -> None:
    with pytest.raises(DataError, match="4 tokens to score"):
        Encoder(TOKENIZER, 3).window("x", "abcd")
    with pytest.raises(DataError, match="0 tokens"):
        Encoder(TOKENIZER, 3).window("x", "")


def test_choices_of_an_item_share_a_tree_and_documents_do_not() -> None:
    encoder = Encoder(TOKENIZER, 64)
    choice = [encoder.request(LOGLIKELIHOOD, ("Q: why? A:", f" {c}")) for c in ("yes", "yet", "no")]
    rolling = encoder.request(ROLLING, ("a" * 100,))
    request_trees = RequestTrees.of([Asked(choice), Asked([rolling])])
    assert len(request_trees.trees) == 1 + 2
    assert [len(seats) for seats in request_trees.seats[1]] == [2]
    tree = request_trees.trees[request_trees.seats[0][0][0].tree]
    assert len(tree) == len("Q: why? A:") + len(" yes") + len("t") + len("no")


@given(
    st.lists(
        st.lists(
            st.tuples(st.text("ab", min_size=1, max_size=9), st.text("ab", min_size=1, max_size=4)),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_every_window_keeps_its_path(pairs: list[list[tuple[str, str]]]) -> None:
    encoder = Encoder(TOKENIZER, 32)
    items = [Asked([encoder.request(LOGLIKELIHOOD, pair) for pair in item]) for item in pairs]
    request_trees = RequestTrees.of(items)
    for asked, seats in zip(items, request_trees.seats, strict=True):
        for request, (seat,) in zip(asked.requests, seats, strict=True):
            path = request_trees.trees[seat.tree].paths()[seat.path]
            assert list(path.ids) == list(request.windows[0].ids)
            assert sum(path.weights) == len(request.text[1])
