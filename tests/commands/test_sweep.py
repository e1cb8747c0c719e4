"""A sweep over methods, and what comes after a run: exports that others can load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from myosotis.cli import studies
from myosotis.commands.export import factors
from myosotis.utils.errors import ConfigError
from tests.world import call, settings

METHODS = ["full", "lora", "adapter", "prefix", "prompt", "ia3", "vera"]


@pytest.mark.slow
def test_a_sweep_over_methods_ends_in_one_table(world: Path, tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    study = {
        "defaults": ["train", "_self_"],
        "hydra": {
            "mode": "MULTIRUN",
            "sweep": {"dir": str(tmp_path / "trials")},
            "sweeper": {"params": {"method": ",".join(METHODS)}},
        },
    }
    (tmp_path / "sweeps" / "mine.yaml").write_text(json.dumps(study))  # JSON is YAML
    few = {"trainer.max_steps": 2, "task.generate": 1, "task.items": 4, "task.shots": 0}
    words = [w for w in settings(world, tmp_path, **few) if not w.startswith("out=")]
    words.remove("optimizer.lr=0.01")
    out, err = call(["sweep", "mine", *words, "--json"], tmp_path)
    document = json.loads(out)
    assert [run["status"] for run in document["runs"]] == ["FINISHED"] * len(METHODS)
    records = [json.loads(Path(r["out"], "record.json").read_text()) for r in document["runs"]]
    assert [r["update"]["name"] for r in records] == METHODS
    assert len({r["update"]["trainable"] for r in records}) == len(METHODS)
    for record in records:
        assert record["update"]["off_difference"] <= 1e-4, record["update"]["name"]
        assert record["cost"]["peak_memory_gb"] > 0
        assert record["command"][:4] == ["myosotis", "sweep", "mine", "hydra.mode=RUN"]
    assert "trials" in err
    assert all(record["run_name"][:10] in err.replace("\n", "") for record in records)
    page = Path(document["scorecard"]).read_text()
    assert all(record["run_name"] in page for record in records)


def test_an_unknown_sweep_is_answered_with_the_nearest() -> None:
    assert "methods" in studies.packaged()
    with pytest.raises(ConfigError, match=r"(?i)did you mean methods"):
        studies.found("method")


def test_the_command_of_a_trial_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    own = str(studies.found("methods").parent)
    given = ["hydra.mode=RUN", "method=ia3"]
    shown = studies.command([f"-cd={own}", "-cn=methods", *given])
    assert shown == ["myosotis", "sweep", "methods", *given]
    elsewhere = [f"-cd={tmp_path}", "-cn=methods", *given]
    assert studies.command(elsewhere) == ["myosotis", "train", *elsewhere]
    assert studies.command(["method=ia3"]) == ["myosotis", "train", "method=ia3"]


_PLAIN = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
if len(sys.argv) > 2:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, sys.argv[2])
with torch.no_grad():
    print(model(input_ids=torch.arange(3, 19)[None]).logits.flatten().tolist())
assert "myosotis" not in sys.modules
"""


def _plain(*folders: Path) -> torch.Tensor:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PLAIN, *map(str, folders)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return torch.tensor(json.loads(done.stdout))


def _train(world: Path, place: Path, method: str, **changes: Any) -> None:
    few = {"trainer.max_steps": 3, "task.generate": 0, "task.shots": 0, "task.items": 4}
    words = settings(world, place / "runs" / method, **few, **changes)
    call(["train", f"method={method}", "tracking=none", *words], place)


