"""Processes of ours: what every one is started with, so that none imports from the working folder.

`python -m NAME` puts the current folder first on the path; a folder from elsewhere with a `pip.py`
or a `mlflow.py` in it would run. Hence `-P` for what we start, and PYTHONSAFEPATH for what those,
Lightning's launcher, joblib and submitit start in turn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

SAFE_PATH = "PYTHONSAFEPATH"


def python(*args: str) -> list[str]:
    """A command that runs this interpreter without the working folder on its path."""
    return [sys.executable, "-P", *args]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a process that `python` starts, with `more` in it."""
    return {**os.environ, **(more or {}), SAFE_PATH: "1"}


def inherit() -> None:
    """From now on, every process that is started below this one imports nothing from its folder."""
    os.environ[SAFE_PATH] = "1"
