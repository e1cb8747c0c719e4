"""What comes out of a run says what it stands on, and is refused where it does not belong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from myosotis.commands.find_model import of_run
from myosotis.records.run_folder import RunFolder
from tests.world import call, settings

PLAIN = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
with torch.no_grad():
    torch.save(model(torch.arange(5, 25)[None]).logits, sys.argv[2])
assert "myosotis" not in sys.modules
"""


@pytest.mark.slow
def test_a_qlora_run_as_a_whole_model_as_an_adapter_and_as_a_start(
    world: Path, tmp_path: Path
) -> None:
    """Merged it is the model of the run for plain transformers; its adapter finds its base in four
    bits again; and on other weights than those it was tuned on it is no start."""
    pytest.importorskip("bitsandbytes")
    run, changes = tmp_path / "q", {"update": "qlora", "retention.settle": "false"}
    call(["train", *settings(world, run, **changes), "tracking=none"], tmp_path)
    merged, adapter = tmp_path / "merged", tmp_path / "adapter"
    call(["export", str(run), "--to", "merged", "--out", str(merged)], tmp_path)
    _, update = of_run(RunFolder(run)).load(torch.float32)
    assert update is not None
    with torch.no_grad():
        wanted = update.model(torch.arange(5, 25)[None]).logits
    command = [sys.executable, "-c", PLAIN, str(merged), str(tmp_path / "logits.pt")]
    subprocess.run(command, check=True, timeout=300, cwd=tmp_path)
    found = torch.load(tmp_path / "logits.pt")
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    card = (merged / "README.md").read_text()
    assert "library_name: transformers" in card and str(tmp_path) not in card

    assert found.shape == wanted.shape
    words = ["export", str(run), "--to", "adapter", "--out", str(adapter), "--base", "owner/name"]
    out, _ = call([*words, "--json"], tmp_path)
    (again,) = json.loads(out)["record"]["retention"]  # scored on the base in four bits
    (before,) = json.loads((run / "record.json").read_text())["retention"]
    for side in ("base", "tuned"):
        assert again[side] == pytest.approx(before[side], abs=1e-5)
    about = json.loads((adapter / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == "owner/name"
    assert 'base_model: "owner/name"' in (adapter / "README.md").read_text()
    words = settings(world, tmp_path / "s", **{"model.start": run})
    _, said = call(["train", *words, "tracking=none"], tmp_path, code=2)
    assert "was tuned on a base in four bits" in " ".join(said.split())
