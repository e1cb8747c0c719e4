"""Texts that are almost the same, and runs of words as numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.data.near_duplicates import jaccard, near_duplicates
from myosotis.data.shingles import Hashed, chunks, words

LONG = (
    "The ferry leaves the harbour at nine every morning and returns before noon, unless the wind "
    "from the north is stronger than the captain likes."
)
OTHER = "Boil the eggs for seven minutes, then put them into cold water and peel them under it."


def test_words_are_lower_case_and_without_punctuation() -> None:
    assert words("Don't STOP, 3.5 km!") == ["don", "t", "stop", "3", "5", "km"]


def test_a_script_without_spaces_has_a_word_a_character() -> None:
    assert words("北京 is 大") == ["北", "京", "is", "大"]


def test_runs_do_not_cross_from_one_text_to_the_next() -> None:
    """ "a b c" has the runs ab, bc; "b c" has bc; a text of one word has none."""
    runs = Hashed.of(["a b c", "x", "b c"]).runs(2)
    assert runs.owner.tolist() == [0, 0, 2] and runs.place.tolist() == [0, 1, 4]
    assert runs.numbers[1] == runs.numbers[2] and runs.numbers[0] != runs.numbers[1]


@given(st.lists(st.text("ab c", max_size=12), max_size=6), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_equal_runs_have_equal_numbers_and_others_do_not(texts: list[str], n: int) -> None:
    told = [tuple(w[i : i + n]) for t in texts if (w := words(t)) for i in range(len(w) - n + 1)]
    numbers = Hashed.of(texts).runs(n).numbers.tolist()
    assert len(numbers) == len(told)
    assert len(set(numbers)) == len(set(told)) == len(set(zip(numbers, told, strict=True)))


def test_chunks_keep_every_text_in_its_order() -> None:
    texts = ["x" * 1_500_000, "y" * 3_000_000, "", "z"]
    assert [text for chunk in chunks(texts) for text in chunk] == texts
    assert [len(chunk) for chunk in chunks(texts)] == [2, 2]


def test_jaccard_by_hand() -> None:
    """Runs of three words: abc bcd cde, and abc bcd cdf: 2 in both of 4 that either has."""
    assert jaccard("a b c d e", "a b c d f") == pytest.approx(2 / 4)
    assert jaccard("a b", "a b") == 0  # no run of three words in either


def test_a_changed_word_makes_a_near_duplicate_and_another_text_does_not() -> None:
    """25 words have 23 runs; with the last word changed 22 are in both, of 24: 0.92."""
    found = near_duplicates([LONG, OTHER, LONG.replace("likes", "wants")])
    assert found.group.tolist() == [0, 1, 0] and found.members() == [[0, 2]]
    assert found.near.tolist() == [-1, -1, 0]
    assert found.alike[2] == pytest.approx(22 / 24)


def test_short_texts_are_no_near_duplicates() -> None:
    assert near_duplicates(["yes it is so", "yes it is not"]).members() == []


def test_a_chain_of_near_duplicates_is_one_group() -> None:
    more = [LONG]
    for k in range(4):  # each goes a word further from the first
        more.append(more[-1] + f" extra{k}")
    assert near_duplicates([*more, OTHER]).members() == [[0, 1, 2, 3, 4]]


def test_pairs_at_the_threshold_are_found_and_distant_ones_refused() -> None:
    """A hundred pairs at 0.81, of which at most one may be missed, and a hundred at 0.31."""
    rng = np.random.default_rng(0)
    close, far = 0, 0
    for k in range(100):
        own = [f"w{n}" for n in rng.integers(0, 10_000, 40)]
        almost = [*own[:36], *(f"x{k}{i}" for i in range(4))]  # 34 of 42 runs: 0.81
        distant = [*own[:20], *(f"y{k}{i}" for i in range(20))]  # 18 of 58 runs: 0.31
        close += bool(near_duplicates([" ".join(own), " ".join(almost)]).members())
        far += bool(near_duplicates([" ".join(own), " ".join(distant)]).members())
    assert close >= 99 and far == 0
