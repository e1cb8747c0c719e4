"""Fine-tune a language model, and see what it forgets."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("myosotis")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
