"""The matrix R of a sequence, with every figure derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from myosotis.retention.statistics import sequences
from myosotis.retention.statistics.paired import paired

# R[i, j], row 0 the base, then after each of three stages; tasks in columns.
R = [
    [0.2, 0.3, 0.1],
    [0.9, 0.4, 0.3],
    [0.7, 0.8, 0.5],
    [0.8, 0.6, 0.9],
]
ALONE = [None, None, None]


def rows(of: list[list[float]], spread: float = 0.1) -> list[list[np.ndarray]]:
    """Forty items each whose mean is the entry; every item of a task is `spread` off in turn."""
    noise = np.tile([spread, -spread], 20)
    return [[mean + (i + j) * noise for j, mean in enumerate(row)] for i, row in enumerate(of)]


def test_backward_transfer_is_the_change_since_a_tasks_own_stage() -> None:
    """(R[3,1] - R[1,1] + R[3,2] - R[2,2]) / 2 = (-0.1 - 0.2) / 2 = -0.15."""
    found = sequences.backward_transfer(rows(R), ALONE)
    assert found is not None and found.value == pytest.approx(-0.15)
    assert found.lo < -0.15 < found.hi


def test_forward_transfer_is_what_a_task_had_before_its_own_stage() -> None:
    """(R[1,2] - R[0,2] + R[2,3] - R[0,3]) / 2 = (0.1 + 0.4) / 2 = 0.25."""
    found = sequences.forward_transfer(rows(R), ALONE)
    assert found is not None and found.value == pytest.approx(0.25)


def test_forgetting_is_how_far_a_task_is_below_its_best() -> None:
    """Of task 1 max(0.9, 0.7) - 0.8 = 0.1, of task 2 max(0.4, 0.8) - 0.6 = 0.2; the mean 0.15. The
    base is no stage: with 0.95 in its row nothing changes."""
    found = sequences.forgetting(rows(R), ALONE)
    assert found is not None and found.value == pytest.approx(0.15)
    base = [[0.95, 0.95, 0.95], *R[1:]]
    again = sequences.forgetting(rows(base), ALONE)
    assert again is not None and again.value == pytest.approx(0.15)


def test_a_task_that_went_on_improving_has_negative_forgetting() -> None:
    """Two stages, 0.5 then 0.7: Chaudhry's f is -0.2, and BWT +0.2."""
    two = rows([[0.1, 0.1], [0.5, 0.2], [0.7, 0.6]])
    lost, back = sequences.forgetting(two, ALONE), sequences.backward_transfer(two, ALONE)
    assert lost is not None and lost.value == pytest.approx(-0.2)
    assert back is not None and back.value == pytest.approx(0.2)
    assert (lost.lo, lost.hi) == pytest.approx((-back.hi, -back.lo)), "one candidate: no widening"


def test_nothing_is_said_of_transfer_after_one_stage() -> None:
    one = rows(R[:2])
    assert sequences.backward_transfer(one, ALONE) is None
    assert sequences.forward_transfer(one, ALONE) is None
    assert sequences.forgetting(one, ALONE) is None


def test_the_interval_over_two_tasks_joins_their_own() -> None:
    """MOVER over two: a half of the root of the summed squares of their own distances."""
    made = rows(R)
    own = [paired(made[1][0], made[3][0]), paired(made[2][1], made[3][1])]
    below = np.sqrt(sum((one.delta - one.lo) ** 2 for one in own)) / 2
    found = sequences.backward_transfer(made, ALONE)
    assert found is not None and found.lo == pytest.approx(-0.15 - below)


def test_the_best_of_several_stages_is_paid_for_with_a_wider_interval() -> None:
    """Stage 1 is far above stage 2: its own interval, at 97.5 % for two candidates."""
    made = rows([[0.1, 0.1, 0.1], [0.9, 0.1, 0.1], [0.2, 0.9, 0.1], [0.5, 0.9, 0.9]])
    alone = paired(made[3][0], made[1][0], level=0.975)
    whole = sequences.forgetting(made, ALONE)
    assert whole is not None and whole.value == pytest.approx((0.4 + 0.0) / 2)
    second = paired(made[3][1], made[2][1], level=0.975)
    below = np.sqrt((alone.delta - alone.lo) ** 2 + (second.delta - second.lo) ** 2) / 2
    assert whole.lo == pytest.approx(whole.value - below)
