"""Where and when a run takes place: the time, package versions, the code's commit, the hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from myosotis.records.schema import GitState

PACKAGES = (
    "myosotis", "torch", "transformers", "peft", "lightning", "lm_eval", "mlflow", "hydra-core"
)  # fmt: skip

# A checkout's own configuration can name programs that git runs. None is needed to read its state.
INERT = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def now() -> str:
    """The time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def git_state() -> GitState:
    """Commit of the folder the command runs in, if it is a git checkout; runs none of its code."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return GitState()
    filters = _git("config", "-z", "--name-only", "--get-regexp", r"^filter\.").strip("\0")
    off = {key: "false" if key.endswith(".required") else "" for key in filters.split("\0") if key}
    status = _git("status", "--porcelain", "-uno", "--ignore-submodules=dirty", settings=off)
    return GitState(commit, bool(status))


def _git(*args: str, settings: Mapping[str, str] | None = None) -> str:
    """What git says under these settings; empty when it fails or is not there."""
    environment = dict(os.environ)
    for number, (key, value) in enumerate((settings or {}).items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    if settings:
        environment["GIT_CONFIG_COUNT"] = str(len(settings))
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["git", *INERT, *args],
            env=environment,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    return ""


def host() -> dict[str, Any]:
    """What the figures were measured on; no names of people or machines."""
    import psutil
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "accelerator": accelerator or "none",
    }
