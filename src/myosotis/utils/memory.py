"""Memory: of this process its peak, and giving back what is free; of a device how much it has."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch


def room_gb(*, on_gpu: bool) -> float:
    """Gigabytes that the device at hand has, whatever is in use of it now; of a machine no more
    than its container may take."""
    if on_gpu:
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 1e9
    room = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # Linux; "max": no limit
        room = min(room, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return room / 1e9


def give_back() -> None:
    """Hand what was freed to the system: glibc keeps it, and every later run would carry it."""
    gc.collect()
    if sys.platform.startswith("linux"):
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
    """Count the peak anew: a process may hold many runs, one after the other."""
    give_back()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # Linux: the high-water mark becomes what is resident now
        Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float:
    """Largest memory since then: of the accelerator if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    with suppress(OSError, StopIteration, ValueError):  # Linux
        status = Path("/proc/self/status").read_text().splitlines()
        kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
        return int(kilobytes) * 1024 / 1e9
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9
