"""What a person calls a model: a preset, a folder, a hub id, an adapter on top of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from myosotis.commands.find_model import find_model, source_named
from myosotis.config import compose
from myosotis.config.instantiate import model_source
from myosotis.utils.errors import AssetError, ConfigError


@pytest.mark.parametrize("name", ["smollm2-135m"])
def test_a_preset_is_what_a_run_of_it_loads(name: str) -> None:
    assert source_named(name) == model_source(compose([f"model={name}"]))


def test_a_folder_and_a_hub_id(tmp_path: Path) -> None:
    here = source_named(str(tmp_path))
    assert (here.kind, here.path) == ("local", str(tmp_path))
    away = source_named("owner/name")
    assert (away.kind, away.id) == ("hub", "owner/name")


@pytest.mark.parametrize("base", [None, "smollm2-135m"])
def test_an_adapter_stands_on_its_base(base: str | None, tmp_path: Path) -> None:
    preset = source_named("smollm2-135m")
    about = {"peft_type": "LORA", "base_model_name_or_path": preset.id}
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    save_file({}, tmp_path / "adapter_model.safetensors")
    found = find_model(str(tmp_path), base)
    assert (found.source, found.adapter) == (preset, tmp_path)


def test_an_adapter_whose_base_is_elsewhere_asks_for_it(tmp_path: Path) -> None:
    """A path of another machine, or none; and an update that stands on a tuned model."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="does not name its base") as refused:
        find_model(str(tmp_path))
    assert "--base MODEL" in refused.value.hint
    about = {"peft_type": "LORA", "base_model_name_or_path": "/home/someone/llama"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    with pytest.raises(AssetError, match="a path that is not here: /home/someone/llama") as refused:
        find_model(str(tmp_path))
    assert "--base MODEL" in refused.value.hint
    assert find_model(str(tmp_path), "owner/name").source.id == "owner/name"
    said = {"settings": {"name": "lora", "quantization": "nf4"}, "base_model": "owner/name"}
    (tmp_path / "update.json").write_text(json.dumps(said))
    found = find_model(str(tmp_path))
    assert (found.source.id, found.quantization, found.start) == ("owner/name", "nf4", None)
    (tmp_path / "update.json").write_text(json.dumps(said | {"start": "first"}))
    with pytest.raises(AssetError, match="stands on a tuned model, first"):
        find_model(str(tmp_path))
