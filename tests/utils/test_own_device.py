"""Processes that share a machine take a device each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TAKE = """
import sys
from pathlib import Path
from myosotis.utils import own_device
from myosotis.utils.errors import ConfigError
try:
    first = own_device.take(Path(sys.argv[1]))
except ConfigError as error:
    first = str(error).replace(chr(10), " ")
print(first, own_device._held and own_device.take(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def start(folder: Path, devices: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(folder)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": devices},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=60)


def test_each_process_has_a_device_of_its_own_until_it_ends(tmp_path: Path) -> None:
    """Asked again it is the same; a third process is told how many there are; a kill gives back."""
    first = start(tmp_path, "GPU-a,GPU-b")
    assert said(first) == "GPU-a GPU-a"
    second = start(tmp_path, "GPU-a,GPU-b")
    assert said(second) == "GPU-b GPU-b"
    third = start(tmp_path, "GPU-a,GPU-b")
    assert "n_jobs=2" in said(third)
    end(first)
    fourth = start(tmp_path, "GPU-a,GPU-b")
    assert said(fourth) == "GPU-a GPU-a"
    none = start(tmp_path, "")
    assert said(none).startswith("None")
    for process in (second, third, fourth, none):
        end(process)
