"""Whether a file of weights is what it should be, before anything is loaded from it.

Only safetensors are read: a pickle runs what its author wrote.
"""

from __future__ import annotations

from pathlib import Path

from myosotis.utils.errors import AssetError
from myosotis.utils.read_file import opened

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
POINTER = b"version https://git-lfs.github.com/spec/"


def require_safetensors(file: Path, convert: str) -> None:
    """Raise `AssetError` unless `file` is there, whole and readable.

    `convert` says how pickles that lie in its place become safetensors.
    """
    if not file.is_file():
        raise _absent(file, convert)
    require_whole(file)


def require_whole(file: Path) -> None:
    """Raise `AssetError` where a safetensors file is cut short, damaged, or a Git LFS pointer."""
    from safetensors import SafetensorError, safe_open

    try:
        with opened(file) as found:
            pointer = found.read(len(POINTER)) == POINTER
    except OSError as error:
        raise AssetError(f"{file} cannot be read: {error.strerror or error}.") from error
    if pointer:
        raise AssetError(
            f"{file} is a pointer of Git LFS, not the weights themselves.",
            "In the repository: git lfs pull",
        )
    try:
        with safe_open(file, framework="np"):  # reads the header, compares the length
            pass
    except (SafetensorError, OSError) as error:
        raise AssetError(f"{file} is damaged ({error}).", "Fetch or copy it again.") from error


def pickles_in(folder: Path) -> list[str]:
    """Names of the files in `folder` that look like pickled weights."""
    return sorted({file.name for pattern in PICKLES for file in folder.glob(pattern)})


def _absent(file: Path, convert: str) -> AssetError:
    if pickles := pickles_in(file.parent):
        return AssetError(
            f"{file.parent} holds its weights only as pickles ({', '.join(pickles[:3])}). Loading "
            "one runs whatever code it contains, so only safetensors are read.",
            f"Where you trust it, convert it: {convert}",
        )
    return AssetError(f"{file.parent} has no {file.name}.", "Fetch or copy the whole folder.")
