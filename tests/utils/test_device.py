"""Numbers in fp64, which Apple's GPUs do not have."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import torch

from myosotis.utils.device import float64

SRC = Path(__file__).parents[2] / "src" / "myosotis"
ON_THE_HOST = {"utils/device.py", "trees/kl.py"}  # the latter after `.cpu()`


class Apple:
    """A tensor on `mps`."""

    device = SimpleNamespace(type="mps")

    def cpu(self) -> torch.Tensor:
        return torch.ones(2)

    def double(self) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


def test_fp64_is_on_the_host_where_the_device_has_none() -> None:
    assert float64(Apple()).dtype == torch.float64  # type: ignore[arg-type]
    assert float64(torch.ones(2, device="meta")).device.type == "meta"


def test_nobody_else_makes_fp64_of_what_lies_on_a_device() -> None:
    found = {
        str(path.relative_to(SRC))
        for path in SRC.rglob("*.py")
        if re.search(r"\.double\(\)", path.read_text())
    }
    assert found == ON_THE_HOST
