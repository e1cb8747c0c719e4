"""Rendered items from the cache: what they were, and never those of another rendering."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from myosotis.retention.benchmarks import build as building
from myosotis.retention.benchmarks import kept_items
from myosotis.retention.benchmarks.build import build
from myosotis.retention.benchmarks.requests import Answer, Prompt, Request, Window
from myosotis.retention.benchmarks.task import Item, Suite
from myosotis.retention.harness.data import DataLocator
from tests.retention.small import arc_rows, benchmark_folder, byte_tokenizer, write

NAMES = ("hellaswag", "arc_easy", "lambada_openai")


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of the test's own, and no task too small for it."""
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_items, "FEW", 1)
    yield


def suite(folder: Path, *names: str, **settings: Any) -> Suite:
    chat = bool(settings.get("chat_template"))
    arguments = {"context_length": 512, "items": None, "locator": DataLocator(folder)} | settings
    return build(names, byte_tokenizer(chat), **arguments)


def folders(tmp_path: Path) -> int:
    return sum(one.is_dir() for one in (tmp_path / "cache" / "items").iterdir())


def refuse(*_: object, **__: object) -> Item:
    raise AssertionError("an item was rendered again")


@pytest.mark.parametrize("settings", [{}, {"num_fewshot": 2}, {"chat_template": True}])
def test_the_second_suite_is_the_first_without_rendering(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = benchmark_folder(tmp_path / "data")
    with monkeypatch.context() as none_kept:
        none_kept.setattr(kept_items, "FEW", 10**9)
        rendered = suite(data, *NAMES, **settings)
    written = suite(data, *NAMES, **settings)
    monkeypatch.setattr(building._Renderer, "item", refuse)
    again = suite(data, *NAMES, **settings)
    assert rendered.identity() == written.identity() == again.identity()
    assert rendered.items == written.items == again.items
    said = [Answer(-1.0, False), Answer(-9.0, False), Answer(-8.0, True), Answer(-7.0, False)]
    for name in ("hellaswag", "arc_easy"):
        for one, other in zip(rendered[name].items, again[name].items, strict=True):
            answers = said[: len(one.requests)]
            assert one.judge(answers) == other.judge(answers)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"items": 5}, {"context_length": 256}, {"num_fewshot": 1}]
)
def test_another_setting_is_rendered_anew(change: dict[str, Any], tmp_path: Path) -> None:
    data = benchmark_folder(tmp_path / "data")
    suite(data, "arc_easy")
    changed = suite(data, "arc_easy", **change)
    assert folders(tmp_path) == 2
    assert suite(data, "arc_easy", **change).items == changed.items


def test_another_row_is_rendered_anew_also_where_it_is_an_example(tmp_path: Path) -> None:
    """The third row has another choice; then, of the rows that are shown as examples, one has."""
    data, rows = tmp_path / "data", arc_rows(6)
    write(data / "arc_easy" / "test.jsonl", rows)
    write(data / "arc_easy" / "train.jsonl", arc_rows(3))
    before = suite(data, "arc_easy", num_fewshot=2)
    rows[2]["choices"]["text"][1] = "seven"
    write(data / "arc_easy" / "test.jsonl", rows)
    after = suite(data, "arc_easy", num_fewshot=2)
    changed = next(i for i in after.items if i.id.startswith("2-"))
    assert changed.requests[1].text[1] == " seven"
    assert len({i.id for i in before.items} - {i.id for i in after.items}) == 1
    shown = arc_rows(3)
    shown[0]["question"] = "Which river is long?"
    write(data / "arc_easy" / "train.jsonl", shown)
    shot = suite(data, "arc_easy", num_fewshot=2)
    assert any("Which river is long?" in item.prompt for item in shot.items)
    assert folders(tmp_path) == 3


def test_a_definition_with_an_object_of_this_process_has_no_key() -> None:
    """Its next process would never find what this one kept."""
    assert kept_items._definition({"task": "a", "process_docs": object()}) == '{"task": "a"}'
    assert "doc_to_text" in kept_items._definition({"doc_to_text": object()})


def test_every_kind_of_request_comes_back(tmp_path: Path) -> None:
    """Windows that share a beginning, one that shares all, a document of two windows, a prompt."""
    requests = (
        Request("loglikelihood", ("a", " b"), (Window((1, 2, 3), 2),)),
        Request("loglikelihood", ("a", " c"), (Window((1, 2, 4, 5), 2),)),
        Request("loglikelihood", ("a", " c"), (Window((1, 2, 4), 2),)),
        Request("loglikelihood_rolling", ("a b",), (Window((0, 1), 1), Window((9,), 0))),
        Request("generate_until", ("write",), prompt=Prompt((7, 8), ("\n",), 12)),
    )
    judge = len
    item = Item(
        "t", "0-x", "t", None, "report", "a", ("b", "c"), (1,), (1, 1), (2, 2), requests,
        judge, "a c", 3,
    )  # fmt: skip
    for _ in range(2):
        (read,) = kept_items.kept("a" * 64, lambda: [item], [judge])
        assert read == item and read.judge is judge
