"""Which texts a step rehearses: an exact share, a function of the step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from myosotis.controls.rehearsal import AsItComes, Foreseen, allot, rehearsal
from myosotis.trees.tree import Tree
from tests.controls.small import trees


def foreseen(
    texts: Sequence[Tree], tokens: Sequence[float], share: float, seed: Sequence[int]
) -> Foreseen:
    made = rehearsal(texts, np.array(tokens, np.float64), share, seed)
    assert isinstance(made, Foreseen)
    return made


def as_it_comes(texts: Sequence[Tree], share: float, seed: Sequence[int]) -> AsItComes:
    made = rehearsal(texts, None, share, seed)
    assert isinstance(made, AsItComes)
    return made


def test_by_hand() -> None:
    """Half a token of text a token of the task, 10 a step, texts of 4, 8 and 6 in this order.

    Owed 5: the 4 is due from 2 on, and leaves 1. Owed 6: the 8 is due from 4 on, leaves −2. Owed 3:
    the 6 is due from 3 on, leaves −3. Owed 2: the 4 is due from 2 on, leaves −2. Owed 3: not 4.
    """
    steps = allot([10] * 5, 0.5, [4, 8, 6], lambda turn: range(3))
    assert steps == [[0], [1], [2], [0], []]


def test_the_share_is_exact_to_half_a_text_after_every_step() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(8, 129, 40)
    tokens = draw.integers(50, 900, 300)
    for share in (0.001, 0.0101, 0.1111, 2.0):
        steps = allot(tokens, share, lengths, lambda turn: draw.permutation(40).tolist())
        given = np.cumsum([sum(lengths[i] for i in chosen) for chosen in steps])
        assert np.abs(given - share * np.cumsum(tokens)).max() <= 128 / 2


def test_a_step_depends_on_no_later_one_and_each_pass_has_an_order_of_its_own() -> None:
    """So a longer run, and one that is resumed, rehearses the same."""
    texts = trees(9)
    whole = foreseen(texts, [30] * 60, 0.5, [1, 2])
    assert foreseen(texts, [30] * 25, 0.5, [1, 2]).steps == whole.steps[:25]
    read = [i for chosen in whole.steps for i in chosen]
    passes = [read[k : k + 9] for k in range(0, 27, 9)]
    assert all(sorted(one) == list(range(9)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert foreseen(texts, [30] * 60, 0.5, [1, 3]).steps != whole.steps


def test_what_was_read_is_counted_apart() -> None:
    """Texts of 4 scored tokens behind 3 that are only read; the last one is never read."""
    texts = trees(1)
    kept = foreseen(texts, [8, 8, 8], 0.5, [0])
    assert kept.spent(2) == (2, 2 * (3 + 4 - 1), 8.0)


def test_what_is_known_step_by_step_is_what_would_have_been_foreseen() -> None:
    """Texts of 4 tokens, of which a share of .01: three prompts of 50, of which a group reads
    562 tokens, then none (a round without a pair), are 5.62 tokens owed a step. Owed 5.62: one
    text from 2 on, leaves 1.62. Owed 7.24: 4 and leaves 3.24, and another leaves −.76. Nothing, and
    nothing is due. Owed 4.86: one, leaves .86."""
    texts, tokens = trees(9), [562.0, 562.0, 0.0, 562.0]
    comes = as_it_comes(texts, 0.01, [1])
    read = [comes.at(step, count) for step, count in enumerate(tokens)]
    assert [len(one) for one in read] == [1, 2, 0, 1]
    assert comes.allotment.owed == pytest.approx(0.86)
    before = foreseen(texts, tokens, 0.01, [1])
    assert all(read[k] == before.at(k, tokens[k]) for k in range(4))
    assert comes.spent(4) == before.spent(4)


def test_a_step_that_begins_anew_gets_what_it_got() -> None:
    comes = as_it_comes(trees(9), 0.5, [1])
    assert comes.at(0, 30) == comes.at(0, 30) != comes.at(1, 30)
    assert comes.spent(2).texts == 8  # 30 tokens owed: seven texts of 4 leave 2, an eighth is due


def test_what_is_owed_is_kept() -> None:
    """Killed after step 6 of 20, in the midst of the second pass over nine texts."""
    draw = np.random.default_rng(0)
    texts, tokens = trees(9), draw.integers(0, 30, 20).tolist()
    whole, first = as_it_comes(texts, 0.3, [1]), as_it_comes(texts, 0.3, [1])
    read = [whole.at(step, count) for step, count in enumerate(tokens)]
    for step in range(7):
        first.at(step, tokens[step])
    assert first.allotment.given % 9
    second = as_it_comes(texts, 0.3, [1])
    second.load_state_dict(first.state_dict())
    assert [second.at(step, tokens[step]) for step in range(7, 20)] == read[7:]
    assert second.state_dict() == whole.state_dict() and second.spent(20) == whole.spent(20)
    assert foreseen(texts, tokens, 0.3, [1]).state_dict() == {}
