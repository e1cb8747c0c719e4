"""Cached folders: complete or absent, with a manifest by which damage is noticed.

A cached folder is built aside, hashed, and moved into place in one step under a file lock, so two
processes that want it at once build it once and nobody reads half of it. Also here: hashing files
and remembering the result by size and modification time. What the folders hold belongs to
`models/wheels.py` and `models/load.py`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import AssetError
from myosotis.utils.read_file import read_json_object

MANIFEST = ".manifest.json"
_CANNOT_WRITE = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EEXIST", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")
    if hasattr(errno, name)
}
# Below this many bytes hashing is over before a progress bar would be read.
_SHOW_FROM_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Stamp:
    """What a file was when it was hashed."""

    size: int  # bytes
    mtime_ns: int
    sha256: str

    def holds(self, file: Path) -> bool:
        """Whether `file` still has that size and modification time."""
        try:
            stat = file.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


Stamps = dict[str, Stamp]  # by the file's name below its folder, with forward slashes


def cached_folder(folder: Path, key: str, build: Callable[[Path], None]) -> Path:
    """`folder`, complete and undamaged; `build(staging)` writes its files when it is not.

    `key` says what the folder must hold (a pinned hash, a version): another key rebuilds it.

    A file counts as undamaged while its size and modification time are those recorded when it was
    hashed; one whose time moved (a copied or restored cache) is hashed again. Hashing half a
    gigabyte at every start would take longer than loading it, and the faults that happen (a copy
    cut short, an edit, a deletion) show in size or time.

    Raises AssetError when the folder cannot be written; what `build` raises passes through.
    """
    if _undamaged(folder, key):
        return folder
    try:
        with _one_process(folder):
            if not _undamaged(folder, key, look_inside=True):
                _rebuild(folder, key, build)
            return folder
    except OSError as error:
        if _undamaged(folder, key, look_inside=True):  # a complete cache on a read-only disk
            return folder
        if error.errno not in _CANNOT_WRITE:
            raise
        raise AssetError(
            f"Cannot write to the cache folder {folder.parent}: {error.strerror}.",
            "Make it writable, free some space (1 GB is plenty), or set MYOSOTIS_CACHE to "
            "another folder.",
        ) from error


def hash_files(folder: Path, names: Iterable[str], known: Mapping[str, Stamp]) -> Stamps:
    """Stamps of the named files; a file that still matches its stamp in `known` is not read."""
    from myosotis.utils.console import progress

    stamps = {name: known[name] for name in names if name in known}
    stamps = {name: stamp for name, stamp in stamps.items() if stamp.holds(folder / name)}
    todo = [name for name in names if name not in stamps]
    num_bytes = sum((folder / name).stat().st_size for name in todo)
    watched = progress("checking files (MB)", num_bytes // 1_000_000)
    with watched if num_bytes > _SHOW_FROM_BYTES else contextlib.nullcontext(_ignore) as advance:
        for name in todo:
            stat = (folder / name).stat()
            sha256 = hash_file(folder / name, advance)
            stamps[name] = Stamp(stat.st_size, stat.st_mtime_ns, sha256)
    return dict(sorted(stamps.items()))


def hash_file(file: Path, advance: Callable[[int], None] | None = None) -> str:
    """sha256 of a file, as hex; `advance(megabytes)` is told how far it got."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(8_000_000):
            digest.update(block)
            if advance:
                advance(len(block) // 1_000_000)
    return digest.hexdigest()


def remembered_hashes(folder: Path, names: Iterable[str], memory: Path) -> dict[str, str]:
    """sha256 of the named files of `folder`; unchanged files are looked up, not read.

    The folder's own manifest is used where it has one, else the JSON file `memory`. A memory that
    cannot be written costs time, not correctness, so that failure is silent.
    """
    names = list(names)
    known = _read(folder / MANIFEST)[1] or _read(memory)[1]
    stamps = hash_files(folder, names, known)
    if any(known.get(name) != stamp for name, stamp in stamps.items()):
        with contextlib.suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            _write(memory, str(folder), stamps)
    return {name: stamp.sha256 for name, stamp in stamps.items()}


def _ignore(_: int) -> None:
    pass


def _undamaged(folder: Path, key: str, look_inside: bool = False) -> bool:
    recorded_key, stamps = _read(folder / MANIFEST)
    if recorded_key != key or not stamps:
        return False
    moved = [name for name, stamp in stamps.items() if not stamp.holds(folder / name)]
    if not moved or not look_inside:
        return not moved
    if any(_size(folder / name) != stamps[name].size for name in moved):
        return False
    fresh = hash_files(folder, moved, known={})
    if any(fresh[name].sha256 != stamps[name].sha256 for name in moved):
        return False
    with contextlib.suppress(OSError):  # a read-only cache is hashed each time instead
        _write(folder / MANIFEST, key, {**stamps, **fresh})
    return True


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


def _rebuild(folder: Path, key: str, build: Callable[[Path], None]) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.tmp-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    try:
        staging = aside / "new"
        staging.mkdir()
        build(staging)
        files = sorted(path for path in staging.rglob("*") if path.is_file())
        names = [path.relative_to(staging).as_posix() for path in files]
        _write(staging / MANIFEST, key, hash_files(staging, names, known={}))
        for file in files:  # safetensors are written private; a cache may be shared
            shutil.copymode(staging / MANIFEST, file)
        if folder.exists():
            folder.replace(aside / "old")  # open files of a reader stay readable
        staging.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _one_process(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=2)
    except Timeout:
        from myosotis.utils.console import console
        from myosotis.utils.escape import terminal

        console.print(f"Another process is preparing {terminal(folder)}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _read(manifest: Path) -> tuple[str, Stamps]:
    """Key and stamps of a manifest; ("", {}) when it is absent or is not one."""
    try:
        document = read_json_object(manifest)
        return document["key"], {name: Stamp(**s) for name, s in document["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def _write(manifest: Path, key: str, stamps: Stamps) -> None:
    document = {"key": key, "files": {name: asdict(stamp) for name, stamp in stamps.items()}}
    write_text(manifest, json.dumps(document, indent=1))
