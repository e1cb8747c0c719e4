"""The small files beside the repository that once failed; their README says what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.convert import viewed
from myosotis.data.datamodule import ExampleModule
from myosotis.data.sources import files
from myosotis.utils.errors import DataError
from tests.data.conftest import byte_level
from tests.data.test_chat_template import FORGETFUL, MINDFUL

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
SYSTEM = "<|im_start|>system\nAnswer as a ship's captain.<|im_end|>\n"


def module(name: str, reads: str = "answers", template: str | None = None) -> ExampleModule:
    data = files(CASES / name, reads=reads, name=name)
    if reads == "grades":
        data = viewed(data, "grades", "kto")
    renderer = ChatRenderer(byte_level(template) if template else byte_level())
    made = ExampleModule(data, renderer, batch_size=4, max_length=2000)
    made.setup()
    return made


def texts(made: ExampleModule) -> list[tuple[str, str]]:
    """The whole first example, path by path, and what of it is scored."""
    return [
        (
            made.template.decode(path.ids, control=True),
            made.template.decode(
                [i for i, w in zip(path.ids, path.weights, strict=True) if w], control=True
            ),
        )
        for path in made.train_trees[0].paths()
    ]


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("system_sharegpt.jsonl", "answers"),
        ("system_messages.jsonl", "answers"),
        ("system_alpaca.jsonl", "answers"),
        ("system_pairs.jsonl", "pairs"),
    ],
)
def test_system_is_the_first_turn(name: str, reads: str) -> None:
    made = module(name, reads)
    shown = texts(made)
    assert len(shown) == (2 if reads == "pairs" else 1) and made.warnings() == []
    for whole, learned in shown:
        assert whole.startswith(SYSTEM) and "captain" not in learned


def test_history_and_flags_are_read_only() -> None:
    whole, learned = texts(module("history_alpaca.jsonl"))[0]
    assert "Hello, what shall we add?<|im_end|>" in whole and "Hello" not in learned
    whole, learned = texts(module("train_false.jsonl"))[0]
    assert "Wrong on purpose." in whole and "Wrong" not in learned and "It is" in learned


def test_reasoning() -> None:
    with pytest.raises(DataError, match=r"reasoning_content.jsonl:\d+: .* leaves out the reason"):
        module("reasoning_content.jsonl")
    assert "make" in texts(module("reasoning_content.jsonl", template=MINDFUL))[0][1]
    with pytest.raises(DataError, match=r"think_in_text.jsonl:\d+: .* leaves out the reasoning"):
        module("think_in_text.jsonl", template=FORGETFUL)
    assert "make" in texts(module("think_in_text.jsonl"))[0][1]


def test_tools() -> None:
    with pytest.raises(DataError, match=r"tool_calls.jsonl:\d+: .* leaves out the tool calls"):
        module("tool_calls.jsonl")
    whole, learned = texts(module("tool_calls.jsonl", template=MINDFUL))[0]
    assert "Adds two numbers." in whole and "Adds" not in learned
    assert learned.startswith("\n<tool_call>add {") and "<|im_start|>tool\n" in whole


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("pairs_whole_chats.jsonl", "pairs"),
        ("null_keys.parquet", "answers"),
        ("null_roles.parquet", "answers"),
        ("null_kto_tag.parquet", "grades"),
    ],
)
def test_files_that_are_read_without_a_word(name: str, reads: str) -> None:
    assert module(name, reads).warnings() == []


def test_graded_answers_and_markers() -> None:
    (few,) = module("graded_few_desirable.jsonl", "grades").warnings()
    _, none = module("graded_all_true.jsonl", "grades").warnings()
    assert "too few to tell the two apart" in few and "nothing to be told apart" in none
    with pytest.raises(DataError, match="the validation part is too small: it holds 1"):
        module("graded_small.jsonl", "grades")
    with pytest.raises(DataError, match=r"markers of chat templates: alpaca \(12, .*chatml \(12"):
        module("mixed_templates.jsonl")
