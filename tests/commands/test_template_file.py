"""A base without a chat template: the one it is trained with goes wherever the tuned model goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from myosotis.cli import main


@pytest.mark.slow
def test_a_template_is_named_and_saved_with_the_update_and_its_exports(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    chats = [
        {"messages": [{"role": r, "content": f"{i}{r}"} for r in ("system", "user", "assistant")]}
        for i in range(24)
    ]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    words = ["train", "model=local", f"model.path={tiny_model}", "data=jsonl"]
    words += ["data.path=chats.jsonl", "trainer.max_steps=1", "retention=none", "tracking=none"]
    words += ["task.generate=1", "task.max_new_tokens=2", "trainer.accelerator=cpu", "out=run"]
    assert main([*words, "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert any("data.template=plain: the tokenizer has no" in said for said in record["warnings"])
    text = Path("run/update/chat_template.jinja").read_text()
    for form, out in (("merged", "whole"), ("adapter", "part")):
        assert main(["export", "run", "--to", form, "--out", out]) == 0
        assert Path(out, "chat_template.jinja").read_text() == text
    capfd.readouterr()
    tokenizer = AutoTokenizer.from_pretrained("whole")
    asked = [{"role": "user", "content": "hi"}]
    shown = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert shown == "User: hi\n\nAssistant:"
    ends = json.loads(Path("whole/generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.eos_token_id in ends
    assert main(["generate", "run", "--prompt", "hi", "--max-new-tokens", "2"]) == 0
