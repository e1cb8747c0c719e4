"""Building suites: which items, which prompts, which metric; and refusals a person can act on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import datasets
import pytest

from myosotis.retention.benchmarks import wikipedia
from myosotis.retention.benchmarks.build import build
from myosotis.retention.benchmarks.task import Suite
from myosotis.retention.harness.data import DataLocator
from myosotis.utils.errors import ConfigError, DataError
from tests.retention.small import (
    arc_rows,
    benchmark_folder,
    byte_tokenizer,
    first,
    hellaswag_rows,
    write,
)


def suite(folder: Path, *names: str, **settings: object) -> Suite:
    chat = bool(settings.get("chat_template"))
    arguments = {"context_length": 512, "items": None, "locator": DataLocator(folder)} | settings
    return build(names, byte_tokenizer(chat), **arguments)  # pyright: ignore


def test_an_item_is_what_lm_eval_renders(tmp_path: Path) -> None:
    """By hand from hellaswag.yaml: query = label + ": " + ctx_a + " " + Ctx_b, delimiter " "."""
    task = suite(benchmark_folder(tmp_path), "hellaswag")["hellaswag"]
    item = next(item for item in task.items if item.id.startswith("2-"))
    assert item.prompt == "Baking: Cook 2 mixes flour. She"
    assert item.choices == ("stirs 2 times.", "leaves.", "sings a long song.", "eats.")
    assert item.gold == (2,)
    assert item.lengths == (14, 7, 18, 5)
    assert item.num_bytes == (15, 8, 19, 6)  # what is scored starts with the delimiter
    assert item.requests[1].text == ("Baking: Cook 2 mixes flour. She", " leaves.")
    window = item.requests[1].windows[0]
    assert (len(window.ids), window.start) == (31 + 8, 31)  # one token a byte
    assert (task.metric, task.higher_is_better, task.chance) == ("acc_norm", True, 0.25)
    assert task.version.startswith("1.0, lm-eval ")


@pytest.mark.parametrize(
    ("settings", "before"),
    [
        ({}, "7743a92d94c86003"),
        ({"num_fewshot": 2}, "1b2203d043e9d359"),
        ({"chat_template": True}, "f46c6b9468c590f1"),
    ],
)
def test_a_suite_is_the_one_that_was_rendered_text_by_text(
    settings: dict[str, object], before: str, tmp_path: Path
) -> None:
    """By the code that compiled a template for each document and encoded each text alone."""
    names = ("hellaswag", "arc_easy", "lambada_openai", "wikitext")
    assert suite(benchmark_folder(tmp_path), *names, **settings).hash[:16] == before


def test_kinds_metrics_and_chance(tmp_path: Path) -> None:
    found = suite(benchmark_folder(tmp_path), "arc_easy", "lambada_openai", "wikitext")
    assert [(t.kind, t.metric, t.higher_is_better, t.chance, t.accuracy_like) for t in found] == [
        ("multiple_choice", "acc_norm", True, pytest.approx(1 / 3), True),
        ("loglikelihood", "acc", True, 0.0, True),
        ("loglikelihood_rolling", "bits_per_byte", False, None, False),
    ]


def test_a_split_that_stands_in_is_recorded(tmp_path: Path) -> None:
    """ARC is scored on `test`; only `validation` is here, as in the benchmark wheel."""
    task = suite(benchmark_folder(tmp_path), "arc_easy")["arc_easy"]
    assert task.substitution == "scored on the validation split (test is not at hand)"
    assert task.identity()["substitution"] == task.substitution
    shots = suite(benchmark_folder(tmp_path), "arc_easy", num_fewshot=2)["arc_easy"]
    assert shots.substitution.endswith("examples from the validation split (train is not at hand)")
    write(tmp_path / "arc_easy" / "test.jsonl", arc_rows(3))
    write(tmp_path / "arc_easy" / "train.jsonl", arc_rows(3))
    both = suite(tmp_path, "arc_easy", num_fewshot=2)["arc_easy"]
    assert both.substitution == "" and both.population == 3


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag"])
def test_a_prompt_never_contains_the_item_it_asks(tmp_path: Path, name: str) -> None:
    """Five examples out of twelve rows: by chance 5/11 of the prompts would. One row is stored
    twice under another id, which comparing rows would not notice."""
    rows = arc_rows(12)
    write(tmp_path / "arc_easy" / "validation.jsonl", [*rows, rows[0] | {"id": "copy"}])
    write(tmp_path / "hellaswag" / "validation.jsonl", hellaswag_rows(12))
    for item in suite(tmp_path, name, num_fewshot=5)[name].items:
        question = item.prompt.rsplit("\n\n", 1)[-1]
        assert item.prompt.count("\n\n") == 5
        assert item.prompt.count(question.removesuffix("\nAnswer:")) == 1


def test_too_many_examples_for_the_rows_at_hand(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 11 examples beside the item"):
        suite(benchmark_folder(tmp_path), "arc_easy", num_fewshot=12)


def test_prompts_are_those_of_lm_eval_where_nothing_leaks(tmp_path: Path) -> None:
    """With a training split lm-eval draws from it: our draws must be its draws."""
    from lm_eval.tasks import TaskManager

    benchmark_folder(tmp_path)
    write(tmp_path / "arc_easy" / "train.jsonl", [r | {"id": "t"} for r in arc_rows(40)[20:]])
    ours = suite(tmp_path, "arc_easy", num_fewshot=3, seed=5)["arc_easy"]
    manager = TaskManager(include_defaults=False)
    files = {
        split: str(tmp_path / "arc_easy" / f"{split}.jsonl") for split in ("train", "validation")
    }
    theirs = manager.load(
        {
            "task": "arc_copy",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "output_type": "multiple_choice",
            "training_split": "train",
            "validation_split": "validation",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_target": "{{choices.label.index(answerKey)}}",
            "doc_to_choice": "{{choices.text}}",
        }
    )["tasks"]["arc_copy"]
    theirs.set_fewshot_seed(1234)
    for item in ours.items:
        doc = theirs.eval_docs[int(item.id.split("-")[0])]
        assert theirs.fewshot_context(doc, num_fewshot=3) == item.prompt


def test_a_larger_draw_takes_the_same_items_and_more(tmp_path: Path) -> None:
    """Same items, prompts (few-shot draws depend on the order) and halves."""
    benchmark_folder(tmp_path, 30)
    large = suite(tmp_path, "arc_easy", items=20, num_fewshot=2)
    small = suite(tmp_path, "arc_easy", items=8, num_fewshot=2)
    assert small["arc_easy"].items_hash == first(large, 8)["arc_easy"].items_hash
    assert small.hash == first(large, 8).hash
    assert [i.half for i in small.items] == ["selection", "report"] * 4
    assert small["arc_easy"].population == 30
    assert len(large.half("selection").items) == len(large.half("report").items) == 10


def test_the_seed_chooses_the_items_and_nothing_else_does(tmp_path: Path) -> None:
    benchmark_folder(tmp_path, 30)
    first = suite(tmp_path, "arc_easy", items=8, num_fewshot=2)
    random.seed(99)
    assert suite(tmp_path, "arc_easy", items=8, num_fewshot=2).hash == first.hash
    other = suite(tmp_path, "arc_easy", items=8, num_fewshot=2, seed=1)
    assert other["arc_easy"].items_hash != first["arc_easy"].items_hash
    beside = suite(tmp_path, "hellaswag", "arc_easy", items=8, num_fewshot=2)
    assert beside.only(["arc_easy"]).hash == first.hash


def test_a_changed_row_changes_the_hash(tmp_path: Path) -> None:
    before = suite(benchmark_folder(tmp_path), "arc_easy")["arc_easy"]
    rows = arc_rows(12)
    rows[3]["question"] = "What is three plus one?"
    write(tmp_path / "arc_easy" / "validation.jsonl", rows)
    after = suite(tmp_path, "arc_easy")["arc_easy"]
    assert after.requests_hash != before.requests_hash and after.items_hash != before.items_hash


def test_a_group_is_one_task_with_its_members_as_clusters(tmp_path: Path) -> None:
    benchmark_folder(tmp_path)
    group = tmp_path / "both.yaml"
    group.write_text("group: both\ntask:\n  - hellaswag\n  - arc_easy\n", "utf-8")
    task = suite(tmp_path, str(group), items=10)["both"]
    assert task.population == 24 and len(task.items) == 10
    assert {item.cluster for item in task.items} == {"hellaswag", "arc_easy"}
    assert {item.id.split("/")[0] for item in task.items} == {"hellaswag", "arc_easy"}
    assert task.source == "local arc_easy, local hellaswag"


def test_a_tag_is_a_shorthand_for_several_tasks(tmp_path: Path) -> None:
    benchmark_folder(tmp_path)
    write(tmp_path / "arc_challenge" / "test.jsonl", arc_rows(4))
    assert [task.name for task in suite(tmp_path, "ai2_arc")] == ["arc_challenge", "arc_easy"]


def test_rows_of_a_subset_are_found_by_column(tmp_path: Path) -> None:
    """One file for all of BLiMP, `UID` naming the paradigm; lm-eval asks for each by itself."""
    pair = {"sentence_good": "He sees himself.", "sentence_bad": "He sees herself."}
    rows = [pair | {"UID": uid} for uid in ("anaphor_gender_agreement", "causative") for _ in "ab"]
    write(tmp_path / "blimp" / "validation.jsonl", rows)
    task = suite(tmp_path, "blimp_causative")["blimp_causative"]
    assert task.population == 2 and task.items[0].prompt == ""
    assert task.items[0].requests[0].windows[0].start == 1  # behind the prefix token
    with pytest.raises(DataError, match="no rows of nyu-mll/blimp \\[drop_argument\\]"):
        suite(tmp_path, "blimp_drop_argument")


def test_questions_about_one_passage_form_a_cluster(tmp_path: Path) -> None:
    rows = [
        {"passage": p, "question": f"is it {q}", "label": 0, "idx": 0}
        for p in ("Rome is old.", "Oslo is cold.")
        for q in ("big", "new", "far")
    ]
    write(tmp_path / "boolq" / "validation.jsonl", rows)
    assert len({item.cluster for item in suite(tmp_path, "boolq").items}) == 2


def test_where_the_choices_are_in_the_context(tmp_path: Path) -> None:
    """WinoGrande fills the blank and scores what follows it: one length, two contexts."""
    row = {"sentence": "The cup fit the box as _ was big.", "option1": "it", "option2": "the box"}
    write(tmp_path / "winogrande" / "validation.jsonl", [row | {"answer": "2"}] * 2)
    item = suite(tmp_path, "winogrande").items[0]
    assert item.prompt == " was big." and item.gold == (1,)
    assert item.choices == ("The cup fit the box as it", "The cup fit the box as the box")
    assert item.lengths == (9, 9)


def test_the_chat_template_wraps_every_prompt(tmp_path: Path) -> None:
    task = suite(benchmark_folder(tmp_path), "arc_easy", num_fewshot=1, chat_template=True)[
        "arc_easy"
    ]
    prompt = task.items[0].prompt
    assert prompt.count("[user]Question:") == 2 and prompt.count("[assistant]") == 2
    assert prompt.endswith("[assistant]") and task.chat_template
    with pytest.raises(ConfigError, match="no chat template"):
        build(["prose"], byte_tokenizer(), context_length=512, chat_template=True)


def test_prose_is_cut_the_same_each_time() -> None:
    once = build(["prose"], byte_tokenizer(), context_length=4096, items=40)["prose"]
    assert once.identity() == (
        build(["prose"], byte_tokenizer(), context_length=4096, items=40)["prose"].identity()
    )
    assert "Python 3." in once.version and once.population > 250
    assert all(200 <= len(item.prompt) <= 3000 for item in once.items)
    assert len({item.cluster for item in once.items}) > 10
    assert once.items[0].num_bytes == (len(once.items[0].prompt.encode()),)


def test_wikipedia_is_general_text_from_the_passages_of_boolq(tmp_path: Path) -> None:
    """Four questions on a long passage, another and one too short: two passages, each of them once,
    cut behind a sentence; the quotes of the data set are plain ones."""
    long = "A river ``runs'' through it -- all the way. " * 8
    rows = [
        *({"question": q, "passage": long, "answer": True} for q in "ab"),
        {"question": "c", "passage": "Another text. " * 20, "answer": True},
        {"question": "d", "passage": "Short.", "answer": False},
    ]
    folder = tmp_path / "boolq"
    folder.mkdir()
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    locator = DataLocator(tmp_path)
    task = build(["wikipedia"], byte_tokenizer(), context_length=1024, locator=locator)["wikipedia"]
    assert task.population == len(task.items) == 2
    sentence = 'A river "runs" through it – all the way.'
    texts = sorted((item.prompt for item in task.items), key=len)
    assert texts == ["Another text. " * 19 + "Another text.", " ".join([sentence] * 8)]
    assert wikipedia.cut(long * 2) == " ".join([sentence] * 8)  # 8 sentences are 327 characters
    assert {item.cluster for item in task.items} == {None}
    assert (task.metric, task.higher_is_better) == ("bits_per_byte", False)
    assert task.identity()["task"] == "wikipedia"


def test_a_sentence_ends_behind_its_quotes() -> None:
    begin = "x" * wikipedia.PASSAGE_CHARACTERS
    assert wikipedia.cut(f'{begin} he said. "Why?" Nobody knew.') == f"{begin} he said."
    assert wikipedia.cut(f'{begin} he said "Why?" Nobody knew.') == f'{begin} he said "Why?"'
    assert wikipedia.cut("No end to it") == "No end to it"


def test_a_misspelt_name_is_answered_with_near_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'helaswag'") as caught:
        suite(tmp_path, "helaswag")
    assert "hellaswag" in caught.value.hint


def test_names_given_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="arc_easy more than once"):
        suite(benchmark_folder(tmp_path), "arc_easy", "arc_easy")


def test_data_that_are_not_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"'race'.*EleutherAI/race.*no route to the hub") as caught:
        suite(tmp_path, "race")
    assert "retention.data_dir" in caught.value.hint
    assert datasets.load_dataset is offline  # the patch is taken back


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    benchmark_folder(tmp_path)
    file = tmp_path / "arc_easy" / "validation.jsonl"
    file.write_text(file.read_text("utf-8") + "{oops\n", "utf-8")
    with pytest.raises(DataError, match=r"validation\.jsonl:13: not valid JSON"):
        suite(tmp_path, "arc_easy")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        suite(tmp_path / "nowhere", "arc_easy")


def test_an_answer_longer_than_the_context_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Benchmark 'hellaswag', row \d+: The answer .* tokens"):
        suite(benchmark_folder(tmp_path), "hellaswag", context_length=8)


def test_hidden_labels_are_left_out_and_said(tmp_path: Path) -> None:
    rows = [row | {"label": -1 if i == 2 else 0} for i, row in enumerate(PIQA * 4)]
    write(tmp_path / "piqa" / "validation.jsonl", rows)
    task = suite(tmp_path, "piqa")["piqa"]
    assert len(task.items) == 3
    assert task.substitution == "1 items without a right answer left out"
    write(tmp_path / "piqa" / "validation.jsonl", [PIQA[0] | {"label": -1}])
    with pytest.raises(DataError, match="says which choice is right"):
        suite(tmp_path, "piqa")


PIQA = [{"goal": "boil an egg", "sol1": "use water", "sol2": "use sand", "label": 0}]
