"""Where things are computed: the one place that turns `trainer.accelerator` into a device.

Every command loads its model onto `device_for(...)`, and the model stays there: what is measured
before and after a training is measured where it trained.
"""

from __future__ import annotations

import os

import torch

CPU = torch.device("cpu")


ALL = ("auto", "-1")
"""What `trainer.devices` calls all devices there are."""


def on_gpu(accelerator: str) -> bool:
    """Whether `trainer.accelerator` means a CUDA device on this machine."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def on_mps(accelerator: str) -> bool:
    """Whether it means an Apple GPU."""
    wanted = accelerator in ("auto", "gpu", "mps") and not on_gpu(accelerator)
    return wanted and torch.backends.mps.is_available()


def num_devices(accelerator: str, devices: int | str) -> int:
    """Over how many `trainer.devices` spreads a run, a process each. All there are: on a CPU, and
    on an Apple GPU, one."""
    if str(devices) in ALL:
        return torch.cuda.device_count() if on_gpu(accelerator) else 1
    return int(devices)


def device_for(accelerator: str) -> torch.device:
    """The device of this process; of several ranks on one machine each has its own. What a run on a
    GPU left behind can be read where there is none: then it is the CPU. A training is refused there
    (config/strategy.py).

    It is made the current one first: whatever else opens CUDA would open the first device.
    """
    if on_gpu(accelerator):
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        return device
    return torch.device("mps") if on_mps(accelerator) else CPU


def float64(tensor: torch.Tensor) -> torch.Tensor:
    """In fp64, on the host where the device has none (Apple's have none)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Operations a second of dense bf16 products summed in fp32, by NVIDIA's data sheets: that of the
first name which a device's contains."""


def peak_flops(name: str, dtype: torch.dtype) -> float | None:
    """Of the device that `hardware` names; None where it is not known."""
    if dtype is not torch.bfloat16:
        return None
    return next((peak for known, peak in PEAKS.items() if known in name), None)


def hardware(device: torch.device) -> str:
    """What scores depend on by rounding: the kind of device, and of a GPU its name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
