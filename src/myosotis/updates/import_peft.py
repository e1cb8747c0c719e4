"""PEFT, without the seconds that bitsandbytes takes to import.

`peft.helpers` imports it for a single function, on weights that are quantised, and LoRA looks into
it whenever it is put on a model. Where nothing has imported it there is no layer of its on any
model, and neither is of use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAME = "bitsandbytes"


class _Later(ModuleType):
    """A module that is imported when the first thing of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def import_peft() -> None:
    """Import `peft`, if that was not done before."""
    if "peft" in sys.modules or NAME in sys.modules or (spec := find_spec(NAME)) is None:
        return
    stand_in = _Later(NAME)
    stand_in.__spec__ = spec
    sys.modules[NAME] = stand_in
    try:
        import peft  # noqa: F401  # pyright: ignore[reportUnusedImport]
    finally:
        if sys.modules.get(NAME) is stand_in:
            del sys.modules[NAME]


ASKED = ("is_bnb_available", "is_bnb_4bit_available")


@contextmanager
def no_look_inside() -> Iterator[None]:
    """While PEFT puts its layers on a model: it does not look for those of bitsandbytes, where
    there can be none."""
    found = {} if NAME in sys.modules else dict(sys.modules)
    asking = [
        vars(module)
        for name, module in found.items()
        if name.startswith("peft.tuners.") and name.endswith(".model")
    ]
    before = [(names, one, names[one]) for names in asking for one in ASKED if one in names]
    for names, one, _ in before:
        names[one] = lambda: False
    try:
        yield
    finally:
        for names, one, asked in before:
            names[one] = asked
