"""Splits: nothing learned is tested, whatever the file; and the same split every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myosotis.data.example import opening_key, pair_key
from myosotis.data.sft import Example, Message
from myosotis.data.sources import docstrings
from myosotis.data.sources import files as jsonl
from myosotis.data.splits import hold_out, take
from myosotis.utils.errors import ConfigError, DataError


def pair(prompt: str, answer: str = "b", where: str = "") -> Example:
    return Example((Message("user", prompt), Message("assistant", answer)), where)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(*pairs: tuple[str, str], name: str = "data.jsonl") -> Path:
        lines = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in pairs]
        (tmp_path / name).write_text("\n".join(lines))
        return tmp_path / name

    return write


def numbered(count: int) -> list[tuple[str, str]]:
    return [(f"question {i}", f"answer {i}") for i in range(count)]


def test_a_tenth_is_held_out_in_halves(file: Callable[..., Path]) -> None:
    data = jsonl(file(*numbered(200)))
    assert (len(data.train), len(data.validation), len(data.test)) == (180, 10, 10)
    assert data.manifest["rows"] == {"train": 180, "validation": 10, "test": 10}
    every = [example.where for examples in data.parts().values() for example in examples]
    assert sorted(every) == sorted(f"data.jsonl:{i}" for i in range(1, 201))


def test_the_held_out_part_is_capped_unless_asked_for(file: Callable[..., Path]) -> None:
    path = file(*numbered(12_000))
    assert len(jsonl(path).train) == 11_000
    assert len(jsonl(path, val_fraction=0.5).train) == 6_000


def test_the_split_is_the_same_every_time_and_another_with_another_seed(
    file: Callable[..., Path],
) -> None:
    path = file(*numbered(100))
    assert jsonl(path).manifest["hash"] == jsonl(path).manifest["hash"]
    assert jsonl(path).manifest["hash"] != jsonl(path, split_seed=1).manifest["hash"]


def test_a_longer_file_keeps_most_of_the_split(file: Callable[..., Path]) -> None:
    def held_out(count: int) -> set[str]:
        return {
            e.where for e in hold_out([pair(f"q{i}", "", f"{i}") for i in range(count)], 30, 0)[1]
        }

    short, long = held_out(300), held_out(320)
    assert len(short & long) >= 24


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=4),
    st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_equal_openings_are_never_on_both_sides(pairs: list[tuple[str, str]], seed: int) -> None:
    examples = [pair(*each) for each in pairs]
    if len({pair_key(example) for example in examples}) < 2:
        return
    stay, taken, by = hold_out(examples, max(1, len(examples) // 10), seed)
    key = opening_key if by == "opening" else pair_key
    assert stay and taken and len(stay) + len(taken) == len(examples)
    assert not {key(example) for example in stay} & {key(example) for example in taken}


def test_openings_are_compared_without_case_and_white_space() -> None:
    chat = Example((*pair("Hello  there\n").messages, *pair("more").messages), "")
    assert opening_key(chat) == opening_key(pair("hello there", "something else"))
    assert opening_key(chat) != opening_key(pair("hello here"))


def test_one_prompt_for_all_is_split_by_pairs(file: Callable[..., Path]) -> None:
    data = jsonl(file(*[("Write a line.", f"line {i}") for i in range(50)]))
    assert data.manifest["held_out_by"] == "pair"
    assert len(data.train) == 45


def test_files_too_small_to_hold_anything_out(file: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"holds 2 different records; at least 3") as caught:
        jsonl(file(("a", "b"), ("a", "b"), ("c", "d")))
    assert "data.val_path" in caught.value.hint
    data = jsonl(file(("a", "b"), ("c", "d"), ("e", "f")))
    assert [len(part) for part in data.parts().values()] == [1, 1, 1]


def test_held_out_files(file: Callable[..., Path]) -> None:
    train, val = file(*numbered(5)), file(*numbered(8), name="val.jsonl")
    data = jsonl(train, val_path=val)
    assert (len(data.train), len(data.validation), len(data.test)) == (5, 4, 4)
    data = jsonl(train, val_path=val, test_path=train)
    assert (len(data.validation), len(data.test)) == (8, 5)
    assert [f["name"] for f in data.manifest["files"]] == ["data.jsonl", "val.jsonl"]


def test_settings_that_contradict_each_other(file: Callable[..., Path]) -> None:
    path = file(*numbered(5))
    with pytest.raises(ConfigError, match=r"data.path is not set"):
        jsonl(None)
    with pytest.raises(ConfigError, match=r"both data.val_path and data.val_fraction"):
        jsonl(path, val_path=path, val_fraction=0.1)
    with pytest.raises(ConfigError, match=r"data.test_path is set, data.val_path is not"):
        jsonl(path, test_path=path)
    for fraction in (0.0, 1.0, 3):
        with pytest.raises(ConfigError, match=r"data.val_fraction must lie between 0 and 1"):
            jsonl(path, val_fraction=fraction)


def test_subsets_grow_without_changing_places() -> None:
    examples = [pair(f"q{i}", "", f"{i}") for i in range(50)]
    small, large = take(examples, 5, 0), take(examples, 20, 0)
    assert len(small) == 5 and len(large) == 20
    assert {e.where for e in small} < {e.where for e in large}
    assert [int(e.where) for e in large] == sorted(int(e.where) for e in large)
    assert take(examples, None, 0) is examples and take(examples, 99, 0) is examples


def test_docstrings_split_by_package(tmp_path: Path) -> None:
    data = docstrings(
        packages=["myosotis"], val_packages=["rich"], test_packages=["joblib"], cache=tmp_path
    )
    for part, package in (("train", "myosotis"), ("validation", "rich"), ("test", "joblib")):
        assert data.parts()[part]
        assert {e.where.split("/")[0] for e in data.parts()[part]} == {package}
    assert set(data.manifest["versions"]) == {"myosotis", "rich", "joblib"}
    example = data.test[0]
    assert example.prompt[0].content.startswith("Write a one-sentence docstring")
    assert example.completion.endswith(".") and example.completion not in example.prompt[0].content


def test_docstrings_on_both_sides_or_not_installed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="named twice in the split: rich"):
        docstrings(packages=["rich"], val_packages=["rich"], test_packages=["joblib"])
    with pytest.raises(DataError, match=r"none of nosuchpackage is installed \(test part\)"):
        docstrings(
            packages=["joblib"],
            val_packages=["rich"],
            test_packages=["nosuchpackage"],
            cache=tmp_path,
        )
