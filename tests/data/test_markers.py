"""Markers of chat templates in the text: found by what templates write, not by a mention."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule
from myosotis.data.markers import Marked, marked
from myosotis.data.sft import Example, Message
from myosotis.data.sources import files
from myosotis.utils.errors import DataError
from tests.data.conftest import byte_level

ALPACA = "### Instruction:\nq\n\n### Response:\n"
CHATML = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


def example(prompt: str, where: str = "") -> Example:
    return Example((Message("user", prompt), Message("assistant", "a")), where)


@pytest.mark.parametrize(
    ("prompt", "template"),
    [
        (ALPACA, "alpaca"),
        (CHATML, "chatml"),
        ("<s>[INST] q [/INST]", "llama2"),
        ("<|start_header_id|>user<|end_header_id|>", "llama3"),
        ("<start_of_turn>user\nq<end_of_turn>", "gemma"),
        ("<|user|>\nq<|end|>", "phi"),
        ("<｜User｜>q<｜Assistant｜>", "deepseek"),
        ("USER: q ASSISTANT:", "vicuna"),
        ("### Human: q\n### Assistant:", "guanaco"),
        ("\n\nHuman: q\n\nAssistant:", "plain"),
        ("User: q\nAssistant:", "plain"),
        ("<|start|>user<|message|>q<|end|>", "harmony"),
        ("<|START_OF_TURN_TOKEN|><|USER_TOKEN|>q", "cohere"),
        ("<|start_of_role|>user<|end_of_role|>q", "granite"),
        ("Human: resources. The Assistant: a play", None),
        ("the token <|im_end|> ends a turn, and [INST] opens one", None),
        ("A title\n### Steps\n1. Read the ### Instruction: of the author", None),
        ("the USER: field", None),
    ],
)
def test_what_counts(prompt: str, template: str | None) -> None:
    assert [one.template for one in marked([example(prompt)])] == ([template] if template else [])


def test_reasoning_is_text_as_well() -> None:
    turn = Message("assistant", "a", reasoning=CHATML)
    assert [one.template for one in marked([Example((Message("user", "q"), turn), "f:1")])] == [
        "chatml"
    ]


def test_they_are_counted_with_the_first_place() -> None:
    found = marked([example(ALPACA, "f:1"), example(CHATML, "f:2"), example(CHATML, "f:3")])
    assert found == [Marked("chatml", 2, "f:2"), Marked("alpaca", 1, "f:1")]


def module(folder: Path, kind: str, *prompts: str, allow: bool = False) -> ExampleModule:
    lines = [{"prompt": prompts[i % len(prompts)] + str(i), "completion": "a"} for i in range(12)]
    (folder / "f.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = files(folder / "f.jsonl", allow_markers=allow)
    renderer = ChatRenderer(byte_level(), kind)  # type: ignore[arg-type]
    return ExampleModule(data, renderer, batch_size=2, max_length=512)


def test_one_form_is_allowed_where_no_template_is_put_around_it(tmp_path: Path) -> None:
    assert module(tmp_path, "none", ALPACA).warnings() == []
    with pytest.raises(
        DataError, match=r"alpaca \(12, such as f.jsonl:1\); the model's own"
    ) as one:
        module(tmp_path, "chat", ALPACA).setup()
    assert "data.template=none" in one.value.hint and "data.allow_markers=true" in one.value.hint


def test_mixed_forms_are_refused_unless_told_otherwise(tmp_path: Path) -> None:
    for kind in ("chat", "none"):
        with pytest.raises(DataError, match=r"alpaca \(6, .*chatml \(6, such as f.jsonl:2\)"):
            module(tmp_path, kind, ALPACA, CHATML).setup()
        (told,) = module(tmp_path, kind, ALPACA, CHATML, allow=True).warnings()
        assert told.startswith("the text holds markers of chat templates: alpaca (6")
