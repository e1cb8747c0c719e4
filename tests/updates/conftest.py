"""The matrix that updates are tested on: every tiny architecture there is."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import CONFIGS, VOCAB


@pytest.fixture(params=CONFIGS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def ids() -> torch.Tensor:
    return torch.randint(3, VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))