@pytest.mark.slow
def test_exports_are_scored_and_load_in_plain_transformers(world: Path, tmp_path: Path) -> None:
    _train(world, tmp_path, "lora")
    run = str(tmp_path / "runs" / "lora")
    found = {}
    for form in ("merged", "adapter"):
        out, _ = call(["export", run, "--to", form, "--json"], tmp_path)
        found[form] = json.loads(out)
        assert found[form]["record"]["retention"]
    merged = _plain(Path(found["merged"]["folder"]))
    adapter = _plain(world / "model", Path(found["adapter"]["folder"]))
    torch.testing.assert_close(merged, adapter, rtol=0, atol=1e-4)
    _train(world, tmp_path, "ia3")
    several = ["--update", found["adapter"]["folder"], "--compare", "--prompt", "the answer of 3"]
    out, _ = call(["generate", run, *several, "--json"], tmp_path)
    (answers,) = json.loads(out)
    name = json.loads((Path(run) / "record.json").read_text())["run_name"]
    assert answers[name] == answers[found["adapter"]["folder"]]
    assert len(answers) == 4  # the prompt, the base, both adapters
    other = ["--update", str(tmp_path / "runs" / "ia3"), "--prompt", "x"]
    _, err = call(["generate", run, *other], tmp_path, code=2)
    assert "does not fit beside" in err
    base = _plain(world / "model")
    assert (merged - base).abs().max() > 1e-3
    _, err = call(["export", run, "--to", "merged"], tmp_path, code=2)
    assert "is not empty" in err
    _, err = call(["export", run, "--to", "lora", "--rank", "2"], tmp_path, code=2)
    assert "full runs" in err


@pytest.mark.slow
def test_virtual_tokens_score_the_same_from_their_folder(world: Path, tmp_path: Path) -> None:
    _train(world, tmp_path, "prompt", **{"optimizer.lr": 0.3})
    run = tmp_path / "runs" / "prompt"
    out, _ = call(["export", str(run), "--to", "adapter", "--json"], tmp_path)
    (again,) = json.loads(out)["record"]["retention"]
    (before,) = json.loads((run / "record.json").read_text())["retention"]
    assert again["tuned"] == pytest.approx(before["tuned"], abs=1e-4)
    assert again["base"] == pytest.approx(before["base"], abs=1e-4)
    assert abs(before["delta"]) > 1e-3


@pytest.mark.slow
def test_a_full_run_becomes_a_lora_of_given_rank(world: Path, tmp_path: Path) -> None:
    """With train_embeddings off and full rank, only the norms are lost."""
    _train(world, tmp_path, "full", **{"update.train_embeddings": False})
    run = str(tmp_path / "runs" / "full")
    out, err = call(["export", run, "--to", "lora", "--rank", "32", "--json"], tmp_path)
    document = json.loads(out)
    assert 0.5 < document["energy_kept"] <= 1.0
    assert document["energy_kept"] + document["energy_elsewhere"] == pytest.approx(1.0, abs=1e-4)
    assert "rank 32 keeps" in err
    assert json.loads((Path(document["folder"]) / "adapter_config.json").read_text())["r"] == 32


@pytest.mark.slow
def test_a_probe_on_labelled_data(world: Path, tmp_path: Path) -> None:
    lines = [{"text": f"{n} is", "kind": ("even", "odd")[n % 2]} for n in range(80)]
    data = tmp_path / "kinds.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    keys = {"data.fields.prompt": "text", "data.fields.completion": "kind", "data.path": data}
    _train(world, tmp_path, "probe", **keys)
    record = json.loads((tmp_path / "runs" / "probe" / "record.json").read_text())
    assert record["task"]["metric"] == "accuracy"
    assert record["task"]["base"] == 0.5
    assert record["update"]["trainable"] == 2 * 32 + 2
    assert all(row["delta"] == 0 for row in record["retention"])
    few = settings(world, tmp_path / "x", **{"task.shots": 0})
    _, err = call(["train", "method=probe", "tracking=none", *few], tmp_path, code=2)
    assert "no labelled data set" in err


def test_factors_are_the_best_approximation() -> None:
    """Of diag(3, 2, 1) at rank 2: diag(3, 2, 0) (Eckart & Young 1936)."""
    delta = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    a, b = factors(delta, 2)
    assert a.shape == (2, 3) and b.shape == (3, 2)
    torch.testing.assert_close(b @ a, torch.diag(torch.tensor([3.0, 2.0, 0.0])))
    a, b = factors(delta, 5)
    torch.testing.assert_close(b @ a, delta)
