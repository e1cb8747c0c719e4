"""What is shown of the models' own words."""

from __future__ import annotations

import pytest

from myosotis.evaluation.samples import distinct, wording
from myosotis.records.schema import Sample
from myosotis.report import details


def test_distinct_n_by_hand() -> None:
    """Seven words; of them a, b, c differ, and of the pairs ab, ba, bc."""
    answers = [["a", "b", "a", "b"], ["a", "b", "c"]]
    assert distinct(answers, 1) == pytest.approx(3 / 7)
    assert distinct(answers, 2) == pytest.approx(3 / 7)
    assert distinct([["a"]], 2) == 0.0
    assert distinct([[]], 1) is None


def test_the_wording_of_answers_before_and_after() -> None:
    told = [Sample("p", base="one two three", tuned="yes yes"), Sample("q", base="four", tuned="")]
    found = wording(told)
    assert found is not None and (found.n, found.words_base, found.words_tuned) == (2, 2.0, 1.0)
    assert found.words_lo is not None and found.words_lo < -1 < (found.words_hi or 0)
    assert found.distinct_base == [1.0, 0.5]
    assert found.distinct_tuned == [0.5, 0.5]
    said = details.wording(found)
    assert "An answer has 1.0 words on average, the base's had 2.0" in said
    assert "50.0 % and 50.0 %; the base's 100.0 % and 50.0 %" in said
    assert wording([]) is None and details.wording(None) == ""
