"""Adapters that plain PEFT wrote, with each of its options: loaded as PEFT loads them, with a base
that is there when they are off; and folders that are not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from myosotis import updates
from myosotis.updates.base import Update
from myosotis.utils.errors import AssetError, MyosotisError, RunError
from tests.tiny import tiny

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank_pattern": {"rank_pattern": {"q_proj": 2}},
    "alpha_pattern": {"alpha_pattern": {"v_proj": 3}},
    "layers_to_transform": {"layers_to_transform": [1]},
    "bias": {"bias": "lora_only"},
    "every bias": {"bias": "all"},
    "lora_bias": {"lora_bias": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "norms saved": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": [3, 5]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "the head": {"target_modules": ["lm_head", "q_proj"]},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "parameters": {"target_modules": [], "target_parameters": ["self_attn.q_proj.weight"]},
    "pattern": {"target_modules": r".*\.0\..*q_proj"},
}
NO_STRENGTH = {"dora"}


def written(folder: Path, family: str, **options: Any) -> Path:
    """What a training with plain PEFT could have left behind: every trained tensor has moved."""
    torch.manual_seed(0)
    usual = ["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"]
    words = {"r": 4, "target_modules": usual, "task_type": "CAUSAL_LM", **options}
    model = get_peft_model(tiny(family), LoraConfig(**words))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(str(folder))
    return folder


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def loaded(folder: Path, family: str) -> Update:
    update = updates.from_folder(folder)
    update.attach(tiny(family))
    update.load(folder)
    return update


@pytest.mark.parametrize("option", OPTIONS)
def test_as_plain_peft_loads_it(option: str, ids: Tensor, tmp_path: Path) -> None:
    """To 1e-4 of the logits; off, scaled and merged are what they should be."""
    family = "gpt2" if "bias" in option else "llama"  # Llama has no biases
    folder = written(tmp_path / "adapter", family, **OPTIONS[option])
    wanted = logits(PeftModel.from_pretrained(tiny(family), str(folder)).eval(), ids)
    base = logits(tiny(family), ids)
    update = loaded(folder, family)
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-4 * float(wanted.abs().max())}
    torch.testing.assert_close(logits(update.model, ids), wanted, **close)
    assert (wanted - base).abs().max() > 0.1
    with update.disabled():
        assert torch.equal(logits(update.model, ids), base)
    assert torch.equal(logits(update.model, ids), logits(update.model, ids))
    merged = update.merged()
    torch.testing.assert_close(logits(merged, ids), wanted, **close)
    merged.save_pretrained(tmp_path / "merged")
    again = type(merged).from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again, ids), wanted, **close)
    moved = option in ("every bias", "bias", "embeddings", "the head", "pissa")
    assert update.moves_base is moved  # type: ignore[attr-defined]
    assert update.capabilities.scalable is (option not in NO_STRENGTH)
    if update.capabilities.scalable:
        with update.scaled(0.5):
            half = logits(update.model, ids)
        assert 1e-2 < (half - base).norm() < 1.2 * (wanted - base).norm()
        torch.testing.assert_close(logits(update.merged(0.5), ids), half, **close)
        torch.testing.assert_close(logits(update.model, ids), wanted, **close)
    update.fingerprint_base()


def test_what_a_newer_peft_adds_is_read_where_it_asks_for_nothing(
    ids: Tensor, tmp_path: Path
) -> None:
    folder = written(tmp_path, "llama")
    before = logits(loaded(folder, "llama").model, ids)
    config = folder / "adapter_config.json"
    plain = json.loads(config.read_text())
    for nothing in (False, None, "", [], {}):
        config.write_text(json.dumps(plain | {"of_tomorrow": nothing}))
        assert torch.equal(logits(loaded(folder, "llama").model, ids), before)
    config.write_text(json.dumps(plain | {"of_tomorrow": 3}))
    with pytest.raises(AssetError, match="of_tomorrow=3, which this version of PEFT"):
        updates.from_folder(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens: it is active from"),
        ({"task_type": "SEQ_CLS"}, "for SEQ_CLS, not for a causal"),
        ({"peft_type": "XLORA"}, "a XLORA adapter, which is not supported"),
    ],
)
def test_options_under_which_it_is_no_change_of_weights(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = written(tmp_path, "llama")
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(AssetError, match=said):
        updates.from_folder(folder)


def test_an_adapter_that_makes_another_model_of_the_base_is_refused(tmp_path: Path) -> None:
    """Layers that are there twice stay when the adapter is off."""
    folder = written(tmp_path, "llama", layer_replication=[[0, 2], [1, 2]])
    with pytest.raises(AssetError, match=r"not its base any more \(.*layer_replication"):
        loaded(folder, "llama")


def test_an_adapter_of_another_model(tmp_path: Path) -> None:
    folder = written(tmp_path, "llama")
    with pytest.raises(AssetError, match="does not fit this model"):
        loaded(folder, "gpt2")
    config = folder / "adapter_config.json"
    changed = json.loads(config.read_text()) | {"target_modules": ["q_proj"]}
    config.write_text(json.dumps(changed))
    with pytest.raises(RunError, match=r"without a place: .*v_proj"):
        loaded(folder, "llama")
    config.write_text(json.dumps(changed | {"target_modules": ["q_proj", "v_proj", "k_proj"]}))
    with pytest.raises(RunError, match=r"missing: .*k_proj"):
        loaded(folder, "llama")
    config.write_text(json.dumps(changed | {"target_modules": ["q_proj", "v_proj"], "r": 5}))
    with pytest.raises(AssetError, match="size mismatch"):
        loaded(folder, "llama")


@pytest.mark.parametrize("written_by", ["peft", "us"])
def test_folders_that_are_not_whole_are_told_in_one_line(written_by: str, tmp_path: Path) -> None:
    """Only a pickle, nothing, a pointer of Git LFS, a file cut short, a config that is no JSON."""
    folder = written(tmp_path / "adapter", "llama")
    config, file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if written_by == "us":
        update = loaded(folder, "llama")
        update.save(folder)
        (folder / "update.json").write_text('{"settings": {"name": "lora", "r": 4}}')
        config = folder / "update.json"
    whole, said = file.read_bytes(), {}
    file.write_bytes(whole[: len(whole) // 2])
    said["damaged"] = refusal(folder)
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    said["git lfs pull"] = refusal(folder)
    file.unlink()
    said["has no adapter_model.safetensors"] = refusal(folder)
    (folder / "adapter_model.bin").write_bytes(b"no matter what")
    said["only as pickles (adapter_model.bin)"] = refusal(folder)
    file.write_bytes(whole)
    updates.from_folder(folder)
    for broken in ("{", "[]"):
        config.write_text(broken)
        refusal(folder)
    assert all(words in text for words, text in said.items()), said


def refusal(folder: Path) -> str:
    with pytest.raises(MyosotisError) as refused:
        updates.from_folder(folder)
    assert len(refused.value.message.splitlines()) == 1 and refused.value.hint
    return str(refused.value)
