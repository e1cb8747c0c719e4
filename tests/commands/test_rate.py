"""`myosotis rate`: a sheet out of a run, filled in, and back into its record."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from myosotis.records.schema import RunRecord
from myosotis.utils.escape import csv_cell
from tests.world import build, call, settings

pytestmark = pytest.mark.slow


def test_a_sheet_is_written_filled_in_and_counted(tmp_path: Path) -> None:
    """One rater takes A always, another the tuned model's answer, which the sheet does not name."""
    world = build(tmp_path / "world")
    words = settings(world, tmp_path / "it", tracking="none", **{"trainer.max_steps": 4})
    call(["train", *words], tmp_path)
    out, _ = call(["rate", "it", "--out", "sheet.csv"], tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "sheet.csv").read_text())))
    record = RunRecord.load(tmp_path / "it")
    assert f"{len(rows)} pairs of answers to compare" in out and rows
    answers = {
        str(i): (csv_cell(one.base), csv_cell(one.tuned)) for i, one in enumerate(record.samples)
    }
    assert {(r["answer_A"], r["answer_B"]) for r in rows} <= {
        pair for one in answers.values() for pair in (one, one[::-1])
    }

    def filled(name: str, choices: list[str]) -> str:
        given = [{**row, "choice": choice} for row, choice in zip(rows, choices, strict=True)]
        with (tmp_path / name).open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0].keys())
            table.writeheader()
            table.writerows(given)
        return name

    tuned = ["A" if r["answer_A"] == answers[r["item"]][1] else "B" for r in rows]
    sheets = [filled("one.csv", ["A"] * len(rows)), filled("two.csv", tuned)]
    _, err = call(["rate", "it", "--read", *sheets], tmp_path)
    assert f"{2 * len(rows)} ratings show large differences alone" in err
    ratings = RunRecord.load(tmp_path / "it").ratings
    assert ratings is not None
    won = sum(choice == "A" for choice in tuned) + len(rows)
    assert ratings.win_rate == pytest.approx(won / (2 * len(rows)))
    assert "myosotis" in (tmp_path / "it" / "scorecard.html").read_text()
    (tmp_path / "other.csv").write_text((tmp_path / "one.csv").read_text().replace("A\n", "C\n"))
    _, err = call(["rate", "it", "--read", "other.csv"], tmp_path, code=2)
    assert "other.csv, row 2" in err and "A, B or tie" in err
