"""Which texts a step rehearses: an exact share, a function of the step."""

from __future__ import annotations

import numpy as np

from myosotis.controls.rehearsal import Rehearsal, allot
from tests.controls.small import trees


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
    whole = Rehearsal.of(texts, [30] * 60, 0.5, [1, 2])
    assert Rehearsal.of(texts, [30] * 25, 0.5, [1, 2]).steps == whole.steps[:25]
    read = [i for chosen in whole.steps for i in chosen]
    passes = [read[k : k + 9] for k in range(0, 27, 9)]
    assert all(sorted(one) == list(range(9)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert Rehearsal.of(texts, [30] * 60, 0.5, [1, 3]).steps != whole.steps


def test_what_was_read_is_counted_apart() -> None:
    """Texts of 4 scored tokens behind 3 that are only read; the last one is never read."""
    texts = trees(1)
    kept = Rehearsal.of(texts, [8, 8, 8], 0.5, [0])
    assert kept.spent(2) == (2, 2 * (3 + 4 - 1), 8.0)
