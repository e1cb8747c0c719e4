"""Inspect's logs, as Inspect wrote them (`make_inspect.py`), in both of its forms."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from myosotis.retention.logs.files import Archive
from myosotis.retention.logs.find import one_side
from myosotis.retention.logs.match import match
from myosotis.retention.logs.scores import measured
from myosotis.utils.errors import DataError

DATA = Path(__file__).parent / "data" / "inspect"
LONG = "x" * 200


def documents(folder: Path, task: str) -> dict[str, Any]:
    """The entries of one `.eval`, parsed."""
    (path,) = folder.glob(f"*_{task}_*.eval")
    archive = Archive(path)
    return dict(archive.documents(archive.names))


def as_json(folder: Path, task: str, **changes: Any) -> dict[str, Any]:
    """The same log in Inspect's other form: the header with the samples in it."""
    parts = documents(folder, task)
    samples = [part for name, part in parts.items() if name.startswith("samples/")]
    return {**parts["header.json"], "samples": samples, **changes}


def test_scores_texts_and_choices(tmp_path: Path) -> None:
    """Ten questions, of which the base gets number 9 wrong and the tuned model 2, 3 and 5; four
    texts in two epochs, the first of which the tuned model gets wrong in two."""
    found = measured(match(*(one_side(str(DATA / name)) for name in ("base", "tuned"))))
    numbers = found.base["numbers"]
    assert numbers.metric == "accuracy (choice)" and numbers.accuracy_like
    assert numbers.items == [str(n) for n in range(10)] and numbers.items_of == 10
    assert numbers.scores[numbers.metric].tolist() == [float(n != 9) for n in range(10)]
    tuned = found.tuned["numbers"]
    assert tuned.scores[tuned.metric].tolist() == [float(n not in (2, 3, 5)) for n in range(10)]
    assert found.tuned["spoken"].scores["accuracy (match)"].tolist() == [1, 1, 0.5, 0.5]
    flip = found.flips[0]
    assert (flip.task, flip.item, flip.prompt) == ("numbers", "2", "Which of these is 2?")
    assert flip.choices == ["2", "3", "4"]
    assert (flip.gold, flip.base_choice, flip.tuned_choice) == (0, 0, 1)
    assert [flip.item for flip in found.flips] == ["2", "3", "5"]


def test_what_a_log_is_of() -> None:
    log = one_side(str(DATA / "tuned"))
    assert (log.kind, log.model, log.tool) == ("Inspect", "mockllm/tuned", "Inspect 0.3.285")
    assert log.tasks["numbers"].setup["task version"] == "1"
    assert log.notes == ["spoken was asked in 2 epochs: an item's score is its mean over them."]
    item = log.tasks["spoken"].items["w3"]
    assert item.text is not None
    assert item.text().prompt == f"{LONG} Say 3." and item.text().answer == "no"


def test_both_forms_are_one_log(tmp_path: Path) -> None:
    for task in ("numbers", "spoken"):
        (tmp_path / f"{task}.json").write_text(json.dumps(as_json(DATA / "base", task)))
    assert one_side(str(tmp_path)).digest == one_side(str(DATA / "base")).digest


def test_plain_zip_is_read_as_well_as_zstandard(tmp_path: Path) -> None:
    """What Inspect wrote until it packed by zstandard."""
    path = tmp_path / "old.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in documents(DATA / "base", "numbers").items():
            archive.writestr(name, json.dumps(part))
    (real,) = (DATA / "base").glob("*_numbers_*.eval")
    assert one_side(str(path)).digest == one_side(str(real)).digest


def test_samples_cluster_by_a_key_of_their_metadata() -> None:
    log = one_side(str(DATA / "base"), "subject")
    named = [item.cluster for item in log.tasks["numbers"].items.values()]
    assert len(set(named)) == 2 and named[0] == named[2] != named[1]
    assert "spoken has no 'subject'" in log.notes[-1]


