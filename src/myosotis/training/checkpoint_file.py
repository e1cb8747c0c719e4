"""A checkpoint as a file: whether it can be gone on from, before anything is loaded for that."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from myosotis.utils.errors import DataError
from myosotis.utils.read_file import require_regular

PARTS: dict[str, type] = {"state_dict": dict, "optimizer_states": list, "loops": dict}
"""What Lightning goes on from."""


def require_checkpoint(path: Path) -> None:
    """Raise `DataError` unless `path` is a whole checkpoint of a training.

    Its tensors are not read, and nothing in it is run (`weights_only`).
    """
    try:
        require_regular(path)
        with zipfile.ZipFile(path) as archive:  # torch would take older formats, too
            archive.infolist()
        found: Any = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except (OSError, zipfile.BadZipFile, RuntimeError, pickle.UnpicklingError) as error:
        raise _damaged(path, str(error)) from None
    except Exception as error:  # noqa: BLE001 - whatever an unpickler makes of bytes
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    if not isinstance(found, dict) or type(found.get("global_step")) is not int:
        raise _damaged(path, "it is of something else")
    for name, kind in PARTS.items():
        if not isinstance(found.get(name), kind):
            raise _damaged(path, f"it has no {name}")


def _damaged(path: Path, why: str) -> DataError:
    said = " ".join(why.split())[:150]
    return DataError(
        f"The checkpoint {path} cannot be used: {said}.",
        "There is no other one to go on from: start the run again, with another out=FOLDER.",
    )
