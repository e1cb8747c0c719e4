"""Items in a table of one's own: CSV and JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from myosotis.retention.logs import table
from myosotis.retention.logs.match import match
from myosotis.retention.logs.scores import measured
from myosotis.utils.errors import DataError


def test_columns_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        '\ufeffitem,score,task,cluster,text\n17,1,capitals,europe,"What, where?"\n18,0,,,\n'
    )
    log = table.read(path, "mine.csv")
    assert sorted(log.tasks) == ["capitals", "mine"]
    item = log.tasks["capitals"].items["17"]
    assert (item.scores, item.cluster) == ({"acc": 1.0}, "europe")
    assert item.text is not None and item.text().prompt == "What, where?"
    other = log.tasks["mine"].items["18"]
    assert (other.scores, other.cluster, other.content) == ({"acc": 0.0}, None, "")


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = [{"item": n, "score": n % 2 == 0, "text": f"q{n}"} for n in range(4)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    log = table.read(tmp_path / "mine.jsonl", "mine.jsonl")
    assert [item.scores["acc"] for item in log.tasks["mine"].items.values()] == [1, 0, 1, 0]


def test_scores_between_are_no_accuracy(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item,score\n1,1\n2,0.5\n")
    log = table.read(tmp_path / "a.csv", "a.csv")
    assert log.tasks["a"].items["2"].scores == {"score": 0.5}


def test_another_column_is_a_metric_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item,score,f1,subject\n1,1,.3,x\n2,0,.5,y\n")
    log = table.read(tmp_path / "a.csv", "a.csv", "subject", ["f1"])
    item = log.tasks["a"].items["1"]
    assert (item.scores, item.cluster) == ({"acc": 1.0, "f1": 0.3}, "x")
    assert measured(match(log, log), ["f1"]).base["a"].metric == "f1"


def test_flips_of_a_table_carry_its_texts(tmp_path: Path) -> None:
    logs = []
    for name, score, said in (("a", 1, "Paris"), ("b", 0, "Rome")):
        path = tmp_path / f"{name}.csv"
        path.write_text(f"item,score,task,text,answer\n1,{score},t,Capital of France?,{said}\n")
        logs.append(table.read(path, name))
    (flip,) = measured(match(*logs)).flips
    assert (flip.prompt, flip.choices) == ("Capital of France?", ["Paris", "Rome"])
    assert (flip.gold, flip.base_choice, flip.tuned_choice) == (0, 0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item,scored\n1,1\n", "mine.csv:2 has no 'score'.\nDid you mean scored?"),
        ("id,score\n1,1\n", "mine.csv:2 has no 'item'."),
        ("item,score\n1,1\n1,0\n", "item '1' of mine is there twice"),
        ("item,score\n1,good\n", "score is 'good', which is no finite number"),
        ("item,score\n1,nan\n", "score is 'nan', which is no finite number"),
        ("item,score\n1,1e999\n", "no finite number"),
        ("item,score\n1,\n", "score is '', which is no finite number"),
        ("item,score\n1,1,2\n", "mine.csv:2 has more or fewer cells"),
        ("item,score\n1\n", "mine.csv:2 has more or fewer cells"),
        ('item,score\n"1,1\n', "is not CSV"),
        ("item,score\n", "mine.csv holds no items"),
        ("", "mine.csv holds no items"),
    ],
    ids=repr,
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(DataError) as error:
        table.read(tmp_path / "mine.csv", "mine.csv")
    assert said in str(error.value)
