"""The check that is run where a GPU is at hand: rehearsed, and light enough for a bare machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = ("hydra", "omegaconf", "mlflow", "lm_eval", "bitsandbytes", "trl", "datasets")
BARE = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, "bench")
import gpu_check
import myosotis.models.generate, myosotis.training.callbacks, myosotis.trees.kl
print(sorted(gpu_check.PARTS))
"""


def python(*args: str, seconds: int) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_training_scoring_and_updates_need_no_configuration_tracking_or_harness() -> None:
    """torch, transformers, peft and lightning are enough for them."""
    said = python("-c", BARE, seconds=600)
    assert "correctness" in said


FAILING = """
import sys
sys.path.insert(0, "bench")
import gpu_check, pathlib

def part(bench):
    def fails():
        raise RuntimeError("no kernel for it")
    yield "first", lambda: {"mfu": 0.5}
    yield "second", fails
    yield "third", lambda: {"mfu": 0.6}

gpu_check.PARTS = {"speed": (part, 100)}
bench = gpu_check.Bench(gpu_check.SMALL, gpu_check.torch.device("cpu"), True)
gpu_check.run(bench, pathlib.Path(sys.argv[1]), 100, [])
"""


def test_a_line_that_fails_is_red_and_loses_no_other(tmp_path: Path) -> None:
    python("-c", FAILING, str(tmp_path / "check.json"), seconds=600)
    found = json.loads((tmp_path / "check.json").read_text())
    speed = found["parts"]["speed"]
    assert speed["first"] == {"mfu": 0.5} and speed["third"] == {"mfu": 0.6}
    assert found["red"] == ["speed: second: failed: RuntimeError: no kernel for it"]


@pytest.mark.slow
def test_the_rehearsal_is_green(tmp_path: Path) -> None:
    """Every part runs on tiny shapes, and every line of correctness holds."""
    out = tmp_path / "check.json"
    python("bench/gpu_check.py", "--rehearse", "--out", str(out), seconds=890)
    found = json.loads(out.read_text())
    assert found["rehearsed"] and found["red"] == []
    assert set(found["parts"]) == {
        *("versions", "correctness", "host", "one_billion", "eight_billion"),
        *("retention", "beside"),
    }
    right = [line for line in found["parts"]["correctness"].values() if isinstance(line, dict)]
    assert len(right) >= 20
    assert found["parts"]["beside"]["times_plain"] > 0
