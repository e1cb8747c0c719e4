"""lm-eval's own logs of two models, read and compared: the figures are lm-eval's and its lines'."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from myosotis.retention.compare import Comparison, compare
from myosotis.retention.logs.find import one_side
from myosotis.retention.logs.lm_eval import Results
from myosotis.retention.logs.match import match
from myosotis.retention.logs.scores import Measured, measured
from myosotis.utils.errors import DataError
from tests.retention.logs import made, real

Pair = tuple[Path, Path]


def both(pair: Pair, **given: Any) -> Measured:
    return measured(match(*(one_side(str(folder)) for folder in pair)), **given)


def compared(found: Measured) -> Comparison:
    return compare(found.base, found.tuned)


def test_the_means_are_those_that_lm_eval_reports(real_pair: Pair) -> None:
    """Of every task and group, of both models; running text by its bits per byte."""
    rows = {row.task: row for row in compared(both(real_pair)).rows}
    assert set(rows) == {*real.TASKS}
    for side, folder in zip(("base", "tuned"), real_pair, strict=True):
        told = real.results(folder)["results"]
        for task, metric in (
            ("facts", "acc_norm,none"),
            ("reading", "acc,none"),
            ("spelling", "exact_match,first"),
            ("stories", "bits_per_byte,none"),
            ("quiz", "acc,none"),
        ):
            assert getattr(rows[task], side) == pytest.approx(told[task][metric]), (task, side)
    assert rows["facts"].metric == "acc_norm" and not rows["stories"].higher_is_better
    assert (rows["quiz"].n, rows["stories"].n, rows["facts"].items_of) == (60, 6, 40)


def test_flips_are_those_of_the_lines_and_carry_their_text(real_pair: Pair) -> None:
    found = both(real_pair)
    rows = {row.task: row for row in compared(found).rows}
    for task, metric in (("facts", "acc_norm"), ("reading", "acc")):
        before, after = (
            {line["doc_id"]: line for line in real.lines(folder, task)} for folder in real_pair
        )
        lost = [n for n in before if before[n][metric] == 1 and after[n][metric] == 0]
        won = [n for n in before if before[n][metric] == 0 and after[n][metric] == 1]
        assert (rows[task].right_to_wrong, rows[task].wrong_to_right) == (len(lost), len(won))
        shown = [flip for flip in found.flips if flip.task == task]
        assert [flip.item for flip in shown] == [str(n) for n in lost]
        for flip in shown:
            doc = before[int(flip.item)]["doc"]
            assert flip.prompt == f"Question: {doc['question']}\nAnswer:"
            assert flip.choices == doc["choices"]
            assert flip.gold == flip.base_choice == doc["answer"] != flip.tuned_choice
    assert [flip for flip in found.flips if flip.task == "facts"], "weights moved too little"


def test_members_of_a_group_are_one_row_and_its_clusters(real_pair: Pair) -> None:
    quiz = both(real_pair).base["quiz"]
    assert {item.partition("/")[0] for item in quiz.items} == set(quiz.clusters)
    assert set(quiz.clusters) == {f"quiz_{subject}" for subject in real.SUBJECTS}
    note = {row.task: row.note for row in compared(both(real_pair)).rows}
    assert "60 items share 3 passages or subjects" in note["quiz"]


def test_questions_on_one_passage_are_clusters(real_pair: Pair) -> None:
    """Four questions a passage, and no passage elsewhere."""
    base = both(real_pair).base
    counts = [base["reading"].clusters.count(name) for name in set(base["reading"].clusters)]
    assert counts == [4] * 5
    assert set(base["facts"].clusters) == {None}


def test_a_key_of_the_documents_may_cluster(real_pair: Pair, tmp_path: Path) -> None:
    logs = [one_side(str(folder), "answer") for folder in real_pair]
    base = measured(match(*logs), by_member=False).base
    answers = [line["doc"]["answer"] for line in real.lines(real_pair[0], "facts")]
    same = np.equal.outer(answers, answers)
    assert (np.equal.outer(base["facts"].clusters, base["facts"].clusters) == same).all()
    assert len(set(base["quiz"].clusters)) == 3  # answers A, B, C
    assert logs[0].notes == [
        f"{real_pair[0]}: stories has no 'answer'; its items are taken as independent."
    ]
    with pytest.raises(DataError, match="no item has 'subjekt' to cluster by") as error:
        one_side(str(made.log(tmp_path, [1.0] * 3)), "subjekt")
    assert error.value.hint == "Did you mean subject?"


def test_how_sure_of_the_right_choice_is_read_from_the_log_probs(real_pair: Pair) -> None:
    """softmax of log-prob over characters, lm-eval's own normalisation of acc_norm."""
    found = both(real_pair).base["facts"]
    for line, p in zip(real.lines(real_pair[0], "facts"), found.scores["p_gold"], strict=True):
        z = [
            float(logp) / len(choice)
            for (logp, _), choice in zip(
                line["filtered_resps"], line["doc"]["choices"], strict=True
            )
        ]
        e = [math.exp(value - max(z)) for value in z]
        assert p == pytest.approx(e[line["doc"]["answer"]] / sum(e))
    assert found.chance == 0.25


def test_log_probs_that_contradict_the_scores_are_not_used(tmp_path: Path) -> None:
    """The line says right, its log-probs say wrong: the score counts, and no more is made of it."""
    lines = [made.sample(n, 1.0) for n in range(40)]
    lines[7] |= {"acc": 0.0}
    pair = made.log(tmp_path / "a", lines), made.log(tmp_path / "b", [1.0] * 40)
    found = both(pair)
    assert "p_gold" not in found.base["quiz"].scores
    assert found.base["quiz"].mean == pytest.approx(39 / 40)


