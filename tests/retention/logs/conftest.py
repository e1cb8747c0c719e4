"""One real pair of logs for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.retention.logs import real


@pytest.fixture(scope="session")
def real_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders that `lm_eval --log_samples` wrote for two tiny models; see `real.py`."""
    return real.pair(tmp_path_factory.mktemp("lm-eval"))