def changed(place: Path, model: str, **changes: Any) -> Path:
    place.mkdir()
    (place / "log.json").write_text(json.dumps(as_json(DATA / model, "numbers", **changes)))
    return place


def test_what_differs_is_named(tmp_path: Path) -> None:
    about = as_json(DATA / "tuned", "numbers")
    about["eval"]["task_version"] = 2
    about["samples"][4]["messages"][0]["content"] += " Think first."
    about["samples"][5]["target"] = "B"
    a = changed(tmp_path / "a", "base")
    b = changed(tmp_path / "b", "tuned", **about)
    with pytest.raises(DataError) as error:
        match(one_side(str(a)), one_side(str(b)))
    for said in (
        "numbers: the task version is 1 in A, 2 in B.",
        "numbers: the prompts of 1 item of 10 differ, e.g. item 4.",
        "numbers: 1 item of 10 with the same number is not the same document",
    ):
        assert said in error.value.message


def test_a_sample_that_failed_has_no_score(tmp_path: Path) -> None:
    samples = as_json(DATA / "tuned", "numbers")["samples"]
    samples[7] |= {"scores": {}, "error": {"message": "time-out"}}
    a = changed(tmp_path / "a", "base")
    b = changed(tmp_path / "b", "tuned", samples=samples, status="error")
    log = one_side(str(b))
    assert log.notes == ["log.json is of an evaluation that did not finish (error)."]
    with pytest.raises(DataError, match=r"1 of 10 items have no accuracy \(choice\)"):
        measured(match(one_side(str(a)), log))


@pytest.mark.parametrize(
    ("value", "scores"),
    [
        ("C", {"accuracy (s)": 1.0}),
        ("I", {"accuracy (s)": 0.0}),
        ("P", {"accuracy (s)": 0.5}),
        ("N", {"accuracy (s)": 0.0}),
        (True, {"accuracy (s)": 1.0}),
        ("no", {"accuracy (s)": 0.0}),
        (0.25, {"s": 0.25}),
        ({"style": 3, "facts": "C"}, {"s/style": 3.0, "accuracy (s/facts)": 1.0}),
        ("a word", {}),
        ([1, 2], {}),
        (None, {}),
        (10**400, {}),
    ],
    ids=repr,
)
def test_values_of_scorers(tmp_path: Path, value: Any, scores: dict[str, float]) -> None:
    samples = as_json(DATA / "base", "numbers")["samples"]
    for sample in samples:
        sample["scores"] = {"s": {"value": value}}
    log = one_side(str(changed(tmp_path / "a", "base", samples=samples)))
    assert log.tasks["numbers"].items["0"].scores == scores


def test_logs_of_two_models_are_not_guessed_at(tmp_path: Path) -> None:
    for model in ("base", "tuned"):
        shutil.copytree(DATA / model, tmp_path, dirs_exist_ok=True)
    with pytest.raises(DataError, match="Inspect logs of 2 models: mockllm/base, mockllm/tuned"):
        one_side(str(tmp_path))


def test_of_two_logs_of_a_task_the_newer_is_taken(tmp_path: Path) -> None:
    about = as_json(DATA / "base", "numbers")
    for name, created, right in (("x", "2026-02-02", "C"), ("y", "2026-01-01", "I")):
        about["eval"]["created"] = created
        for sample in about["samples"]:
            sample["scores"]["choice"]["value"] = right
        (tmp_path / f"{name}.json").write_text(json.dumps(about))
    log = one_side(str(tmp_path))
    assert log.tasks["numbers"].items["3"].scores == {"accuracy (choice)": 1.0}
    assert log.notes == [f"{tmp_path} holds 2 Inspect logs; of each task the newest is taken."]


def test_a_log_without_samples_says_why(tmp_path: Path) -> None:
    about = as_json(DATA / "base", "numbers")
    del about["samples"]
    (tmp_path / "log.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="holds no samples") as error:
        one_side(str(tmp_path / "log.json"))
    assert "--no-log-samples" in error.value.hint
