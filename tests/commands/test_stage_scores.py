"""Rows that are kept beside a sequence: read back only where they are about the same thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from myosotis.commands.stage_scores import Questions, base_row
from myosotis.config import compose
from myosotis.evaluation.task_metrics import TaskScore


def questions(place: Path, second: str = "b.jsonl", **changes: Any) -> Questions:
    every = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    return Questions(
        [
            (name, compose(["data=jsonl", f"data.path={place / file}", *own, *every]))
            for name, file, own in (
                ("first", "a.jsonl", []),
                ("second", second, ["model.start=runs/1-first"]),
            )
        ]
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metrics that a model was asked by; its n-th answer scores n."""
    heard: list[str] = []

    def score(self: Questions, model: Any, after: str) -> list[TaskScore]:
        heard.append(self.metric.name)
        of = self.metric.name, self.metric.higher_is_better, self.metric.unit
        return [TaskScore(*of, np.full(3, float(len(heard)))) for _ in self.names]

    monkeypatch.setattr(Questions, "asked", score)
    return heard


def test_the_bases_row_is_measured_anew_where_something_else_is_asked(
    tmp_path: Path, asked: list[str]
) -> None:
    """Interrupted, and run again in the same place: with other data, another metric or another
    model the scores that lie there are no longer the base's."""
    place, kept = tmp_path, tmp_path / "base_items.parquet"
    (place / "a.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    (place / "b.jsonl").write_text('{"prompt": "p", "completion": "d"}\n')
    (place / "c.jsonl").write_text('{"prompt": "p", "completion": "e"}\n')

    def first_score(**changes: Any) -> float:
        return float(base_row(questions(place, **changes), kept)[0].scores[0])

    assert [first_score(), first_score()] == [1, 1] and asked == ["loglik"]
    assert first_score(task__metric="perplexity") == 2 and asked[-1] == "perplexity"
    assert first_score() == 3  # and back: what lies there is of the other metric
    assert first_score(second="c.jsonl") == 4
    (place / "c.jsonl").write_text('{"prompt": "p", "completion": "f"}\n')
    assert first_score(second="c.jsonl") == 5  # the same name, another content
    assert first_score(second="c.jsonl", model__path="elsewhere") == 6
    assert first_score(second="c.jsonl", model__path="elsewhere") == 6


def test_what_a_stage_starts_from_is_no_part_of_the_question(tmp_path: Path) -> None:
    """The folder of the stage before grows while that trains."""
    (tmp_path / "runs" / "1-first").mkdir(parents=True)
    before = questions(tmp_path).about
    (tmp_path / "runs" / "1-first" / "record.json").write_text("{}")
    assert questions(tmp_path).about == before
    assert questions(tmp_path, second="a.jsonl").about != before


def test_a_file_of_before_rows_said_what_they_are_about_is_not_read(
    tmp_path: Path, asked: list[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = tmp_path / "base_items.parquet"
    columns = {"task": ["first", "second"], "cluster": [None, None], "score": [9.0, 9.0]}
    pq.write_table(pa.table(columns), kept)
    assert base_row(questions(tmp_path), kept)[0].scores[0] == 1
