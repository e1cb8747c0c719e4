"""Benchmarks of one's own: what a line may look like, how it is asked, what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from myosotis.retention.benchmarks.build import build
from myosotis.retention.benchmarks.measure import measure, task_scores
from myosotis.retention.benchmarks.requests import Answer
from myosotis.retention.benchmarks.task import Task
from myosotis.utils.errors import ConfigError, DataError, MyosotisError
from tests.retention.small import byte_tokenizer, tiny_scorer


def file(folder: Path, *records: Any, name: str = "mine.jsonl") -> str:
    path = folder / name
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    path.write_text("\n".join(lines))
    return str(path)


def built(path: str, **settings: Any) -> Task:
    tokenizer = byte_tokenizer(chat=bool(settings.get("chat_template")))
    suite = build([path], tokenizer, context_length=512, **{"items": None, **settings})
    return suite.tasks[0]


def by_row(task: Task) -> list[Any]:
    return sorted(task.items, key=lambda item: int(item.id.split("-")[0]))


def test_multiple_choice_by_hand(tmp_path: Path) -> None:
    """The same right answer by index, text, letter and number in quotes; asked as ARC is."""
    choices = ["Oslo", "Rome", "Bern"]
    asked = {"question": "The capital of Italy?", "choices": choices}
    given = [{**asked, key: value} for key, value in
             [("answer", 1), ("label", "Rome"), ("answer", "B"), ("label", "1")]]  # fmt: skip
    task = built(file(tmp_path, *given))
    assert (task.name, task.kind, task.metric) == ("mine", "multiple_choice", "acc_norm")
    assert (task.chance, task.population, task.source) == (pytest.approx(1 / 3), 4, "mine.jsonl")
    for item in task.items:
        assert item.gold == (1,)
        assert item.requests[1].text == ("Question: The capital of Italy?\nAnswer:", " Rome")
        assert item.cluster is None
    # -6 / 4 letters beats -8 / 4; without the normalisation too. A longer choice can differ.
    item = task.items[0]
    found = task_scores(built(file(tmp_path, given[0])), [[Answer(x, False) for x in (-8, -6, -9)]])
    assert found.scores["acc_norm"].tolist() == found.scores["acc"].tolist() == [1.0]
    assert item.lengths == (4, 4, 4)


def test_longer_choices_are_normalised(tmp_path: Path) -> None:
    """-9 for 18 letters is -.5 a letter, -4 for 5 letters -.8: acc and acc_norm differ."""
    row = {"prompt": "She", "choices": ["sings a long song.", "eats."], "answer": 0}
    found = task_scores(built(file(tmp_path, row)), [[Answer(-9, False), Answer(-4, False)]])
    assert (found.scores["acc"][0], found.scores["acc_norm"][0]) == (0, 1)
    assert "p_gold" in found.scores


def test_questions_with_one_answer(tmp_path: Path) -> None:
    """Right when every token is the likeliest. Questions on one passage share a cluster."""
    rows = [
        {"context": "Anna is 7.", "question": "How old is Anna?", "answer": "7"},
        {"context": "Anna is 7.", "question": "Who is 7?", "answer": "Anna"},
        {"context": "Bo sat.", "question": "Who sat?", "answer": "Bo"},
    ]
    task = built(file(tmp_path, *rows))
    assert (task.kind, task.metric, task.chance) == ("loglikelihood", "acc", 0.0)
    first, second, third = by_row(task)
    assert first.requests[0].text == ("Anna is 7.\nQuestion: How old is Anna?\nAnswer:", " 7")
    assert first.cluster == second.cluster != third.cluster
    said = {first.id: True, second.id: False, third.id: True}
    found = task_scores(task, [[Answer(-1.0, said[item.id])] for item in task.items])
    assert found.mean == pytest.approx(2 / 3)
    assert "bits_per_byte" in found.scores


def test_a_model_answers_it_like_any_benchmark(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} and {n} is", "answer": str(2 * n)} for n in range(5)]
    choices = [{"question": f"{n}?", "choices": ["no", "yes"], "answer": n % 2} for n in range(9)]
    names = [file(tmp_path, *rows, name="sums.jsonl"), file(tmp_path, *choices)]
    suite = build(names, byte_tokenizer(), context_length=512, items=4)
    found = measure(suite, tiny_scorer())
    assert {name: len(task.items) for name, task in found.tasks.items()} == {"sums": 4, "mine": 4}
    more = build(names, byte_tokenizer(), context_length=512, items=5)
    assert more["mine"].items[:4] == suite["mine"].items  # a larger draw takes the same and more


def test_chat_template(tmp_path: Path) -> None:
    path = file(tmp_path, {"prompt": "Hello", "answer": "you"})
    (item,) = built(path, chat_template=True).items
    assert item.requests[0].text == ("[user]Hello[assistant]", "you")


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ("{", "mine.jsonl:2: not valid JSON"),
        ({"question": "q", "answer": "a"}, "mine.jsonl:2: the first record has 'choices', this"),
        ({"question": "q", "choices": ["a", "b"]}, "mine.jsonl:2: no field 'answer'"),
        ({"question": "q", "choices": ["a"], "answer": 0}, "at least two different texts"),
        ({"question": "q", "choices": ["a", "a"], "answer": 0}, "at least two different texts"),
        ({"question": "q", "choices": "ab", "answer": 0}, "'choices' must be a list"),
        ({"question": "q", "choices": ["a", "b"], "answer": 2}, "none of the 2 choices"),
        ({"question": "q", "choices": ["a", "b"], "answer": "C"}, "'C', which is none of the 2"),
        ({"question": "q", "choices": ["a", "b"], "answer": True}, "is true, which is none"),
        ({"question": " ", "choices": ["a", "b"], "answer": 0}, "'question' is empty"),
        ({"questoin": "q", "choices": ["a", "b"], "answer": 0}, "did you mean 'questoin'"),
        (
            {"prompt": "p", "question": "q", "choices": ["a", "b"], "answer": 0},
            "which one is meant",
        ),
    ],
)
def test_faulty_lines_are_named(tmp_path: Path, record: Any, wrong: str) -> None:
    good = {"question": "q", "choices": ["a", "b"], "answer": 0}
    with pytest.raises(DataError) as caught:
        built(file(tmp_path, good, record))
    assert caught.value.message.startswith("mine.jsonl:2: ")
    assert wrong in caught.value.message


def test_many_faults_are_counted_and_the_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 of 4 records cannot be used"):
        built(file(tmp_path, {"prompt": "p", "answer": "a"}, "{", "[]", {"prompt": "p"}))
    with pytest.raises(DataError, match="Did you mean"):
        built(str(tmp_path / "mien.jsonl"))


def test_names_must_differ(tmp_path: Path) -> None:
    row = {"prompt": "p", "answer": "a"}
    (tmp_path / "other").mkdir()
    names = [file(tmp_path, row), file(tmp_path / "other", row)]
    with pytest.raises(ConfigError, match="mine more than once"):
        build(names, byte_tokenizer(), context_length=512)


def parity(folder: Path, rest: str) -> None:
    """The task file `parity.yaml` over `data.json` of a folder."""
    (folder / "parity.yaml").write_text(
        f"task: parity\ndataset_path: json\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {folder}/data.json}}}}\n{rest}"
    )


def test_a_task_file_of_lm_eval(tmp_path: Path) -> None:
    """Asked as the YAML says; one that is not there is named."""
    rows = [{"q": f"{n}?", "options": ["no", "yes"], "right": n % 2} for n in range(4)]
    (tmp_path / "data.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    parity(
        tmp_path,
        """
output_type: multiple_choice
doc_to_text: "Is {{q}}"
doc_to_choice: "{{options}}"
doc_to_target: right
""",
    )
    task = built(str(tmp_path / "parity.yaml"))
    assert (task.name, len(task.items), task.metric) == ("parity", 4, "acc_norm")
    assert by_row(task)[1].requests[1].text == ("Is 1?", " yes")
    with pytest.raises(MyosotisError, match="there is no task file"):
        built(str(tmp_path / "parety.yaml"))


def test_a_package_that_a_task_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYOSOTIS_TRUST", "1")  # the file names Python of its own
    (tmp_path / "judge.py").write_text(
        "import a_package_nobody_has\n\ndef judge(doc, results): ...\n"
    )
    (tmp_path / "data.json").write_text('{"q": "1?"}\n')
    parity(
        tmp_path,
        """
output_type: generate_until
doc_to_text: q
doc_to_target: q
process_results: !function judge.judge
""",
    )
    with pytest.raises(MyosotisError, match="needs the Python package 'a_package_nobody_has'"):
        built(str(tmp_path / "parity.yaml"))