def test_answers_in_words_keep_both_readings(real_pair: Pair) -> None:
    found = both(real_pair).base["spelling"]
    lines = real.lines(real_pair[0], "spelling")
    for reading, name in (("first", "exact_match"), ("whole", "exact_match,whole")):
        told = [line["exact_match"] for line in lines if line["filter"] == reading]
        assert found.scores[name].tolist() == told
    read = [line["filtered_resps"] != ["[invalid]"] for line in lines if line["filter"] == "first"]
    assert found.scores["answered"].tolist() == [float(one) for one in read]
    other = both(real_pair, metrics=["exact_match,whole", "acc", "bits_per_byte"])
    assert other.base["spelling"].metric == "exact_match,whole"
    assert other.base["facts"].metric == "acc"


def test_an_unpaired_test_misses_what_the_pairs_show(tmp_path: Path) -> None:
    """The numbers of lm-evaluation-harness #3868: n = 220, unpaired p = .080, McNemar's .008.

    One table that gives them: 146 right in both, 26 lost, 10 gained, 38 wrong in both; accuracies
    .782 and .709, standard errors of lm-eval sqrt(p (1-p) / 219) = .0279 and .0308, z = 1.753.
    Mid-p: 2 * P(X <= 10) - P(X = 10) for X of 36 coins = .011330 - .003699 = .0076.
    """
    base, tuned = made.table(lost=26, gained=10, right=146, wrong=38)
    pair = made.log(tmp_path / "a", base), made.log(tmp_path / "b", tuned)
    (row,) = compared(both(pair)).rows
    a, b = np.mean(base), np.mean(tuned)
    z = (a - b) / math.sqrt(a * (1 - a) / 219 + b * (1 - b) / 219)
    assert math.erfc(z / math.sqrt(2)) == pytest.approx(0.080, abs=5e-4)
    coins = [math.comb(36, k) / 2**36 for k in range(11)]
    assert row.p_mcnemar == pytest.approx(2 * sum(coins) - coins[10])
    assert row.p_mcnemar == pytest.approx(0.008, abs=5e-4)
    assert (row.n, row.right_to_wrong, row.wrong_to_right) == (220, 26, 10)
    assert row.verdict == "slipped" and row.hi is not None and row.hi < 0


def test_of_several_logs_the_newest_of_each_task_is_taken(tmp_path: Path) -> None:
    folder = made.log(tmp_path / "a", [0.0] * 3, date="2026-01-01T00-00-00.1")
    made.log(folder, [1.0] * 3)
    made.log(folder, [1.0] * 3, task="other", date="2026-01-01T00-00-00.1")
    found = one_side(str(folder))
    assert sorted(found.tasks) == ["other", "quiz"]
    assert found.tasks["quiz"].items["0"].scores == {"acc": 1.0}
    assert found.notes == [
        f"{folder} holds 2 logs of lm-eval; of each task the newest is taken "
        f"(2026-01-01T00-00-00.1, {made.DATE})."
    ]


def test_logs_of_two_models_in_one_folder_are_not_guessed_at(real_pair: Pair) -> None:
    with pytest.raises(DataError, match="lm-eval logs in 2 folders, one for each model") as error:
        one_side(str(real_pair[0].parent))
    assert "base" in error.value.message and "tuned" in error.value.message


def test_files_alone_are_logs_too(real_pair: Pair) -> None:
    """A file of samples, and a file of results with the samples beside it."""
    (samples,) = real_pair[0].rglob("samples_facts_*.jsonl")
    (about,) = real_pair[0].rglob("results_*.json")
    whole = one_side(str(real_pair[0]))
    alone = one_side(str(samples))
    assert list(alone.tasks) == ["facts"]
    assert alone.tasks["facts"].setup == {
        "task version": "1.0", "number of examples": "0", "first filter": "none",
    }  # fmt: skip
    assert one_side(str(about)).digest == whole.digest
    assert whole.model == str(real_pair[0].parents[1] / "models" / "base")
    assert whole.tool == "lm-eval 0.4.13"


def test_samples_without_results_and_hashes_are_read_and_it_is_said(tmp_path: Path) -> None:
    """As versions before 0.4.3 wrote them: lists of arguments, no hashes, no list of metrics."""
    lines = []
    for n in range(40):
        line = made.sample(n, n % 2, arguments=[[f"Q{n}:", " yes"], [f"Q{n}:", " no"]])
        line["filtered_resps"] = line["filtered_resps"][:2]
        lines.append({k: v for k, v in line.items() if "hash" not in k and k != "metrics"})
    folder = tmp_path / "old"
    folder.mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "samples_quiz.jsonl").write_text(text)
    found = one_side(str(folder))
    item = found.tasks["quiz"].items["1"]
    assert item.scores == {"acc": 1.0} and item.gold == (0,) and item.content
    assert item.text is not None and item.text().choices == ("yes", "no")
    assert "no results file" in found.notes[0]


def test_groups_within_groups_count_as_the_outermost() -> None:
    def groups(inside: dict[str, Any], pooled: dict[str, Any]) -> dict[str, str]:
        return Results({"group_subtasks": inside, "groups": pooled}).groups

    mmlu = {"mmlu": ["stem", "law"], "stem": ["maths", "physics"], "law": ["rights"]}
    found = groups(mmlu, {"mmlu": {}, "stem": {}})
    assert {k: v for k, v in found.items() if k not in mmlu} == {
        "maths": "mmlu", "physics": "mmlu", "rights": "mmlu",
    }  # fmt: skip
    assert groups(mmlu, {}) == {}, "a tag is only a name for several tasks"
    assert groups({"a": ["b"], "b": ["a", 5, None], "c": 7}, {"a": 1, "b": 1, "c": 1}) == {}
