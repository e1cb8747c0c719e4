"""What a person calls a model: a preset, a folder, a hub id, an adapter on top of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from myosotis.commands.find_model import find_model, source_named
from myosotis.config import compose
from myosotis.config.instantiate import model_source


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
    found = find_model(str(tmp_path), base)
    assert (found.source, found.adapter) == (preset, tmp_path)
