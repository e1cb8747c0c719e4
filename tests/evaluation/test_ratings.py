"""Blind ratings: what is whose cannot be seen, and what they come to."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from myosotis.evaluation.ratings import Rating, counted, meant, tuned_is_first
from myosotis.report.rating_sheet import Card, read_choices, render_csv, render_html
from myosotis.utils.errors import DataError

CARDS = [Card(0, "Why?", "=1+1", "b"), Card(3, "<script>x</script>", "one", "two")]


def test_sides_are_a_fair_coin_that_the_run_fixes() -> None:
    first = [tuned_is_first("run", item) for item in range(2000)]
    assert first == [tuned_is_first("run", item) for item in range(2000)]
    assert 900 < sum(first) < 1100
    assert first != [tuned_is_first("other", item) for item in range(2000)]


def test_a_choice_is_what_it_means_for_the_tuned_model() -> None:
    for item in range(20):
        tuned, base = ("A", "B") if tuned_is_first("run", item) else ("B", "A")
        assert meant(tuned, "run", item) == "win" and meant(base, "run", item) == "loss"
    assert meant("tie", "run", 0) == "tie"


def test_the_win_rate_by_hand() -> None:
    """Items 0 to 9: 6 wins, 2 ties, 2 losses: (6 + 1) / 10."""
    said = ["win"] * 6 + ["tie"] * 2 + ["loss"] * 2
    found = counted([Rating(i, "x", one) for i, one in enumerate(said)])
    assert found.win_rate == pytest.approx(0.7) and (found.wins, found.ties) == (6, 2)
    assert found.lo is not None and found.hi is not None and found.lo < 0.7 < found.hi
    assert found.agreement is None


def test_agreement_is_over_pairs_of_ratings_of_one_item() -> None:
    """Item 0: win, win, tie: 1 of 3 pairs; item 1: loss, loss: 1 of 1. Together 2 of 4."""
    said = [(0, "win"), (0, "win"), (0, "tie"), (1, "loss"), (1, "loss")]
    found = counted([Rating(i, str(k), one) for k, (i, one) in enumerate(said)])
    assert found.agreement == pytest.approx(2 / 4) and (found.items, found.ratings) == (2, 5)


def test_ten_raters_of_one_item_are_no_ten_items() -> None:
    once = counted([Rating(i, "x", "win" if i % 2 else "loss") for i in range(20)])
    ten = counted([Rating(i, str(r), "win" if i % 2 else "loss") for i in range(20) for r in "ab"])
    assert once.hi is not None and ten.hi is not None and ten.hi == pytest.approx(once.hi, abs=0.02)


def test_a_sheet_is_filled_in_and_read_back(tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(render_csv("run", CARDS))))
    assert rows[1][3] == "'=1+1"  # no spreadsheet runs it
    for row, choice in zip(rows[1:], ("a", " Tie "), strict=True):
        row[-1] = choice
    path = tmp_path / "r.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)
    assert read_choices(path, "run") == {0: "A", 3: "tie"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sheet,item,choice\nother,0,A\n", "another run"),
        ("sheet,item,choice\nrun,0,maybe\n", "the choice 'maybe' is none"),
        ("sheet,item,choice\nrun,x,A\n", "row 2"),
        ("sheet,item,choice\nrun,0,\n", "holds no choices"),
        ("a,b\n1,2\n", "no columns sheet, item and choice"),
        ("", "holds no choices"),
    ],
)
def test_a_sheet_that_cannot_be_used_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_choices(path, "run")


def test_the_page_shows_text_as_text_and_loads_nothing() -> None:
    page = render_html("run", CARDS)
    assert "<script>x" not in page and "&lt;script&gt;x" in page
    assert "default-src 'none'" in page and page.count('type="radio"') == 6
