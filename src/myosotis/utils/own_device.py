"""One GPU for each of several processes on a machine that know nothing of each other.

A process takes the first device that no other holds, by the lock of a file, and sees no other from
then on. The lock ends with the process, however it ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from myosotis.utils.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_held: list[FileLock] = []


def take(folder: Path) -> str | None:
    """The device that is this process's alone, by its number or id; None where there is none at all
    or CUDA has begun. The same again when asked again. `folder` holds the locks of this machine.

    Raises `ConfigError` where there are more processes than devices.
    """
    torch = sys.modules.get("torch")
    if _held or (torch is not None and torch.cuda.is_initialized()):
        return os.environ.get(VISIBLE)
    devices = _visible()
    if not devices:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for device in devices:
        lock = FileLock(folder / f"{device.replace('/', '-')}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _held.append(lock)
        os.environ[VISIBLE] = device
        return device
    raise ConfigError(
        f"All {len(devices)} devices of this machine have a trial already.",
        f"As many trials at a time as devices: hydra.launcher.n_jobs={len(devices)}.",
    )


def _visible() -> list[str]:
    """What this process may see, without beginning CUDA."""
    if (given := os.environ.get(VISIBLE)) is not None:
        return [device.strip() for device in given.split(",") if device.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
