"""Going on from a tuned model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file

from myosotis.commands.find_model import of_run
from myosotis.models.init_from import InitialUpdate
from myosotis.records.run_folder import RunFolder
from myosotis.utils.errors import ConfigError
from tests.world import call, settings


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


def test_only_what_can_be_merged(tmp_path: Path) -> None:
    """A soft prompt has no weights to merge; a run that does not exist is named."""
    settings = {"name": "prefix", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}
    (tmp_path / "update.json").write_text(json.dumps({"settings": settings}))
    save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="cannot be merged"):
        InitialUpdate.named(str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.start=nothing-here"):
        InitialUpdate.named("nothing-here")


@pytest.mark.slow
def test_tuned_twice(world: Path, tmp_path: Path) -> None:
    """The second run begins where the first ended, is measured against the pretrained model or
    against that start, and needs the first run's folder no more once it has begun."""
    first, hardly = tmp_path / "runs" / "first", {"trainer.max_steps": 2, "optimizer.lr": 1e-12}
    call(["train", *settings(world, first), "tracking=none"], tmp_path)
    for against in ("pretrained", "start"):
        changes = {"model.start": first, "retention.against": against, **hardly}
        out = tmp_path / "runs" / against
        call(["train", *settings(world, out, **changes), "tracking=none"], tmp_path)
    began = record(first)
    for against in ("pretrained", "start"):
        found = record(tmp_path / "runs" / against)
        assert found["task"]["base"] == pytest.approx(began["task"]["tuned"], abs=1e-5)
        side = "base" if against == "pretrained" else "tuned"
        expected = began["retention"][0][side]
        assert found["retention"][0]["base"] == pytest.approx(expected, abs=1e-5)
        assert "continues from" in found["model"]["note"]
    _only_on_its_base(world, first, tmp_path)
    shutil.rmtree(first)
    second = tmp_path / "runs" / "start"
    call(["export", str(second), "--to", "merged", "--out", str(tmp_path / "both")], tmp_path)
    _, update = of_run(RunFolder(second)).load(torch.float32)
    assert update is not None
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "both")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        apart = plain(ids).logits - update.model(input_ids=ids).logits
    assert apart.abs().max() <= 1e-4
    _, said = call(["export", str(second), "--to", "adapter"], tmp_path, code=2)
    assert "--to merged: it holds both" in said
    changes = {"model.start": second, "update": "qlora", **hardly}
    words = settings(world, tmp_path / "x", **changes)
    _, said = call(["train", *words, "tracking=none"], tmp_path, code=2)
    assert "model.start is merged into weights" in said


def _only_on_its_base(world: Path, first: Path, place: Path) -> None:
    """A run is merged into the weights it was tuned on, or not at all; told before they load. And
    what was tuned on top of it does not pass for an update of the pretrained model."""
    other = shutil.copytree(world / "model", place / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    words = settings(world, place / "y", **{"model.start": first, "model.path": other})
    _, said = call(["train", *words, "tracking=none"], place, code=2)
    assert "was tuned on another base" in " ".join(said.split())
    update = place / "runs" / "start" / "update"
    assert json.loads((update / "update.json").read_text())["start"] == "first"
    alone = shutil.copytree(update, place / "alone" / "update")
    _, said = call(["evaluate", str(alone), "--base", str(world / "model")], place, code=2)
    assert "stands on a tuned model, first" in " ".join(said.split())
