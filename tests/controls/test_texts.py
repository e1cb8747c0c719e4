"""Where controls read: general text, plain text, records; and what the base writes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers as hf

from myosotis.controls import About, Given
from myosotis.controls.self_replay import SelfReplay
from myosotis.controls.texts import require, texts
from myosotis.data.chat_template import ChatRenderer
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.updates import build
from myosotis.utils.errors import ConfigError, DataError
from tests.data.conftest import byte_level

LONG = "a text of some words that goes on for a while"  # 44 bytes, a token each


def given(**changes: Any) -> Given:
    renderer = ChatRenderer(byte_level(), "none")
    words = {"update": None, "scorer": None, "renderer": renderer, "context_length": 64, "seed": 0}
    words |= {
        "steps": 8,
        "supervised": None,
        "read": None,
        "general": lambda name: [f"{name}: {LONG}"],
    }
    return Given(**{**words, **changes})


def said(source: str, tokens: int = 60) -> list[str]:
    """The scored text of each tree."""
    here = given()
    return [
        here.renderer.decode([int(i) for i, w in zip(t.ids, t.weights, strict=True) if w])
        for t in texts(source, here, tokens)
    ]


def test_general_text_is_cut_into_pieces_that_are_scored_whole() -> None:
    """51 tokens: two of 20 and 11 left; behind each stands what opens a text, which is read."""
    assert "".join(said("prose", 20)) == f"prose: {LONG}"
    assert [tree.scored for tree in texts("prose", given(), 20)] == [20, 20, 11]
    assert all(tree.weights[0] == 0 for tree in texts("prose", given(), 20))
    assert [tree.scored for tree in texts("prose", given(), 21)] == [21, 21, 9]
    assert [tree.scored for tree in texts("prose", given(), 22)] == [22, 22]  # 7 are too few


def test_files_of_plain_text_and_of_records(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{LONG}\nand\tmore\n\n\nanother text\n")
    assert said(str(tmp_path / "a.txt")) == [f"{LONG} and more", "another text"]
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": LONG}) + "\n")
    assert said(str(tmp_path / "a.jsonl")) == [LONG]
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": "2 + 2", "completion": "4"}) + "\n")
    assert said(str(tmp_path / "b.jsonl"))[0].startswith("4")  # the answer, and its end


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        texts(str(tmp_path / "empty.txt"), given(), 60)
    (tmp_path / "a.jsonl").write_text('{"text": "a text"}\n{"txet": "another"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: no field 'text'"):
        texts(str(tmp_path / "a.jsonl"), given(), 60)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"latin\.txt:1: not UTF-8"):
        texts(str(tmp_path / "latin.txt"), given(), 60)
    for source in ("wiki", str(tmp_path / "gone.txt"), None, ""):
        with pytest.raises(ConfigError, match=r"control\.x"):
            require(source, "control.x")


def test_the_base_writes_once_what_is_rehearsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tuned model writes nothing of it; the same again comes from the cache; another seed
    writes another text."""
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path))
    hf.set_seed(0)
    size = len(byte_level())
    config = hf.LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip

    def world(method: dict[str, Any]) -> Given:
        hf.set_seed(0)
        update = build(method)
        update.attach(hf.LlamaForCausalLM(config).eval())
        for _, parameter in update.parameters():
            parameter.data += 0.3  # which the base does not see
        return given(update=update, scorer=Scorer(update.model, PackingMode("dense", "test")))

    control = SelfReplay(ratio=0.1, items=3, tokens=12)
    prompt = {"name": "prompt", "peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}
    first = control.written(world({"name": "lora"}))
    assert len(first) == 3 and len({*first}) == 3
    kept = list((tmp_path / "self_replay").glob("*.json"))
    assert [json.loads(path.read_text()) for path in kept] == [first]
    assert control._write(world(prompt)) == first
    monkeypatch.setattr(SelfReplay, "_write", lambda *_: pytest.fail("written twice"))
    assert control.written(world({"name": "lora"})) == first
    assert SelfReplay(ratio=0.2, items=3, tokens=12).written(world({"name": "lora"})) == first
    with pytest.raises(pytest.fail.Exception):
        SelfReplay(ratio=0.1, items=3, tokens=12, seed=1).written(world({"name": "lora"}))


def test_sampling_that_would_repeat_itself_is_refused() -> None:
    about = About(build({"name": "full"}), "full", True)
    with pytest.raises(ConfigError, match="the same text every time"):
        SelfReplay(ratio=0.1, temperature=0).refuse(about, "control.self_replay")
